"""The views of a picture: the whole of it, and tiles of it at the best resolution (VL2, Sec. 2.1).

A view is padded with the grey that the network's scaling makes zero, as nearly as 8 bits allow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import ImageOps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image
    from torch import Tensor

GREY = (127, 127, 127)


def best_resolution(
    size: tuple[int, int], resolutions: Sequence[tuple[int, int]]
) -> tuple[int, int]:
    """Choose the resolution that keeps most of a picture's pixels, and of those the least padded.

    Args:
        size: The picture's width and height.
        resolutions: Those to choose from, (width, height); of equally good ones the first is taken.
    """

    def goodness(resolution: tuple[int, int]) -> tuple[int, int]:
        scale = min(resolution[0] / size[0], resolution[1] / size[1])
        resized = int(size[0] * scale) * int(size[1] * scale)
        # enlarging a picture adds no pixels
        kept = min(resized, size[0] * size[1])
        return kept, kept - resolution[0] * resolution[1]

    return max(resolutions, key=goodness)


def views(image: Image, resolution: tuple[int, int], tile: int) -> Tensor:
    """Pad a picture to a square and to a resolution, and cut the latter into tiles.

    Args:
        image: In RGB.
        resolution: A multiple of `tile` in width and height.
        tile: The side of a view in pixels.

    Returns:
        (1 + N, 3, tile, tile) in [-1, 1]: the whole picture, then the tiles row by row.

    Raises:
        ValueError: The picture is so narrow that its tiles would be grey alone.
    """
    width, height = resolution
    scale = min(width / image.width, height / image.height)
    if round(min(image.size) * scale) < 1:
        raise ValueError(f"{image.width} x {image.height} pixels are too narrow: tiles show none")
    whole = ImageOps.pad(image, (tile, tile), color=GREY)
    padded = ImageOps.pad(image, resolution, color=GREY)
    corners = [(x, y) for y in range(0, height, tile) for x in range(0, width, tile)]
    cut = [padded.crop((x, y, x + tile, y + tile)) for x, y in corners]
    pixels = torch.from_numpy(np.stack([np.asarray(view) for view in (whole, *cut)]))
    return pixels.permute(0, 3, 1, 2).float().div(255).sub(0.5).div(0.5)
