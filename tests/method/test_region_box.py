from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from ric.errors import RicError
from ric.method.region_box import crop, grow_box, tightest_box


def test_the_tightest_box_is_where_numpy_finds_the_mask():
    generator = np.random.default_rng(0)
    for _ in range(50):
        mask = generator.random((11, 17)) < 0.03
        mask[generator.integers(11), generator.integers(17)] = True
        ys, xs = np.where(mask)
        expected = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        assert tightest_box(mask) == expected
        assert tightest_box(torch.from_numpy(mask)) == expected


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.uint16, np.int64, np.float32])
def test_any_dtype_and_any_view_of_a_mask_is_read(dtype):
    mask = np.zeros((6, 8), dtype)
    mask[1, 2:5] = 1
    assert tightest_box(mask) == (2, 1, 5, 2)
    assert tightest_box(mask[::-1, ::-1]) == (3, 4, 6, 5)
    assert all(type(edge) is int for edge in tightest_box(mask))


def test_one_pixel_is_a_box_of_one_pixel():
    mask = torch.zeros(5, 5)
    mask[4, 0] = 1
    assert tightest_box(mask) == (0, 4, 1, 5)


def test_an_empty_mask_is_an_error_that_says_so():
    with pytest.raises(RicError, match=r"The mask \(7x5\) is empty: no pixel of it is set"):
        tightest_box(torch.zeros(5, 7))


def test_a_mask_with_channels_is_refused():
    with pytest.raises(RicError, match=r"\(height, width\), but this one is \(1, 5, 7\)"):
        tightest_box(torch.ones(1, 5, 7))


@pytest.mark.parametrize(
    ("box", "grown"),
    [
        ((30, 30, 31, 31), (28, 28, 32, 32)),  # about its centre
        ((0, 0, 1, 1), (0, 0, 4, 4)),  # moved inside at the top left
        ((63, 63, 64, 64), (60, 60, 64, 64)),  # and at the bottom right
        ((10, 20, 30, 40), (10, 20, 30, 40)),  # large enough already
        ((0, 0, 64, 64), (0, 0, 64, 64)),
        ((10, 20, 30, 21), (10, 18, 30, 22)),  # one side only
        ((-5, -5, 2, 2), (0, 0, 4, 4)),  # what lies outside is cut first
    ],
)
def test_a_box_grows_to_a_sixteenth_of_the_side(box, grown):
    assert grow_box(box, 64, 64) == grown


def test_a_grown_box_holds_the_old_one_and_never_leaves_the_image():
    draw = random.Random(0)
    for _ in range(500):
        height, width = draw.randint(1, 70), draw.randint(1, 70)
        x_min, y_min = draw.randrange(width), draw.randrange(height)
        x_max, y_max = draw.randint(x_min + 1, width), draw.randint(y_min + 1, height)
        minimum = draw.choice([1 / 16, 1 / 3, 1.0])
        left, top, right, bottom = grow_box((x_min, y_min, x_max, y_max), height, width, minimum)
        assert 0 <= left <= x_min < x_max <= right <= width
        assert 0 <= top <= y_min < y_max <= bottom <= height
        assert right - left >= minimum * width
        assert bottom - top >= minimum * height
        assert right - left < max(x_max - x_min, minimum * width) + 1
        assert bottom - top < max(y_max - y_min, minimum * height) + 1


def test_a_box_outside_the_image_cannot_grow_into_it():
    with pytest.raises(RicError, match=r"box \(70, 0, 80, 9\) holds no pixel of the 64x32 image"):
        grow_box((70, 0, 80, 9), 32, 64)


def test_a_crop_is_the_slice_equation_6_writes():
    image = torch.arange(2 * 3 * 5 * 7).reshape(2, 3, 5, 7)
    assert torch.equal(crop(image, (2, 1, 6, 4)), image[:, :, 1:4, 2:6])
    assert torch.equal(crop(image[0], (2, 1, 6, 4)), image[0][:, 1:4, 2:6])


def test_cropping_by_the_tightest_box_keeps_every_edited_pixel():
    mask = torch.zeros(9, 9)
    mask[2:5, 3:8] = 1
    region = crop(mask[None], tightest_box(mask))
    assert region.sum() == mask.sum() == region.numel()


@pytest.mark.parametrize("box", [(0, 0, 8, 5), (-1, 0, 3, 3), (3, 3, 3, 4), (4, 2, 2, 4)])
def test_a_box_that_slicing_would_quietly_bend_is_refused(box):
    with pytest.raises(RicError, match="is empty or leaves the 7x5 image"):
        crop(torch.zeros(3, 5, 7), box)
