"""Colour profiles that mean other colours than sRGB's."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ric.data.images import MAX_PIXELS, as_srgb, opened, profile_for

if TYPE_CHECKING:
    from ric.data.images import PictureSource

MOST_APART = 4  # levels by which profiles that are called sRGB differ from one another
_MODE_OF = {"L": "L", "LA": "L", "1": "L", "I": "L", "I;16": "L", "I;16B": "L", "CMYK": "CMYK"}


def has_other_profile(source: PictureSource, *, max_pixels: int = MAX_PIXELS) -> bool:
    """Tell whether a picture's profile gives its levels other colours than sRGB does.

    A profile that is broken or of another kind of picture counts for nothing, as in `open_image`.

    Raises:
        ImageError: As `open_image`, except that broken pixels go unnoticed.
    """
    with opened(source, max_pixels) as image:
        icc = image.info.get("icc_profile")
        return bool(icc) and _means_other_colours(icc, _MODE_OF.get(image.mode, "RGB"))


@lru_cache(maxsize=64)
def _means_other_colours(icc: bytes, mode: str) -> bool:
    """Tell whether a profile moves any colour of a coarse grid by over `MOST_APART` levels."""
    if profile_for(mode, icc) is None:
        return False
    bands = len(Image.new(mode, (1, 1)).getbands())
    steps = np.linspace(0, 255, 6).astype(np.uint8)
    levels = np.stack(np.meshgrid(*[steps] * bands), axis=-1).reshape(1, -1, bands)
    grid = Image.frombytes(mode, (levels.shape[1], 1), levels.tobytes())
    alone = np.asarray(as_srgb(grid), dtype=int)
    grid.info["icc_profile"] = icc
    return bool(np.abs(np.asarray(as_srgb(grid), dtype=int) - alone).max() > MOST_APART)
