"""Masks, the same for every editor: a window round the mask, and the edit put back inside it.

An edit takes the place of its source inside the mask, fades over `feather` pixels outside it, and
beyond them every pixel stays the source's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ric.method.region_box import tightest_box

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from ric.data.masks import Mask
    from ric.data.photograph import Box, Photograph


def window_round(mask: Mask, margin: int, least: int) -> Box:
    """Find the square to edit round a mask.

    Args:
        mask: (H, W), not empty.
        margin: Pixels round the mask's bounding box, on each side.
        least: The square's least side. A square of an editor's own size is edited at native
            resolution.

    Returns:
        A square centred on the mask, moved to lie in the picture, and cut where the picture is
        smaller.
    """
    left, top, right, bottom = tightest_box(mask)
    side = max(right - left + 2 * margin, bottom - top + 2 * margin, least)
    (left, right), (top, bottom) = (
        _segment(begin, end, side, within)
        for begin, end, within in ((left, right, mask.shape[1]), (top, bottom, mask.shape[0]))
    )
    return left, top, right, bottom


def put_back(
    edited: Image, into: Photograph, window: Box, mask: Mask | None, feather: int
) -> Photograph:
    """Put an edit into its picture, inside the mask and, fading, `feather` pixels round it.

    Args:
        edited: RGB in sRGB, of the window's size.
        into: The picture.
        window: Which part of it was edited; it holds the mask and the pixels round it.
        mask: (H, W) of the whole picture; None: the edit replaces the window.
        feather: Pixels, at least 0.
    """
    if mask is None:
        return into.with_edit(edited, window, None)
    box = _box_within(mask, feather)
    x, y = window[:2]
    inside = edited.crop((box[0] - x, box[1] - y, box[2] - x, box[3] - y))
    return into.with_edit(inside, box, fading(cut(mask, box), feather))


def fading(mask: Mask, feather: int) -> NDArray[np.float32]:
    """Give the edit's share in each pixel: 1 in the mask, falling to 0 over `feather` pixels.

    Args:
        mask: (H, W), not empty.
        feather: A pixel farther than this from the mask has a share of exactly 0.
    """
    if feather == 0:
        return mask.astype(np.float32)
    from scipy import ndimage  # 0.2 s that hard masks need not pay

    away = ndimage.distance_transform_edt(~mask)
    return np.clip(1 - away / (feather + 1), 0, 1, dtype=np.float32) * (away <= feather)


def feathered(mask: Mask, feather: int) -> Mask:
    """Mark every pixel in which an edit has a share: the mask, and `feather` pixels round it."""
    if feather == 0:
        return mask
    left, top, right, bottom = box = _box_within(mask, feather)
    reached = np.zeros_like(mask)
    reached[top:bottom, left:right] = fading(cut(mask, box), feather) > 0
    return reached


def cut(mask: Mask, box: Box) -> Mask:
    """Cut a box out of a mask."""
    left, top, right, bottom = box
    return mask[top:bottom, left:right]


def _box_within(mask: Mask, feather: int) -> Box:
    """Return a mask's box, grown by the feather within the picture."""
    height, width = mask.shape
    left, top, right, bottom = tightest_box(mask)
    return (
        max(left - feather, 0),
        max(top - feather, 0),
        min(right + feather, width),
        min(bottom + feather, height),
    )


def _segment(begin: int, end: int, length: int, within: int) -> tuple[int, int]:
    """Lengthen a segment evenly to `length`, and move it into [0, within)."""
    length = min(length, within)
    start = min(max((begin + end - length) // 2, 0), within - length)
    return start, start + length
