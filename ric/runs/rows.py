"""Rows that many processes may write at once: JSON lines, a file per writer, merged by id.

A process appends to `<kind>-<writer>.jsonl`, where `writer` names its host, place and pid, so no
two processes share a file. Readers merge all of them; at its end a run merges them into
`<kind>.jsonl`. A line torn by a killed process is dropped, and its sample is repeated.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import socket
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from PIL.Image import Image

Row = dict[str, Any]
# errors of file systems without hard links (exFAT, some of FUSE)
NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


def writer_name() -> str:
    """Name this process uniquely among all that may write to one run: host, place and pid."""
    return writer_of(socket.gethostname(), os.getpid(), writer_place())


def writer_of(host: str, pid: int, place: str = "") -> str:
    """Name the process `pid` of `host`, for use in file names: `node_7_1f2e3d4c.4711`."""
    words = f"{host}_{place}" if place else host
    return f"{''.join(c if c.isalnum() else '_' for c in words)}.{pid}"


@cache
def writer_place() -> str:
    """Name the scope of this process's pid, one boot and pid namespace, in 8 hex digits.

    Two containers, or two machines, may share a host name and pids. Empty where the system has
    neither (it is not Linux).
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
    return hashlib.sha256(f"{boot} {namespace}".encode()).hexdigest()[:8]


def append_row(path: Path, row: Row) -> None:
    """Append one row to a file that only this process writes to."""
    line = json.dumps(row, ensure_ascii=False) + "\n"
    with path.open("ab+") as stream:
        # after a full disk or a kill the last line may be torn: ours must not be appended to it
        if stream.tell() and (stream.seek(-1, os.SEEK_END), stream.read(1))[1] != b"\n":
            line = "\n" + line
        stream.write(_encoded(line))


def read_lines(path: Path) -> Iterator[Row]:
    """Yield a file's rows; a line torn by a crash is skipped."""
    with path.open(encoding="utf-8", errors="replace") as stream:
        for line in stream:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict):
                yield row


def row_files(folder: Path, kind: str) -> list[Path]:
    """List the files that hold rows of `kind`: the merged one first, then each writer's."""
    merged = folder / f"{kind}.jsonl"
    return [path for path in [merged, *sorted(folder.glob(f"{kind}-*.jsonl"))] if path.is_file()]


def key_of(row: Row) -> str | None:
    """Name what a row is about: its sample, or one text of several about it (its `what`).

    None if it has no id.
    """
    name, what = row.get("id"), row.get("what")
    if not isinstance(name, str):
        return None
    return f"{name} ({what})" if isinstance(what, str) else name


def read_rows(folder: Path, kind: str) -> Iterator[Row]:
    """Yield rows of `kind` from all writers, one of each key (the first one wins).

    A row without an id is skipped, as a torn line is.
    """
    seen: set[str] = set()
    merged_meanwhile = True
    while merged_meanwhile:
        merged_meanwhile = False
        for path in row_files(folder, kind):
            try:
                for row in read_lines(path):
                    key = key_of(row)
                    if key is not None and key not in seen:
                        seen.add(key)
                        yield row
            except FileNotFoundError:
                # its rows are in the merged file now: read the files once more
                merged_meanwhile = True


def merge_rows(
    folder: Path, kind: str, files: list[Path] | None = None, *, without: Container[str] = ()
) -> int:
    """Merge writers' rows into `<kind>.jsonl` in one rename; return how many there are.

    Where there is none, there is no file.

    Args:
        folder: The run.
        kind: Which rows.
        files: Files that no process writes to any more, removed afterwards; None: all.
        without: Ids whose rows are dropped.
    """
    files = row_files(folder, kind) if files is None else files
    if not files:
        return 0
    aside = folder / f".{kind}.jsonl.{writer_name()}"
    count = 0
    try:
        with aside.open("w", encoding="utf-8", errors="backslashreplace") as stream:
            for row in read_rows(folder, kind):
                if row["id"] not in without:
                    stream.write(json.dumps(row, ensure_ascii=False) + "\n")
                    count += 1
            stream.flush()
            os.fsync(stream.fileno())
        if count:
            aside.replace(folder / f"{kind}.jsonl")
        else:
            (folder / f"{kind}.jsonl").unlink(missing_ok=True)
    finally:
        aside.unlink(missing_ok=True)
    for path in files:
        if path.name != f"{kind}.jsonl":
            path.unlink(missing_ok=True)
    return count


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a small file so that a reader sees either the old or the new one, never a part."""
    with _written_aside(path, content) as aside:
        aside.replace(path)


def save_png(picture: Image, path: Path) -> None:
    """Write a PNG that appears whole or not at all."""
    stream = io.BytesIO()
    picture.save(stream, format="PNG")
    save_picture(stream.getvalue(), path)


def save_picture(content: bytes, path: Path) -> None:
    """Write an encoded picture that appears whole or not at all; its folder is created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # not named by the id, which may already be as long as a file name can be
    aside = path.with_name(f".picture.{writer_name()}")
    try:
        aside.write_bytes(content)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def create_atomically(path: Path, text: str) -> bool:
    """Write a small file unless it exists; of several writers exactly one gets True."""
    with _written_aside(path, text) as aside:
        try:
            os.link(aside, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            return _create_alone(path, text)
    return True


def _create_alone(path: Path, text: str) -> bool:
    """Write a small file unless it exists; a kill meanwhile leaves a part of the file."""
    try:
        stream = path.open("xb")
    except FileExistsError:
        return False
    try:
        with stream:
            stream.write(_encoded(text))
    except OSError:
        path.unlink()
        raise
    return True


def _encoded(content: str | bytes) -> bytes:
    """Encode a text; surrogates, from names that are not UTF-8, become backslash escapes."""
    if isinstance(content, bytes):
        return content
    return content.encode(errors="backslashreplace")


@contextmanager
def _written_aside(path: Path, content: str | bytes) -> Iterator[Path]:
    """Yield a temporary file beside `path` with the whole content, named `.<name>.<writer>`."""
    aside = path.with_name(f".{path.name}.{writer_name()}")
    try:
        with aside.open("wb") as stream:
            stream.write(_encoded(content))
            stream.flush()
            os.fsync(stream.fileno())
        yield aside
    finally:
        aside.unlink(missing_ok=True)
