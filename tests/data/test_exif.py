"""EXIF of an edit: its orientation is 1, its thumbnail blank, and every other byte as it was."""

from __future__ import annotations

import struct

import pytest
from PIL import Image

from ric.data.exif import of_upright_edit

THUMBNAIL = b"\xff\xd8the thumbnail\xff\xd9"
NOTE = b"a maker's note, found by its place"


def block(order: str, orientation: int = 6) -> bytes:
    """An EXIF block written out by hand: make, orientation, EXIF with a note, and a thumbnail."""
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)

    def entry(tag: int, kind: int, count: int, value: int) -> bytes:
        if kind == 3:
            return struct.pack(f"{order}HHIHH", tag, kind, count, value, 0)
        return struct.pack(f"{order}HHII", tag, kind, count, value)

    exif_at = 8 + 2 + 3 * 12 + 4
    second_at = exif_at + 2 + 12 + 4
    data_at = second_at + 2 + 2 * 12 + 4
    note_at = data_at + len(THUMBNAIL)
    first = struct.pack(f"{order}H", 3) + entry(0x0110, 2, 4, 0x41424300)
    first += entry(0x0112, 3, 1, orientation) + entry(0x8769, 4, 1, exif_at)
    first += struct.pack(f"{order}I", second_at)
    exif = struct.pack(f"{order}H", 1) + entry(0x927C, 7, len(NOTE), note_at) + bytes(4)
    second = struct.pack(f"{order}H", 2) + entry(0x0201, 4, 1, data_at)
    second += entry(0x0202, 4, 1, len(THUMBNAIL)) + bytes(4)
    return head + first + exif + second + THUMBNAIL + NOTE


def read(exif: bytes) -> Image.Exif:
    found = Image.Exif()
    found.load(exif)
    return found


@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"], ids=["bare", "of a JPEG"])
@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
def test_only_orientation_link_and_thumbnail_change(order, prefix):
    before = prefix + block(order)
    after = of_upright_edit(before)
    assert read(before)[0x0112] == 6
    assert read(after)[0x0112] == 1
    assert read(after)[0x0110] == read(before)[0x0110]
    assert read(after).get_ifd(0x8769)[0x927C] == NOTE
    changed = [
        at for at, (one, other) in enumerate(zip(before, after, strict=True)) if one != other
    ]
    thumbnail = range(before.index(THUMBNAIL), before.index(THUMBNAIL) + len(THUMBNAIL))
    assert set(thumbnail) <= set(changed)
    # the orientation's byte, and the bytes of the link to the second directory that are not zero
    assert len(set(changed) - set(thumbnail)) == 2
    assert b"thumbnail" not in after


def test_every_broken_block_is_returned_as_it_is_or_changed_in_place():
    whole = block("<")
    assert of_upright_edit(b"") == b""
    assert of_upright_edit(b"no EXIF") == b"no EXIF"
    for length in range(len(whole)):
        assert len(of_upright_edit(whole[:length])) == length
    for at in range(len(whole)):
        broken = whole[:at] + b"\xff" + whole[at + 1 :]
        assert len(of_upright_edit(broken)) == len(whole)
