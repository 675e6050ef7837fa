"""Photographs behind a scene: those that come with scikit-image, in place of the sky or wall."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from ric.scenes.settings import View

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ric.scenes.bodies import Floats
    from ric.scenes.tracing import Rays

# name: what it shows, and (left, top, width) of the part used, in pixels; it is half as high.
PHOTOS = {
    "astronaut": ("a photograph of an astronaut before a flag", (0, 0, 512)),
    "chelsea": ("a photograph of a tabby cat", (0, 20, 451)),
    "coffee": ("a photograph of a cup of coffee on a table", (60, 50, 500)),
    "rocket": ("a photograph of a rocket on its launch pad", (60, 100, 520)),
}
_WIDE, _HIGH = 256, 128  # cached at this size: distant things may be soft
_SHOWN = 1.0  # of the screen from the top; the ground hides the rest


def behind(name: str, rays: Rays, view: View) -> View:
    """Return the view with a photograph where there is no ground."""
    photo = _photo(name)
    across = np.minimum(np.maximum((rays.u + 1) * (_WIDE / 2) - 0.5, 0), _WIDE - 1.001)
    down = np.minimum(np.maximum((rays.v + 1) * (_HIGH / _SHOWN) - 0.5, 0), _HIGH - 1.001)
    column, row = across.astype(np.intp), down.astype(np.intp)
    a, b = across - column.astype(np.float32), down - row.astype(np.float32)
    top = photo[:, row, column] * (1 - a) + photo[:, row, column + 1] * a
    bottom = photo[:, row + 1, column] * (1 - a) + photo[:, row + 1, column + 1] * a
    picture = top * (1 - b) + bottom * b
    colour = np.where(view.ground, view.colour, picture).astype(np.float32, copy=False)
    return View(colour, view.depth, view.ground)


@lru_cache(maxsize=len(PHOTOS))
def _photo(name: str) -> Floats:
    """Shrink a photograph's part to (3, _HIGH, _WIDE) by whole-number averages."""
    from skimage import data  # 0.2 s that drawn backgrounds need not pay

    left, top, width = PHOTOS[name][1]
    part = getattr(data, name)()[top : top + width // 2, left : left + width, :3].astype(np.int64)
    return _shrunk(_shrunk(part, _HIGH, 0), _WIDE, 1).transpose(2, 0, 1).astype(np.float32)


def _shrunk(values: NDArray[np.int64], count: int, axis: int) -> NDArray[np.int64]:
    """Average neighbours along an axis down to `count`; integers have no order of summing."""
    have = values.shape[axis]
    cells = np.arange(count)
    first = cells * have // count
    last = np.maximum((cells + 1) * have // count, first + 1)
    sums = np.cumsum(values, axis=axis)
    zero = np.zeros_like(sums.take([0], axis=axis))
    sums = np.concatenate([zero, sums], axis=axis)
    total = sums.take(last, axis=axis) - sums.take(first, axis=axis)
    shape = [1, 1, 1]
    shape[axis] = count
    return total // (last - first).reshape(shape)
