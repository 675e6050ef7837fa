"""The edited region: a mask's tightest box, and its crop (Sec. 3.2, Eq. 6).

Choice 2, boxes: the paper crops by the tightest box and says nothing of thin or empty masks. A box
of three pixels blown up to CLIP's input is noise, so a box is grown about its centre to at least
1/16 of the image's side and shifted, never shrunk, to stay inside. An empty mask is an error for
that sample; it never silently becomes the whole image. Boxes are half-open: x_max and y_max are
the first column and row outside.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ric.errors import RicError

Box = tuple[int, int, int, int]  # x_min, y_min, x_max, y_max in pixels, half-open


def tightest_box(mask: Any) -> Box:
    """Find the smallest box that holds every edited pixel of a mask (Sec. 3.2, b).

    Args:
        mask: M (H, W), a torch tensor or numpy array of any dtype; whatever is not 0 is edited.

    Returns:
        (x_min, y_min, x_max, y_max), half-open: `mask[y_min:y_max, x_min:x_max]` holds the region.

    Raises:
        RicError: The mask is not (H, W), or no pixel of it is set.
    """
    # compare before converting: torch takes neither a flipped numpy view nor most unsigned types
    edited_HW = torch.as_tensor(mask != 0)
    if edited_HW.ndim != 2:
        raise RicError(f"A mask is (height, width), but this one is {tuple(edited_HW.shape)}.")
    rows = edited_HW.any(1).nonzero()
    columns = edited_HW.any(0).nonzero()
    if len(rows) == 0:
        height, width = edited_HW.shape
        raise RicError(
            f"The mask ({width}x{height}) is empty: no pixel of it is set.",
            "White marks the edited region; give a mask with at least one white pixel.",
        )
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def grow_box(box: Box, height: int, width: int, minimum: float = 1 / 16) -> Box:
    """Grow a box about its centre until each side is `minimum` of the image's (choice 2).

    Args:
        box: (x_min, y_min, x_max, y_max), half-open.
        height: The image's height in pixels.
        width: The image's width in pixels.
        minimum: The smallest share of the image's side a box may span, in (0, 1].

    Returns:
        A box inside the image that holds all of `box` that lies inside the image.

    Raises:
        RicError: No part of `box` lies inside the image.
    """
    x_min, y_min, x_max, y_max = box
    x_min, x_max = max(x_min, 0), min(x_max, width)
    y_min, y_max = max(y_min, 0), min(y_max, height)
    if x_min >= x_max or y_min >= y_max:
        raise RicError(f"The box {tuple(box)} holds no pixel of the {width}x{height} image.")
    x_min, x_max = _grow_side(x_min, x_max, width, minimum)
    y_min, y_max = _grow_side(y_min, y_max, height, minimum)
    return x_min, y_min, x_max, y_max


def _grow_side(low: int, high: int, side: int, minimum: float) -> tuple[int, int]:
    """Widen [low, high) evenly to at least `minimum` of `side`, then shift it inside."""
    span = max(high - low, math.ceil(minimum * side))
    low = (low + high - span) // 2
    low = min(max(low, 0), side - span)
    return low, low + span


def crop(image: Tensor, box: Box) -> Tensor:
    """Cut a box out of an image (Eq. 6), differentiably: a view of it.

    Args:
        image: x0_hat (C, H, W) or (B, C, H, W); one box for all of a batch.
        box: (x_min, y_min, x_max, y_max), half-open, inside the image.

    Returns:
        x0_hat^b (C, y_max - y_min, x_max - x_min), with the batch in front where there was one.

    Raises:
        RicError: The box is empty or leaves the image; slicing alone would not notice.
    """
    x_min, y_min, x_max, y_max = box
    height, width = image.shape[-2:]
    if not (0 <= x_min < x_max <= width and 0 <= y_min < y_max <= height):
        raise RicError(
            f"The box {tuple(box)} is empty or leaves the {width}x{height} image.",
            "Give boxes in pixels of the image they cut; grow_box keeps a box inside.",
        )
    return image[..., y_min:y_max, x_min:x_max]  # Eq. 6
