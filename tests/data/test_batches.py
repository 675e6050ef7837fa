from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from ric.data.batches import square_window, to_square, to_unit
from ric.data.sample import EditSample, Pictures
from ric.errors import RicError, SampleError


@pytest.fixture
def sample(noise):
    """A 64 x 48 edit whose mask is the box (40, 10) to (60, 30)."""
    mask = Image.new("L", (64, 48))
    mask.paste(255, (40, 10, 60, 30))
    pictures = Pictures(source=noise(64, 48), target=noise(64, 48, seed=1), mask=mask)
    return EditSample(id="a", instruction="make it red", pictures=pictures)


def test_a_squash_is_pillows_own_resize_of_all_three_together(sample, noise):
    square = to_square(sample, 32)
    for given, seed in ((square.source, 0), (square.target, 1)):
        expected = np.asarray(noise(64, 48, seed=seed).resize((32, 32))).transpose(2, 0, 1)
        assert given.dtype == torch.uint8
        assert np.array_equal(given.numpy(), expected)
    y, x = np.nonzero(square.mask[0].numpy())
    assert square.mask.shape == (1, 32, 32)
    assert square.mask.dtype == torch.bool
    assert (x.min(), x.max() + 1) == (20, 30)
    assert (y.min(), y.max() + 1) == (6, 20)  # 10 * 2/3 to 30 * 2/3, rounded outwards


def test_a_crop_cuts_the_same_window_from_all_three(sample, noise):
    square = to_square(sample, 24, "crop")
    window = (12, 0, 60, 48)  # as near the middle as holds the box
    expected = np.asarray(noise(64, 48, seed=1).crop(window).resize((24, 24)))
    assert np.array_equal(square.target.permute(1, 2, 0).numpy(), expected)
    y, x = np.nonzero(square.mask[0].numpy())
    assert (x.min(), x.max() + 1) == (14, 24)
    assert (y.min(), y.max() + 1) == (5, 15)


def test_the_window_is_the_largest_square_and_holds_any_box_that_fits():
    rng = np.random.default_rng(0)
    for _ in range(200):
        height, width = rng.integers(10, 60, 2)
        top, left = rng.integers(0, height), rng.integers(0, width)
        mask = np.zeros((height, width), bool)
        mask[top : top + rng.integers(1, 40), left : left + rng.integers(1, 40)] = True
        x0, y0, x1, y1 = square_window(int(width), int(height), mask)
        inside = mask.copy()
        inside[y0:y1, x0:x1] = False
        assert not inside.any()
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height
        box = max(np.ptp(np.nonzero(mask)[0]), np.ptp(np.nonzero(mask)[1])) + 1
        side = min(width, height)
        assert (x1 - x0, y1 - y0) == ((width, height) if box > side else (side, side))


def test_without_a_mask_the_window_is_the_middle():
    assert square_window(64, 48, None) == (8, 0, 56, 48)
    assert square_window(48, 64, None) == (0, 8, 48, 56)


def test_what_is_not_needed_is_not_asked_for(noise):
    sample = EditSample(id="a", instruction="x", pictures=Pictures(source=noise()))
    square = to_square(sample, 8, need_mask=False, need_target=False)
    assert square.target is None
    assert square.mask is None
    with pytest.raises(SampleError, match="No target"):
        to_square(sample, 8, need_mask=False)
    with pytest.raises(SampleError, match="No target"):
        to_square(sample, 8, need_target=False)


def test_a_given_mask_needs_no_target(sample, noise):
    pictures = Pictures(source=noise(64, 48), mask=sample.pictures.mask)
    square = to_square(EditSample(id="a", instruction="x", pictures=pictures), 8, need_target=False)
    assert square.mask.any()


def test_a_thin_mask_survives_the_smallest_square(noise):
    mask = Image.new("L", (640, 480))
    mask.paste(255, (100, 0, 101, 480))
    pictures = Pictures(source=noise(640, 480), target=noise(640, 480), mask=mask)
    square = to_square(EditSample(id="a", instruction="x", pictures=pictures), 16)
    assert square.mask[0].any(0).sum() == 1


def test_an_unknown_fit_is_named(sample):
    with pytest.raises(RicError, match="Unknown fit 'pad'"):
        to_square(sample, 8, "pad")


def test_to_unit_is_two_x_over_255_minus_one_in_float32():
    every = torch.arange(256, dtype=torch.uint8)
    expected = np.float32(2) * (np.arange(256, dtype=np.float32) / np.float32(255)) - np.float32(1)
    assert to_unit(every).dtype == torch.float32
    assert np.array_equal(to_unit(every).numpy(), expected)
    assert to_unit(every)[[0, 255]].tolist() == [-1.0, 1.0]
