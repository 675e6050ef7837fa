"""Scores without a network: L1, L2, PSNR and SSIM, of whole pictures and beside or in a mask."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageChops
from scipy.ndimage import gaussian_filter1d

from ric.metrics.pairs import as_rgb

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

    from ric.config import EvalConfig
    from ric.metrics.pairs import Pair

ROWS, REACH = 64, 5  # of a picture at a time; reach of SSIM's window in pixels
PSNR_CEILING = 100.0  # dB; equal pixels would give infinity, which no mean and no JSON can hold


class PixelMetric:
    """Base of the `PairMetric`s below, which load nothing and have no settings."""

    def __init__(self, model: None, config: EvalConfig, device: torch.device) -> None:
        """Accept what every metric is created with; nothing of it is used."""


class L1(PixelMetric):
    """See `l1`."""

    needs = "reference"
    definition = "mean absolute difference of levels in [0, 1]"

    def score(self, pair: Pair, reference: Image.Image | None) -> float | None:
        """Return `l1` of the edited picture and the reference."""
        return None if reference is None else l1(pair.edited, reference)


class L2(PixelMetric):
    """See `l2`."""

    needs = "reference"
    definition = "mean squared difference of levels in [0, 1]"

    def score(self, pair: Pair, reference: Image.Image | None) -> float | None:
        """Return `l2` of the edited picture and the reference."""
        return None if reference is None else l2(pair.edited, reference)


class Psnr(PixelMetric):
    """See `psnr`."""

    needs = "reference"
    definition = "peak signal-to-noise ratio, at most 100 dB"

    def score(self, pair: Pair, reference: Image.Image | None) -> float | None:
        """Return `psnr` of the edited picture and the reference, from their `l2`."""
        return None if reference is None else psnr(l2(pair.edited, reference))


class Ssim(PixelMetric):
    """See `ssim_map`."""

    needs = "reference"
    definition = "structural similarity (Gaussian of 1.5 pixels)"

    def score(self, pair: Pair, reference: Image.Image | None) -> float | None:
        """Return the mean of `ssim_map` of the edited picture and the reference."""
        return None if reference is None else float(ssim_map(pair.edited, reference).mean())


class PsnrInside(PixelMetric):
    """See `psnr_inside`."""

    needs = "reference"
    definition = "peak signal-to-noise ratio where the mask is white, at most 100 dB"

    def score(self, pair: Pair, reference: Image.Image | None) -> float | None:
        """Return `psnr_inside` of the edited picture and the reference."""
        if reference is None or pair.mask is None:
            return None
        return psnr_inside(pair.edited, reference, pair.mask)


class PsnrOutside(PixelMetric):
    """See `psnr_outside`."""

    needs = "mask"
    definition = "peak signal-to-noise ratio where the mask is black, at most 100 dB"

    def score(self, pair: Pair, reference: Image.Image | None) -> float | None:
        """Return `psnr_outside` of the edited picture and the source."""
        return None if pair.mask is None else psnr_outside(pair.edited, pair.source, pair.mask)


class SsimOutside(PixelMetric):
    """See `ssim_outside`."""

    needs = "mask"
    definition = (
        "structural similarity (Gaussian of 1.5 pixels) where the mask is black, both pictures"
        " black elsewhere"
    )

    def score(self, pair: Pair, reference: Image.Image | None) -> float | None:
        """Return `ssim_outside` of the edited picture and the source."""
        return None if pair.mask is None else ssim_outside(pair.edited, pair.source, pair.mask)


def l1(edited: Image.Image, reference: Image.Image) -> float:
    """Return the mean absolute difference in [0, 1] over pixels and channels (MagicBrush)."""
    return _mean_power(_difference(edited, reference).histogram(), 1)


def l2(edited: Image.Image, reference: Image.Image) -> float:
    """Return the mean squared difference in [0, 1] over pixels and channels (MagicBrush)."""
    return _mean_power(_difference(edited, reference).histogram(), 2)


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
    return _psnr_where(_outside(mask, source), edited, source)


def psnr_inside(edited: Image.Image, reference: Image.Image, mask: Image.Image) -> float | None:
    """Return the peak signal-to-noise ratio in dB inside the mask, at most `PSNR_CEILING`.

    Args, errors as `psnr_outside`, with the reference in the source's place; None where the mask
    is empty.
    """
    return _psnr_where(~_outside(mask, reference), edited, reference)


def _psnr_where(counted_HW: NDArray[np.bool_], a: Image.Image, b: Image.Image) -> float | None:
    if not counted_HW.any():
        return None
    counted = _difference(a, b).histogram(Image.fromarray(counted_HW))
    return psnr(_mean_power(counted, 2))


def psnr(error: float) -> float:
    """Return the ratio in dB, at most `PSNR_CEILING`, of a mean squared error in [0, 1]."""
    return PSNR_CEILING if error == 0 else min(PSNR_CEILING, -10 * math.log10(error))


def ssim_outside(edited: Image.Image, source: Image.Image, mask: Image.Image) -> float | None:
    """Return the structural similarity outside the mask, 1 for equal pictures.

    Both pictures are black inside the mask, as in PIE-Bench, so that no window sees what lies
    there; the mean is over the pixels outside alone, or a large mask would score as similarity.
    Args, errors and None as `psnr_outside`.
    """
    outside_HW = _outside(mask, source)
    if not leaves_something(mask):
        return None
    if edited is source:
        return 1.0
    ours, theirs = black_inside(edited, mask), black_inside(source, mask)
    return float(ssim_map(ours, theirs)[outside_HW].mean())


def ssim_map(a: Image.Image, b: Image.Image) -> NDArray[np.float64]:
    """Return the structural similarity (H, W, 3) around every pixel (Wang et al. 2004).

    torchmetrics' settings: a Gaussian of 1.5 pixels cut at 11, borders mirrored, range 1. Computed
    some rows at a time, so that intermediate results stay in the CPU's caches.
    """
    _refuse_other_size(a, b)
    ours, theirs = (np.asarray(as_rgb(image)) for image in (a, b))
    similar_HWC = np.empty(ours.shape)
    for top in range(0, len(ours), ROWS):
        first, last = max(0, top - REACH), top + ROWS + REACH
        band = _similarity(ours[first:last], theirs[first:last])
        similar_HWC[top : top + ROWS] = band[top - first :][:ROWS]
    return similar_HWC


def _similarity(ours: NDArray[np.uint8], theirs: NDArray[np.uint8]) -> NDArray[np.float64]:
    def blur(picture_HWC: NDArray[np.float64]) -> NDArray[np.float64]:
        """Blur it; both passes are along rows, four times as fast as along columns."""
        for _ in range(2):
            # 3.5 standard deviations are 5 pixels to each side
            picture_HWC = gaussian_filter1d(picture_HWC, 1.5, axis=1, truncate=3.5, mode="mirror")
            picture_HWC = np.ascontiguousarray(picture_HWC.swapaxes(0, 1))
        return picture_HWC

    x, y = ours / 255, theirs / 255
    mean_x, mean_y = blur(x), blur(y)
    squares, product = mean_x**2 + mean_y**2, mean_x * mean_y
    variances = (blur(x**2 + y**2) - squares).clip(0)
    covariance = blur(x * y) - product
    c1, c2 = 0.01**2, 0.03**2
    return (2 * product + c1) * (2 * covariance + c2) / ((squares + c1) * (variances + c2))


def leaves_something(mask: Image.Image) -> bool:
    """Tell whether a mask, white (128 and above) where the edit belongs, leaves a pixel outside."""
    return any(mask.convert("L").histogram()[:128])


def inverted(mask: Image.Image) -> Image.Image:
    """Return the mask in black and white, white where it was under 128."""
    return mask.convert("L").point([255] * 128 + [0] * 128)


def black_inside(image: Image.Image, mask: Image.Image) -> Image.Image:
    """Return the picture with black where the mask is white (128 and above)."""
    outside_HW = _outside(mask, image)
    return Image.fromarray(np.asarray(as_rgb(image)) * outside_HW[..., None].astype(np.uint8))


def _outside(mask: Image.Image, picture: Image.Image) -> NDArray[np.bool_]:
    if mask.size != picture.size:
        raise ValueError(f"the mask is {mask.size} and the picture {picture.size}")
    return np.asarray(mask.convert("L")) < 128


def _refuse_other_size(a: Image.Image, b: Image.Image) -> None:
    if a.size != b.size:
        raise ValueError(f"pictures of {a.size} and {b.size} cannot be compared pixel by pixel")


def _difference(a: Image.Image, b: Image.Image) -> Image.Image:
    """Return the absolute difference of levels, in 8 bits."""
    _refuse_other_size(a, b)
    return ImageChops.difference(as_rgb(a), as_rgb(b))


def _mean_power(counted: Sequence[int], power: int) -> float:
    """Return the mean of levels in [0, 1] to a power, from the counts of all 256."""
    counts_L = np.reshape(counted, (-1, 256)).sum(axis=0)
    return float(counts_L @ np.arange(256) ** power / counts_L.sum() / 255**power)
