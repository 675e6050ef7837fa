"""The window round a mask, and the edit put back inside it alone."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_requests import draw
from PIL import Image

from ric.data.photograph import Photograph
from ric.editors.masked import cut, fading, feathered, put_back, window_round
from ric.method.region_box import tightest_box


def a_mask(width: int, height: int, *boxes: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros((height, width), dtype=bool)
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = True
    return mask


# --- the window ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("box", "margin", "least", "wanted"),
    [
        ((50, 40, 60, 50), 5, 8, (45, 35, 65, 55)),
        ((50, 40, 60, 50), 5, 32, (39, 29, 71, 61)),
        ((50, 40, 70, 50), 5, 8, (45, 30, 75, 60)),
        ((0, 0, 10, 10), 5, 8, (0, 0, 20, 20)),  # moved into the picture
        ((110, 70, 120, 80), 5, 8, (100, 60, 120, 80)),
        ((10, 10, 100, 70), 20, 8, (0, 0, 120, 80)),  # cut where the picture is smaller
    ],
)
def test_a_window_is_a_square_round_the_mask_within_the_picture(box, margin, least, wanted):
    assert window_round(a_mask(120, 80, box), margin, least) == wanted


def test_every_window_holds_its_mask_its_margin_and_the_least_side_where_there_is_room():
    draws = np.random.default_rng(0)
    for _ in range(300):
        width, height = draws.integers(1, 90, 2)
        left, top = draws.integers(0, width), draws.integers(0, height)
        box = (left, top, draws.integers(left, width) + 1, draws.integers(top, height) + 1)
        margin, least = int(draws.integers(0, 20)), int(draws.integers(1, 60))
        mask = a_mask(width, height, box)
        window = window_round(mask, margin, least)
        assert tightest_box(mask) == box
        assert cut(mask, window).sum() == mask.sum()
        assert 0 <= window[0] < window[2] <= width
        assert 0 <= window[1] < window[3] <= height
        side = max(box[2] - box[0] + 2 * margin, box[3] - box[1] + 2 * margin, least)
        assert window[2] - window[0] == min(side, width)
        assert window[3] - window[1] == min(side, height)
        assert window[0] <= max(box[0] - margin, 0)
        assert window[3] >= min(box[3] + margin, height)


# --- the composite -------------------------------------------------------------------------------


def test_a_mask_without_a_feather_is_its_own_share():
    mask = a_mask(9, 9, (2, 2, 5, 6))
    assert np.array_equal(fading(mask, 0), mask.astype(np.float32))


def test_the_share_falls_evenly_and_is_exactly_zero_beyond_the_feather():
    mask = a_mask(30, 30, (12, 12, 18, 18))
    shares = fading(mask, 4)
    assert shares[15, 18:24].tolist() == pytest.approx([0.8, 0.6, 0.4, 0.2, 0, 0])
    rows, columns = np.mgrid[:30, :30]
    away = np.hypot(
        np.maximum(0, np.maximum(12 - rows, rows - 17)),
        np.maximum(0, np.maximum(12 - columns, columns - 17)),
    )
    assert (shares[away > 4] == 0).all()
    assert (shares[away == 0] == 1).all()
    assert np.allclose(shares[away <= 4], 1 - away[away <= 4] / 5)


@pytest.mark.parametrize("feather", [0, 3, 50])
@pytest.mark.parametrize("windowed", [False, True])
def test_outside_the_feathered_mask_every_pixel_is_the_sources_and_inside_it_the_edits(
    feather, windowed
):
    source, mask = draw(60, 40), a_mask(60, 40, (20, 10, 32, 22), (40, 3, 42, 5))
    window = window_round(mask, feather, 8) if windowed else (0, 0, 60, 40)
    edit = draw(60, 40, seed=1).crop(window)
    after = np.asarray(put_back(edit, Photograph(source), window, mask, feather).pixels)
    before = np.asarray(source)
    shares = fading(mask, feather)
    assert np.array_equal(feathered(mask, feather), shares > 0)
    assert np.array_equal(after[shares == 0], before[shares == 0])
    whole = source.copy()
    whole.paste(edit, window)
    assert np.array_equal(after[mask], np.asarray(whole)[mask])
    wanted = before + shares[..., None] * (np.asarray(whole).astype(float) - before)
    assert np.abs(after - wanted).max() <= 0.5 + 1e-3


def test_without_a_mask_the_edit_takes_the_whole_picture():
    source, edit = draw(24, 16), draw(24, 16, seed=1)
    after = put_back(edit, Photograph(source), (0, 0, 24, 16), None, 5)
    assert np.array_equal(after.pixels, edit)
    assert isinstance(after.pixels, Image.Image)
