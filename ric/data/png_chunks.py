"""A PNG's metadata, read so that no amount of it makes the picture unreadable.

Pillow refuses a PNG whose texts or colour profile unpack to more than a megabyte, and editors store
whole graphs and histories in them. So none of them reaches Pillow: a profile, and the two texts
that may hold an orientation, are unpacked here. Pillow also reports a transparent value as stored
in the file, even where the decoded pixels have another range; it is rescaled here.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LARGEST = 64 << 20  # bytes that a profile or text may unpack to; a larger one is ignored

_TEXTS = (b"iCCP", b"tEXt", b"zTXt", b"iTXt")
_ORIENTED = {b"XML:com.adobe.xmp": "xmp", b"Raw profile type exif": "Raw profile type exif"}
_GREY, _RGB = 0, 2  # the colour types that may have one transparent value


def readable_png(stream: BinaryIO) -> tuple[BinaryIO, dict[str, Any]]:
    """Split off the metadata that Pillow may refuse.

    Args:
        stream: A PNG; a broken one is passed on as it is.

    Returns:
        A stream for Pillow, and the entries of the opened picture's `info`: `icc_profile`,
        `xmp`, `Raw profile type exif`, and `transparency` in the range of the decoded pixels.
    """
    info: dict[str, Any] = {}
    left_out: list[tuple[int, int]] = []
    depth, colour = 0, -1
    for kind, begin, length in _chunks(stream):
        if kind == b"IHDR" and length >= 10:
            depth, colour = struct.unpack("8xBB", stream.read(10).ljust(10))
        elif kind == b"tRNS":
            info |= _transparent_value(stream.read(min(length, 6)), depth, colour)
        elif kind in _TEXTS:
            left_out.append((begin, begin + length + 12))
            name, content, is_packed = _text(kind, stream.read(length))
            key = "icc_profile" if kind == b"iCCP" else _ORIENTED.get(name)
            if key and key not in info and (text := _unpacked(content) if is_packed else content):
                info[key] = text.decode("latin-1") if key.startswith("Raw") else text
    stream.seek(0)
    return (_without(stream, left_out) if left_out else stream), info


def _chunks(stream: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Yield (kind, offset of the chunk, length of its data), the stream placed at the data."""
    begin = len(SIGNATURE)
    while True:
        stream.seek(begin)
        head = stream.read(8)
        if len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head)
        yield kind, begin, length
        begin += length + 12  # its length, kind and checksum take four bytes each


def _text(kind: bytes, data: bytes) -> tuple[bytes, bytes, bool]:
    """Return a text's or profile's name and content, and whether the content is compressed."""
    name, _, rest = data.partition(b"\0")
    if kind == b"tEXt":
        return name, rest, False
    if kind == b"iTXt":  # a flag, a method, a language and a translated name come first
        return name, rest[2:].split(b"\0", 2)[-1], rest[:1] == b"\1"
    return name, rest[1:], True


def _unpacked(data: bytes) -> bytes | None:
    """Inflate; None where that fails or gives more than `LARGEST`."""
    inflater = zlib.decompressobj()
    try:
        unpacked = inflater.decompress(data, LARGEST)
    except zlib.error:
        return None
    return None if inflater.unconsumed_tail else unpacked


def _without(stream: BinaryIO, parts: list[tuple[int, int]]) -> io.BytesIO:
    kept = io.BytesIO()
    for begin, end in parts:
        kept.write(stream.read(begin - stream.tell()))
        stream.seek(end)
    kept.write(stream.read())
    kept.seek(0)
    return kept


def _transparent_value(data: bytes, depth: int, colour: int) -> dict[str, Any]:
    """Scale a 2- or 4-bit grey value as Pillow scales pixels; cut a 16-bit colour to 8 bits."""
    if colour == _GREY and depth in (2, 4) and len(data) >= 2:
        return {"transparency": int.from_bytes(data[:2], "big") * 255 // (2**depth - 1)}
    if colour == _RGB and depth == 16 and len(data) == 6:
        return {"transparency": (data[0], data[2], data[4])}
    return {}
