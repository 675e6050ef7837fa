"""Context measures on crafted edits of one crafted scene: a ball and its shadow are removed."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ric.metrics.context_error import ContextScores, context_scores, is_sticker
from ric.metrics.pixel import PSNR_CEILING

GRASS, BALL, SHADOW = (90, 160, 70), (200, 40, 40), (50, 90, 40)


def boxes() -> tuple[np.ndarray, np.ndarray]:
    mask, context = np.zeros((32, 32), bool), np.zeros((32, 32), bool)
    mask[8:16, 8:16] = True
    context[16:20, 8:24] = True
    return mask, context


def paint(ball: tuple | None = None, shadow: tuple | None = None, base: tuple = GRASS):
    mask, context = boxes()
    pixels = np.full((32, 32, 3), base, np.uint8)
    if ball:
        pixels[mask] = ball
    if shadow:
        pixels[context] = shadow
    return Image.fromarray(pixels)


SOURCE, TARGET = paint(BALL, SHADOW), paint()


def scores(edited: Image.Image) -> ContextScores:
    return context_scores(edited, SOURCE, TARGET, *boxes())


def test_the_exact_target_is_no_sticker_and_has_no_error():
    exact = scores(TARGET)
    assert exact == ContextScores(0.0, 0.0, PSNR_CEILING)
    assert is_sticker(exact, edit_is_right=True) is False


def test_a_ball_removed_without_its_shadow_is_a_sticker():
    sticker = scores(paint(shadow=SHADOW))
    assert (sticker.region_error, sticker.context_error) == (0.0, 1.0)
    assert is_sticker(sticker, edit_is_right=True) is True


def test_no_edit_is_as_wrong_as_doing_nothing_and_no_sticker():
    nothing = scores(SOURCE)
    assert nothing == ContextScores(1.0, 1.0, PSNR_CEILING)
    assert is_sticker(nothing, edit_is_right=False) is False


def test_a_repaint_of_everything_is_seen_outside_both_masks():
    repaint = scores(paint(base=(0, 0, 0)))
    assert repaint.preserved == pytest.approx(
        -10 * np.log10(np.mean(np.square(np.array(GRASS) / 255)))
    )
    assert repaint.context_error > 1


def test_half_a_shadow_left_is_a_quarter_of_the_error():
    halfway = tuple((a + b) // 2 for a, b in zip(GRASS, SHADOW, strict=True))
    assert scores(paint(shadow=halfway)).context_error == pytest.approx(0.25, abs=0.02)


def test_where_nothing_around_must_change_there_is_no_context_error():
    mask, _ = boxes()
    alone = context_scores(TARGET, SOURCE, TARGET, mask, np.zeros_like(mask))
    assert alone.context_error is None
    assert is_sticker(alone, edit_is_right=True) is None


def test_an_output_of_another_size_is_brought_to_the_targets():
    assert scores(TARGET.resize((64, 64))).region_error == 0.0


def test_masks_that_overlap_are_refused():
    mask, _ = boxes()
    with pytest.raises(ValueError, match="overlap"):
        context_scores(TARGET, SOURCE, TARGET, mask, mask)
