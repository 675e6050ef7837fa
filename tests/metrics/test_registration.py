"""Drift of an output against its source: known shifts, scales and tints come back."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import fourier_shift
from skimage import data

from ric.metrics.pairs import Pair
from ric.metrics.pixel import l1
from ric.metrics.registration import ColourDrift, Drift, ScaleDrift, Shift, drift_of, put_back
from ric.scoring.summary import mean_score

TINT = np.array([6.0, 0.0, -4.0])
BOX = (60, 50, 110, 100)


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """A cat, away from black and white so that nothing is clipped."""
    cat = Image.fromarray(data.chelsea()).resize((192, 144))
    return cat.point(lambda level: 30 + level * 3 // 4)


def shifted(photo: Image.Image, right: float, down: float) -> Image.Image:
    """Shift by the phases of the spectrum: exact, and independent of any interpolation."""
    planes = np.asarray(photo, dtype=float).transpose(2, 0, 1)
    moved = [np.fft.ifft2(fourier_shift(np.fft.fft2(one), (down, right))).real for one in planes]
    return Image.fromarray(np.stack(moved, axis=-1).round().clip(0, 255).astype(np.uint8))


def larger(photo: Image.Image, scale: float) -> Image.Image:
    """Zoom about the centre; of a pixel's centre, Pillow counts the half."""
    width, height = photo.size
    inward = 1 / scale
    place = (inward, 0, width / 2 * (1 - inward), 0, inward, height / 2 * (1 - inward))
    return photo.transform(photo.size, Image.Transform.AFFINE, place, Image.Resampling.BICUBIC)


def tinted(photo: Image.Image) -> Image.Image:
    return Image.fromarray((np.asarray(photo, dtype=float) + TINT).clip(0, 255).astype(np.uint8))


def with_edit(photo: Image.Image) -> tuple[Image.Image, Image.Image]:
    edited, mask = photo.copy(), Image.new("L", photo.size)
    edited.paste((255, 0, 0), BOX)
    mask.paste(255, BOX)
    return edited, mask


@pytest.mark.parametrize(("right", "down"), [(0.37, -0.62), (3.4, 2.25), (-7.5, 0.0)])
@pytest.mark.parametrize("change", [lambda photo: photo, tinted])
def test_a_shift_below_a_pixel_comes_back_with_a_tint_and_an_edit(right, down, change, photo):
    edited, mask = with_edit(change(shifted(photo, right, down)))
    for where in (mask, None):
        drift = drift_of(edited, photo, where)
        assert (drift.right, drift.down) == pytest.approx((right, down), abs=0.03)
        assert drift.scale == pytest.approx(1, abs=5e-4)


@pytest.mark.parametrize("scale", [1.01, 0.99])
def test_a_scale_of_one_percent_comes_back(scale, photo):
    drift = drift_of(tinted(larger(photo, scale)), photo)
    assert drift.scale == pytest.approx(scale, abs=5e-4)
    assert (drift.right, drift.down) == pytest.approx((0, 0), abs=0.03)


def test_the_metrics_are_the_length_the_percent_and_the_mean_tint(photo):
    edited, mask = with_edit(tinted(larger(photo, 1.01)))
    pair = Pair("a", edited, photo, mask=mask)
    assert ScaleDrift().score(pair, None) == pytest.approx(1, abs=0.05)
    assert Shift().score(pair, None) == pytest.approx(0, abs=0.05)
    assert ColourDrift().score(pair, None) == pytest.approx(np.abs(TINT).mean() / 255, abs=2e-3)
    moved = Pair("b", shifted(photo, 3, -4), photo)
    assert Shift().score(moved, None) == pytest.approx(5, abs=0.03)
    assert ColourDrift().score(moved, None) == pytest.approx(0, abs=1e-3)
    same = Pair("c", photo, photo)
    assert [metric().score(same, None) for metric in (Shift, ScaleDrift, ColourDrift)] == (
        pytest.approx([0, 0, 0], abs=1e-6)
    )


def test_an_output_put_back_is_its_source_but_for_the_grain_of_resampling(photo):
    moved = larger(shifted(photo, 2.5, -1.25), 1.01)
    back = put_back(moved, photo, drift_of(moved, photo))
    assert l1(back, photo) < l1(moved, photo) / 5
    # what the output does not cover is the source's
    out = put_back(shifted(photo, 40, 0), photo, Drift(right=40))
    assert out.crop((154, 0, 192, 144)).tobytes() == photo.crop((154, 0, 192, 144)).tobytes()


def test_pictures_of_other_things_have_no_drift(photo, draw: Callable[..., Image.Image]):
    assert drift_of(draw(1, *photo.size), photo) is None
    assert drift_of(Image.new("RGB", photo.size), photo) is None
    assert drift_of(photo.resize((24, 24)), photo.resize((24, 24))) is None
    everywhere = Image.new("L", photo.size, 255)
    assert drift_of(photo, photo, everywhere) is None


@pytest.mark.parametrize("metric", [Shift, ScaleDrift, ColourDrift])
def test_a_table_says_once_which_pictures_are_compared(metric):
    loaded = SimpleNamespace(marker="", definition=metric.definition)
    told = mean_score([{"id": "a", "key": 1.0}], "key", loaded, needs=metric.needs)
    assert told.definition.count("edited") == 1
    assert told.definition.startswith("edited and source: ")
