"""Damaged pictures of every format that is opened: decoded, or refused in a line."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from fuzzing import Bounds, fuzzed, mutated
from hypothesis import given
from PIL import Image

from ric.data.edit_sample import EditSample, Pictures
from ric.data.images import open_image, open_raw, picture_size

MOST = 1 << 20  # pixels
SAVED = {
    "PNG": ("RGB", "RGBA", "L", "P", "I;16", "1"), "JPEG": ("RGB", "L", "CMYK"),
    "WEBP": ("RGB", "RGBA"), "TIFF": ("RGB", "I;16", "CMYK"), "GIF": ("P",), "BMP": ("RGB", "1"),
    "PPM": ("RGB",), "TGA": ("RGBA",), "JPEG2000": ("RGB",), "AVIF": ("RGB",),
}  # fmt: skip


def originals(pixels: np.ndarray) -> list[bytes]:
    """Save pixels, uint8 (H, W, 3), in every format and mode, turned by EXIF where there is one."""
    exif = Image.Exif()
    exif[0x0112] = 6
    found = []
    for kind, modes in SAVED.items():
        for mode in modes:
            stream = io.BytesIO()
            picture = Image.fromarray(pixels).convert("L" if mode == "I;16" else mode)
            picture = picture.convert("I;16") if mode == "I;16" else picture
            more = {"exif": exif} if kind in ("PNG", "JPEG", "WEBP") else {}
            picture.save(stream, format=kind, **more)
            found.append(stream.getvalue())
    return found


NOISE = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
DISC = np.zeros_like(NOISE)
DISC[6:15, 4:12] = 255
WHOLE, MASKS = originals(NOISE), originals(DISC)


@fuzzed
@given(data=mutated(WHOLE))
def test_a_damaged_picture_is_decoded_within_its_limits_or_refused(data: bytes, bounds: Bounds):
    for read in (picture_size, open_raw, open_image):
        with bounds.held():
            found = read(data, max_pixels=MOST)
            width, height = found if isinstance(found, tuple) else found.size
            assert 0 < width * height <= MOST
    with bounds.held():
        assert open_image(data, max_pixels=MOST, decode="plain").mode == "RGB"


@fuzzed
@given(data=mutated(MASKS))
def test_a_damaged_mask_of_any_kind_is_read_or_its_sample_fails(
    data: bytes, bounds: Bounds, tmp_path: Path
):
    source = tmp_path / "source.png"
    Image.fromarray(NOISE).save(source)
    for kind in ("image", "erased-black", "erased-white", "unknown"):
        pictures = Pictures(source=str(source), mask=data, mask_kind=kind, max_pixels=MOST)
        sample = EditSample(id="a", instruction="add a ball", pictures=pictures)
        with bounds.held():
            assert sample.load_mask().shape == (24, 20)
