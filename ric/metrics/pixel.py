"""Scores that need no network: L1, L2 and the PSNR of what the edit should have left alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ric.metrics.pairs import as_rgb

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

PSNR_CEILING = 100.0  # dB; equal pixels would give infinity, which no mean and no JSON can hold


def l1(edited: Image.Image, reference: Image.Image) -> float:
    """Return the mean absolute difference in [0, 1] over pixels and channels (MagicBrush)."""
    return float(np.abs(_difference(edited, reference)).mean())


def l2(edited: Image.Image, reference: Image.Image) -> float:
    """Return the mean squared difference in [0, 1] over pixels and channels (MagicBrush)."""
    return float(np.square(_difference(edited, reference)).mean())


def psnr_outside(edited: Image.Image, source: Image.Image, mask: Image.Image) -> float | None:
    """Return the peak signal-to-noise ratio in dB outside the mask, at most `PSNR_CEILING`.

    Args:
        edited: The output, at the source's size.
        source: The picture before the edit.
        mask: Mode L, at the source's size; 128 and above is where the edit belongs.

    Returns:
        None where the mask leaves nothing outside.

    Raises:
        ValueError: the sizes differ.
    """
    if mask.size != source.size:
        raise ValueError(f"the mask is {mask.size} and the source {source.size}")
    outside_HW = np.asarray(mask.convert("L")) < 128
    if not outside_HW.any():
        return None
    error = float(np.square(_difference(edited, source)[outside_HW]).mean())
    return PSNR_CEILING if error == 0 else min(PSNR_CEILING, -10 * math.log10(error))


def _difference(a: Image.Image, b: Image.Image) -> NDArray[np.float64]:
    if a.size != b.size:
        raise ValueError(f"pictures of {a.size} and {b.size} cannot be compared pixel by pixel")
    ours, theirs = (np.asarray(as_rgb(image), np.float64) / 255 for image in (a, b))
    return ours - theirs
