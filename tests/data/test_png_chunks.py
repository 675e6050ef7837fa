"""PNGs whose texts, profiles and transparent values Pillow alone would refuse or misread."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import ImageCms

from ric.data import png_chunks
from ric.data.images import ImageError, open_image, open_raw, picture_size, web_suffix

LARGE = b"x" * (3 << 20)  # what a graph of an editor takes, unpacked
Chunks = Sequence[tuple[bytes, bytes]]
SEVERAL = [(b"tEXt", b"a\0" + LARGE), (b"tEXt", b"b\0" + LARGE * 22)]  # 66 MB and more of them


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(row: bytes, width: int, before: Chunks = (), after: Chunks = (), **kind: int) -> bytes:
    """A PNG of one row, written by hand: its packed pixels, and chunks before and after them."""
    packed = zlib.compress(b"\0" + row)
    head = struct.pack(">IIBBBBB", width, 1, kind.get("depth", 8), kind.get("colour", 0), 0, 0, 0)
    parts = [(b"IHDR", head), *before, (b"IDAT", packed), *after, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def levels(data: bytes) -> list:
    return np.asarray(open_image(data))[..., 0].tolist()


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize(
    "chunks",
    [
        SEVERAL,
        [(b"zTXt", b"prompt\0\0" + zlib.compress(LARGE))],
        [(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(LARGE))],
        [(b"iCCP", b"profile\0\0" + zlib.compress(os.urandom(3 << 20)))],
        [(b"zTXt", b"torn\0\0no zlib"), (b"iTXt", b"no end"), (b"tEXt", b""), (b"iCCP", b"a\0")],
    ],
    ids=["plain", "packed", "international", "profile", "broken"],
)
def test_texts_and_profiles_of_any_size_leave_the_picture_whole(tmp_path, chunks, place):
    data = png(bytes([9, 200, 30]), 3, **{place: chunks})
    path = tmp_path / "graph.png"
    path.write_bytes(data)
    assert levels(data) == [[9, 200, 30]]
    assert picture_size(path) == open_raw(path).size == (3, 1)
    assert web_suffix(path) == ".png"


def test_a_text_that_unpacks_without_end_is_not_unpacked(monkeypatch):
    monkeypatch.setattr(png_chunks, "LARGEST", 1000)
    bomb = zlib.compress(b'tiff:Orientation="6"' + b"x" * 2000)
    data = png(bytes(2), 2, [(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + bomb)])
    assert open_image(data).size == (2, 1)


def test_a_large_profile_is_still_applied():
    srgb = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    # swap red's and green's primaries, so that applying it shows; then pad it over a megabyte
    red, green = srgb.index(b"rXYZ"), srgb.index(b"gXYZ")
    srgb[red : red + 4], srgb[green : green + 4] = b"gXYZ", b"rXYZ"
    padded = bytes(srgb) + os.urandom(2 << 20)
    padded = struct.pack(">I", len(padded)) + padded[4:]
    small, large = (
        png(bytes([250, 10, 10]), 1, [(b"iCCP", b"p\0\0" + packed)], colour=2)
        for packed in (zlib.compress(bytes(srgb)), zlib.compress(padded))
    )
    seen = np.asarray(open_image(large))[0, 0].tolist()
    assert seen == np.asarray(open_image(small))[0, 0].tolist()
    assert seen[1] > 200 > 100 > seen[0]


@pytest.mark.parametrize("packed", [False, True])
def test_an_orientation_in_the_texts_still_counts(packed):
    exif = b"Exif\0\0MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    words = f"\nexif\n{len(exif):8}\n{exif.hex()}\n".encode()
    raw = (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(words)) if packed else \
          (b"tEXt", b"Raw profile type exif\0" + words)  # fmt: skip
    data = png(bytes(2), 2, [*SEVERAL[:1], raw])
    assert picture_size(data) == open_image(data).size == (1, 2)


@pytest.mark.parametrize(
    ("depth", "row", "value", "expected"),
    [
        (1, bytes([0b01000000]), 0, [255, 255, 255, 255]),
        (1, bytes([0b01000000]), 1, [0, 255, 0, 0]),
        (2, bytes([0b00011011]), 1, [0, 255, 170, 255]),
        (4, bytes([0x05, 0x6F]), 5, [0, 255, 102, 255]),
        (8, bytes([0, 100, 101, 255]), 100, [0, 255, 101, 255]),
        (16, struct.pack(">4H", 0, 1000, 1001, 65535), 1000, [0, 255, 4, 255]),
    ],
)
def test_grey_of_any_depth_shows_white_where_its_transparent_value_is(depth, row, value, expected):
    data = png(row, 4, [(b"tRNS", struct.pack(">H", value))], depth=depth)
    assert levels(data) == [expected]


def test_sixteen_bit_colour_shows_white_where_its_transparent_colour_is():
    row = struct.pack(">6H", 1000, 30000, 65535, 30000, 30000, 30000)
    key = [(b"tRNS", struct.pack(">3H", 1000, 30000, 65535))]
    opened = open_image(png(row, 2, key, depth=16, colour=2))
    assert np.asarray(opened)[0].tolist() == [[255, 255, 255], [117, 117, 117]]


def test_what_is_broken_elsewhere_still_says_so():
    whole = png(bytes(4), 4, SEVERAL[:1])
    for data in (whole[:60], whole[:-30], whole.replace(b"IDAT", b"IDAX")):
        with pytest.raises(ImageError, match=r"broken|truncated|not a picture that can be read"):
            open_image(data)


def test_a_picture_without_texts_reaches_pillow_as_it_is(encoded, noise):
    given = io.BytesIO(encoded(noise()))
    stream, beside = png_chunks.readable_png(given)
    assert stream is given
    assert (stream.tell(), beside) == (0, {})
