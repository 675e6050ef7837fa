"""The small copies of a page, and the drawing of masks over them."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ric.report.thumbs import CONTEXT, FILLED, MASK, Thumbs, overlay


def test_a_large_picture_is_scaled_down_to_the_side_and_keeps_its_shape(tmp_path):
    thumbs = Thumbs(tmp_path, 384)
    picture = Image.new("RGB", (1024, 512), (200, 30, 90))
    address = thumbs.add(picture, "source", 7)
    assert address == "thumbs/source/000007.webp"
    with Image.open(tmp_path / address) as copy:
        assert copy.size == thumbs.size_of(picture) == (384, 192)
        difference = np.abs(np.asarray(copy.convert("RGB")).astype(int) - (200, 30, 90))
        assert difference.max() <= 3


def test_a_small_picture_is_copied_to_the_bit(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    address = Thumbs(tmp_path, 384).add(Image.fromarray(noise), "source", 0)
    with Image.open(tmp_path / address) as copy:
        assert (np.asarray(copy) == noise).all()


def test_the_mask_lies_over_the_context_mask_each_with_an_opaque_outline():
    mask, context = (np.zeros((20, 20), dtype=bool) for _ in range(2))
    mask[2:10, 2:10] = True
    context[6:18, 6:18] = True
    drawn = np.asarray(overlay(mask, context, (20, 20)))
    assert tuple(drawn[2, 2]) == (*MASK, 255)
    assert tuple(drawn[4, 4]) == (*MASK, FILLED)
    assert tuple(drawn[17, 17]) == (*CONTEXT, 255)
    assert tuple(drawn[14, 14]) == (*CONTEXT, FILLED)
    assert not drawn[~(mask | context)].any()
    assert np.abs(drawn[9, 9].astype(int) - (*MASK, 255)).max() == 0
