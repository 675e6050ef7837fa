"""The members of a tar shard as WebDataset groups them, read in one pass and never unpacked.

A member's key is its name up to the first dot of its base name, and members of one key stand
together: `0001.source.png`, `0001.target.png` and `0001.json` are one group. `tarfile` takes a
damaged header for the end of a file; here it is an error, so that no sample is lost without a word.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ric.data.open_file import MOST_BYTES, is_url, open_bytes
from ric.data.text_tables import LONGEST_LINE
from ric.errors import RicError, first_line
from ric.lfs_pointer import NO_CONTENT, is_lfs_pointer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import BinaryIO, Literal

_BLOCK = 1 << 20
_LONGEST_HEADER = 1 << 20  # bytes of a name, or of pax's records, which are read into memory
_EXTENDED = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip
_MEMBER = re.compile(r"(?:\./)*(?P<key>(?:.*/)?[^./][^./]*)\.(?P<ending>[^/]+)", re.DOTALL)


@dataclass
class Group:
    """The members of one key.

    Attributes:
        key: Such as `train/0001`.
        parts: Ending, such as `source.png`, to content; b"" where it was not asked for.
        fault: What is wrong with the first bad member, in a sentence; None: nothing.
    """

    key: str
    parts: dict[str, bytes] = field(default_factory=dict)
    fault: str | None = None


def read_groups(shard: str | Path, is_wanted: Callable[[str], bool]) -> Iterator[Group]:
    """Yield the groups of a shard in order, one at a time in memory.

    Members without an ending, folders and hidden files belong to no group. Links and devices are
    never followed: such a member, one that leaves the shard by its name, one of over 512 MB (a
    text: 64 MB) and one that is there twice are the fault of their group.

    Args:
        shard: A tar without compression: a path or an fsspec URL.
        is_wanted: Tells by its ending whether a member's content is read.

    Raises:
        RicError: The shard cannot be read, or is damaged or cut off.
    """
    group: Group | None = None
    with _told_as_broken(shard), _opened(shard) as tar:
        for member in _members(tar):
            found = _MEMBER.fullmatch(member.name)
            if found is None or member.isdir():
                continue
            key, ending = found["key"], found["ending"].lower()
            if group is None or group.key != key:
                if group is not None:
                    yield group
                group = Group(key)
            fault = _fault_of(member, ending, group)
            content = b""
            if fault is None and is_wanted(ending):
                stream = tar.extractfile(member)
                content = stream.read() if stream else b""
            group.parts[ending] = content
            group.fault = group.fault or fault
        if group is not None:
            yield group


class _Header(tarfile.TarInfo):
    """A header that is an error where it is damaged, or asks for much memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        if len(buf) == tarfile.BLOCKSIZE and not any(buf):
            return super().frombuf(buf, encoding, errors)  # raises what marks the end
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(_CUT.get(str(error), str(error))) from None
        if header.size < 0 or (header.type in _EXTENDED and header.size > _LONGEST_HEADER):
            raise tarfile.ReadError(f"a header of {header.size} bytes")
        return header


# tarfile's words for an end without the mark of one
_CUT = {"empty header": "it is cut off", "truncated header": "it is cut off"}


@contextmanager
def _opened(shard: str | Path) -> Iterator[tarfile.TarFile]:
    # at an address from its beginning to its end, without going back or asking twice
    mode: Literal["r|", "r:"] = "r|" if is_url(shard) else "r:"
    with (
        open_bytes(shard) as stream,
        tarfile.open(fileobj=_whole_reads(stream), mode=mode, tarinfo=_Header) as tar,
    ):
        yield tar


def _whole_reads(stream: BinaryIO) -> BinaryIO:
    """Return a stream that gives as many bytes as are asked for, as tarfile expects it."""
    return io.BufferedReader(stream, _BLOCK)  # type: ignore[type-var]


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined]  # all would stay in memory
        if tar.offset <= member.offset:
            raise tarfile.ReadError(f"a member of {member.size} bytes")
        yield member


def _fault_of(member: tarfile.TarInfo, ending: str, group: Group) -> str | None:
    name = member.name
    if name.startswith("/") or os.pardir in name.split("/"):
        return f"Its name {name[:200]!r} leaves the shard."
    if member.issym() or member.islnk():
        return f"Its {ending} is a link, and links are not followed."
    if not member.isreg() or member.issparse():
        return f"Its {ending} is not a plain file."
    most = LONGEST_LINE if ending.endswith(("json", "txt")) else MOST_BYTES
    if member.size > most:
        return f"Its {ending} has {member.size >> 20} MB, over the limit of {most >> 20}."
    if ending in group.parts:
        return f"Its {ending} is there twice."
    return None


@contextmanager
def _told_as_broken(shard: str | Path) -> Iterator[None]:
    """Turn tarfile's errors into a one-line RicError."""
    if not is_url(shard) and is_lfs_pointer(shard):
        raise RicError(f"'{shard}' {NO_CONTENT}.")
    try:
        yield
    except RicError:
        raise
    except Exception as error:  # a crafted header can raise nearly anything
        raise RicError(
            f"'{shard}' cannot be read as a tar: {first_line(error)}.",
            "Get it again; a tar that is compressed has to be unpacked to a plain one.",
        ) from None
