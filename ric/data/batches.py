"""One sample as square tensors, the input of the UNet, the judges and the metrics.

Choice 2, geometry: the paper says "resized to", so source, target and mask are squashed to S x S
together, pictures by Pillow's default bicubic as diffusers' InstructPix2Pix script does. `crop`
takes the largest square window that holds the edit's box; if the box is longer than the picture's
short side, the sample is squashed instead, so that no part of the edit is cut off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ric.data.masks import shrink_mask, signature_mask
from ric.errors import RicError

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from ric.data.masks import Mask
    from ric.data.sample import EditSample

__all__ = ["Square", "signature_mask", "square_pixels", "to_square", "to_unit"]

Window = tuple[int, int, int, int]  # left, top, right, bottom in pixels


@dataclass(frozen=True)
class Square:
    """A sample at one size.

    Attributes:
        source: uint8 (3, S, S).
        target: uint8 (3, S, S); None where not requested.
        mask: bool (1, S, S), True = edit; None where not requested.
    """

    source: Tensor
    target: Tensor | None
    mask: Tensor | None


def to_square(
    sample: EditSample,
    size: int,
    fit: str = "squash",
    *,
    need_mask: bool = True,
    need_target: bool = True,
) -> Square:
    """Decode a sample and resize its pictures and mask together to size x size.

    Args:
        sample: The sample.
        size: S in pixels.
        fit: `squash`, or `crop` to the largest square window that holds the mask's box (the centre
            without a mask).
        need_mask: Load the mask; a sample with neither mask nor target is an error.
        need_target: Load the target; a sample without one is an error.

    Raises:
        SampleError: A picture or mask that is needed is missing or broken.
        RicError: `fit` is neither `squash` nor `crop`.
    """
    if fit not in ("squash", "crop"):
        raise RicError(f"Unknown fit {fit!r}.", "Choose one of: squash, crop.")
    source = sample.load_source()
    target = sample.load_target() if need_target or (need_mask and not sample.has_mask) else None
    mask = None
    if need_mask:
        mask = sample.load_mask(pair=(source, target) if target is not None else None)
    if fit == "crop":
        window = square_window(source.width, source.height, mask)
        left, top, right, bottom = window
        source = source.crop(window)
        target = target.crop(window) if target is not None else None
        mask = mask[top:bottom, left:right] if mask is not None else None
    return Square(
        source=square_pixels(source, size),
        target=square_pixels(target, size) if target is not None and need_target else None,
        mask=torch.from_numpy(shrink_mask(mask, size)[None].copy()) if mask is not None else None,
    )


def to_unit(pixels: Tensor) -> Tensor:
    """Map uint8 pixels to float32 in [-1, 1]: 2 (x / 255) - 1."""
    return 2 * (pixels.float() / 255) - 1


def square_window(width: int, height: int, mask: Mask | None) -> Window:
    """Choose the largest square window that holds the mask's box, as central as possible.

    Args:
        width: The picture's width in pixels.
        height: The picture's height in pixels.
        mask: bool (height, width), not empty; None for the central window.

    Returns:
        (left, top, right, bottom); the whole picture where no square window holds the box.
    """
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    if mask is not None:
        columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
        x_min, x_max = int(columns[0]), int(columns[-1]) + 1
        y_min, y_max = int(rows[0]), int(rows[-1]) + 1
        if max(x_max - x_min, y_max - y_min) > side:
            return 0, 0, width, height
        left = min(max(left, x_max - side), x_min)
        top = min(max(top, y_max - side), y_min)
    return left, top, left + side, top + side


def square_pixels(picture: Image.Image, size: int) -> Tensor:
    """Squash an RGB picture to a square: (3, size, size), uint8."""
    pixels_HWC = np.array(picture.resize((size, size)))
    return torch.from_numpy(pixels_HWC).permute(2, 0, 1).contiguous()
