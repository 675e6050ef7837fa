"""From decoded pixels to the input of a judge's vision tower, differentiably.

Choice 2, resampling: crops and full images are both resized to the judge's own input (224 for
CLIP, 384 for BLIP) by bicubic resampling with antialiasing, whatever the training size. Values
outside [-1, 1] - from the decoder, or from bicubic overshoot - are clamped with a straight-through
gradient: at t = 999 x0_hat exceeds the range 15-fold, and an ordinary clamp would give no gradient
just where the picture is most wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

# OpenAI's numbers for pixels in [0, 1]; CLIP's and BLIP's processors both default to them
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class PixelNumbers:
    """The input size and normalisation of a vision tower.

    Attributes:
        size: Side of the square input in pixels.
        mean: Each channel's mean, for pixels in [0, 1].
        std: Each channel's standard deviation, for pixels in [0, 1].
    """

    size: int
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD


def clamp_straight_through(pixels: Tensor) -> Tensor:
    """Clamp to [-1, 1] in the forward pass; backward, pass the gradient unchanged (choice 2)."""
    # x - x is exactly 0, so the value is exactly the clamped one
    return pixels.detach().clamp(-1, 1) + (pixels - pixels.detach())


def resize(images: Tensor, size: int) -> Tensor:
    """Resample images to a square, differentiably.

    Args:
        images: (B, 3, H, W), floats in [-1, 1].
        size: The side of the result in pixels.

    Returns:
        (B, 3, size, size) in [-1, 1].
    """
    resized = functional.interpolate(
        images, (size, size), mode="bicubic", align_corners=False, antialias=True
    )
    return clamp_straight_through(resized)


def normalize(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Shift and scale pixels as in the vision tower's training.

    Args:
        images: (B, 3, H, W) in [-1, 1].
        mean: (3,), for pixels in [0, 1].
        std: (3,), for pixels in [0, 1].

    Returns:
        (B, 3, H, W), of about zero mean and unit standard deviation.
    """
    return ((images + 1) / 2 - mean.reshape(-1, 1, 1)) / std.reshape(-1, 1, 1)


def as_input(images: Tensor, size: int, mean: Tensor, std: Tensor) -> Tensor:
    """Resize images in float32 or wider and normalise them; returned in the dtype of `mean`."""
    wide = images.to(torch.promote_types(mean.dtype, torch.float32))
    return normalize(resize(wide, size), mean, std).to(mean.dtype)
