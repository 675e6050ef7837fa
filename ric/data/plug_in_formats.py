"""Formats that Pillow reads only with a plug-in, and why a file is not read as a picture."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from ric.lfs_pointer import LFS_POINTER, NO_CONTENT

if TYPE_CHECKING:
    from typing import BinaryIO


class PlugIn(NamedTuple):
    """A format and its package.

    Attributes:
        name: Its common name.
        format: Pillow's name for it.
        module: The module to import.
        package: The package to install.
        register: The module's function that registers it; "" where the import does.
    """

    name: str
    format: str
    module: str
    package: str
    register: str = ""


HEIC = PlugIn("HEIC", "HEIF", "pillow_heif", "pillow-heif", "register_heif_opener")
JXL = PlugIn("JPEG XL", "JXL", "pillow_jxl", "pillow-jxl-plugin")

# ISO 23008-12: the brands of a file's first box
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# ISO 18181-2: a bare codestream, or the first box of a container
_JXL_STARTS = (b"\xff\x0a", b"\x00\x00\x00\x0cJXL \r\n\x87\n")


def formats_of(stream: BinaryIO) -> list[str]:
    """List Pillow's name of a file's plug-in format; empty without one, or if not installed."""
    plug_in = _plug_in_of(_head(stream))
    if plug_in is None:
        return []
    try:
        module = import_module(plug_in.module)
    except ImportError:
        return []
    if plug_in.register:
        getattr(module, plug_in.register)()
    return [plug_in.format]


def why_unread(stream: BinaryIO) -> str:
    """Say why a file could not be read as a picture, as the end of a sentence."""
    head = _head(stream)
    if head == LFS_POINTER:
        return NO_CONTENT
    plug_in = _plug_in_of(head)
    if plug_in is None:
        return "is not a picture that can be read"
    return f"is {plug_in.name}, which needs a package: pip install {plug_in.package}"


def _plug_in_of(head: bytes) -> PlugIn | None:
    # AVIF has such a box too, and Pillow reads it without a plug-in
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS:
        return HEIC
    return JXL if head.startswith(_JXL_STARTS) else None


def _head(stream: BinaryIO) -> bytes:
    stream.seek(0)
    head = stream.read(len(LFS_POINTER))
    stream.seek(0)
    return head
