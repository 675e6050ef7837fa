"""Pictures that Pillow reads with a package of their own, and files that only stand for one."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from ric.lfs_pointer import LFS_POINTER, NO_CONTENT

if TYPE_CHECKING:
    from typing import BinaryIO


class PlugIn(NamedTuple):
    """A format and its package.

    Attributes:
        name: What people call it.
        format: What Pillow calls it.
        module: What is imported.
        package: What is installed.
        register: What is called then; "" where the import does it.
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
    """List what Pillow calls a picture's format where a plug-in for it is installed."""
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
    """Say in words what a file is that could not be read as a picture."""
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
