"""A photo's EXIF, changed only where an edit makes it untrue, so that makers' notes survive.

A parser that writes the block anew would move what makers' notes point at. Instead two things are
overwritten in place (CIPA DC-008, Exif 3.0, 4.5 and 4.6): the orientation, since an edit's pixels
are stored upright, and the thumbnail, which would go on showing what was edited away.
"""

from __future__ import annotations

import struct

_PREFIX = b"Exif\0\0"
_ORIENTATION, _THUMBNAIL, _THUMBNAIL_LENGTH = 0x0112, 0x0201, 0x0202
_ENTRY = 12  # bytes: tag and type of 2 each, count and value of 4 each


def of_upright_edit(exif: bytes) -> bytes:
    """Return an EXIF block with the orientation 1 and a blank, unlinked thumbnail.

    Args:
        exif: A TIFF structure, with or without the prefix `Exif` of JPEG files.

    Returns:
        A block of the same length; one that is broken is returned as it is.
    """
    start = len(_PREFIX) if exif.startswith(_PREFIX) else 0
    order = {b"II": "<", b"MM": ">"}.get(exif[start : start + 2])
    if order is None:
        return exif
    block = bytearray(exif[start:])
    try:
        (first,) = struct.unpack_from(f"{order}I", block, 4)
        entries, link = _directory(block, first, order)
        if _ORIENTATION in entries:
            struct.pack_into(f"{order}H", block, entries[_ORIENTATION], 1)
        (second,) = struct.unpack_from(f"{order}I", block, link)
        if second:
            _blank_thumbnail(block, second, order)
            struct.pack_into(f"{order}I", block, link, 0)
    except struct.error:
        return exif
    return exif[:start] + bytes(block)


def _directory(block: bytearray, at: int, order: str) -> tuple[dict[int, int], int]:
    """Map a directory's tags to the places of their values; also give the next one's link."""
    (count,) = struct.unpack_from(f"{order}H", block, at)
    places = [at + 2 + _ENTRY * number for number in range(count)]
    tags = [struct.unpack_from(f"{order}H", block, place)[0] for place in places]
    values = {tag: place + 8 for tag, place in zip(tags, places, strict=True)}
    return values, at + 2 + _ENTRY * count


def _blank_thumbnail(block: bytearray, at: int, order: str) -> None:
    entries, _ = _directory(block, at, order)
    if _THUMBNAIL in entries and _THUMBNAIL_LENGTH in entries:
        (begin,) = struct.unpack_from(f"{order}I", block, entries[_THUMBNAIL])
        (length,) = struct.unpack_from(f"{order}I", block, entries[_THUMBNAIL_LENGTH])
        block[begin : begin + length] = bytes(len(block[begin : begin + length]))
