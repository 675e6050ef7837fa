"""Drift of an output against its source: shift, scale and colour where nothing should change.

Shift and scale are fitted outside the mask, by Gauss and Newton's method on grey levels, from
coarse to fine (Lucas and Kanade 1981), beginning with phase correlation. A gain and an offset of
the levels are fitted beside them, and places that do not fit weigh less, so that neither a tint nor
an edit without a mask moves them.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image
from scipy.ndimage import affine_transform, binary_dilation, gaussian_filter
from skimage.registration import phase_cross_correlation
from skimage.transform import rescale, resize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ric.metrics.pairs import Pair

    Plane = NDArray[np.float64]

LEVELS = (4, 2, 1)  # by which the sides are divided, from coarse to fine
STEPS = 15  # at most, on each level
SMALLEST = 32  # pixels of the shorter side, below which nothing is fitted
FARTHEST = 0.25  # of the side: a larger shift, or change of scale, is no drift but another picture
LEAST_ALIKE = 0.5  # correlation of grey levels, below which the pictures show different things
BORDER = 3  # pixels beside the mask and the picture's edge that do not count


class Drift(NamedTuple):
    """The place in an output of what the source shows at x: centre + scale (x - centre) + shift.

    Attributes:
        right: Shift in pixels of the source.
        down: Likewise.
        scale: 1 where nothing is larger or smaller.
    """

    right: float = 0.0
    down: float = 0.0
    scale: float = 1.0


def drift_of(
    edited: Image.Image, source: Image.Image, mask: Image.Image | None = None
) -> Drift | None:
    """Measure how an output lies on its source.

    Args:
        edited: At the source's size.
        source: The picture before the edit.
        mask: White where the edit belongs; None: all of the picture counts.

    Returns:
        None where the pictures are too small, the mask leaves too little, or they do not match.
    """
    ours, theirs = _grey(edited), _grey(source)
    counted = ~_widened(mask, theirs.shape)
    if min(theirs.shape) < SMALLEST or counted.sum() < SMALLEST**2:
        return None
    starts = dict.fromkeys((Drift(), _coarse_shift(ours, theirs, counted)))
    found = [_fitted(ours, theirs, counted, start) for start in starts]
    # a fit may end in another minimum; then doing nothing, or the coarse shift, matches better
    drift = min([*found, *starts], key=lambda one: _misfit(ours, theirs, counted, one))
    far = max(abs(drift.right) / theirs.shape[1], abs(drift.down) / theirs.shape[0])
    if max(far, abs(drift.scale - 1)) > FARTHEST or not _match(ours, theirs, counted, drift):
        return None
    return drift


def put_back(edited: Image.Image, source: Image.Image, drift: Drift) -> Image.Image:
    """Move an output back onto its source, which fills the borders that it does not cover."""
    planes = np.asarray(edited, dtype=float).transpose(2, 0, 1)
    moved, covered = zip(*(_moved(plane, drift) for plane in planes), strict=True)
    # rounded: Pillow's own transform cuts decimals off, which darkens a picture by half a level
    placed = np.stack(moved, axis=-1).round().clip(0, 255).astype(np.uint8)
    pixels = np.where(covered[0][..., None], placed, np.asarray(source))
    return Image.fromarray(pixels)


def _grey(image: Image.Image) -> Plane:
    return np.asarray(image.convert("RGB"), dtype=float).mean(axis=2) / 255


def _widened(mask: Image.Image | None, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return where the mask or the picture's edge is near, bool (H, W)."""
    near = np.ones(shape, dtype=bool)
    near[BORDER:-BORDER, BORDER:-BORDER] = False
    if mask is not None:
        near |= binary_dilation(np.asarray(mask.convert("L")) >= 128, iterations=BORDER)
    return near


def _smaller(plane: Plane, by: int) -> Plane:
    small = rescale(plane, 1 / by, anti_aliasing=True) if by > 1 else plane
    return gaussian_filter(small, 1.0)


def _match(ours: Plane, theirs: Plane, counted: NDArray[np.bool_], drift: Drift) -> bool:
    """Tell whether two pictures show the same where they count, once moved."""
    moved, inside = _moved(ours, drift)
    part = counted & inside
    sides = moved[part], theirs[part]
    if min(map(np.std, sides)) < 1e-6:  # of one grey
        return False
    return float(np.corrcoef(*sides)[0, 1]) > LEAST_ALIKE


def _coarse_shift(ours: Plane, theirs: Plane, counted: NDArray[np.bool_]) -> Drift:
    """Find the shift by phase correlation, of what counts alone and fading to the borders."""
    window = np.outer(*(np.hanning(side) for side in theirs.shape))
    planes = [(plane - plane[counted].mean()) * window * counted for plane in (ours, theirs)]
    if not all(plane.any() for plane in planes):
        return Drift()
    (down, right), *_ = phase_cross_correlation(planes[0], planes[1], normalization=None)
    found = Drift(float(right), float(down))
    # an empty picture, or one of other contents, has a maximum too
    better = _misfit(ours, theirs, counted, found) < _misfit(ours, theirs, counted, Drift())
    return found if better else Drift()


def _misfit(ours: Plane, theirs: Plane, counted: NDArray[np.bool_], drift: Drift) -> float:
    """Return the mean difference of levels where they count, less its median: a tint."""
    moved, inside = _moved(ours, drift)
    apart = (moved - theirs)[counted & inside]
    return float(np.abs(apart - np.median(apart)).mean()) if apart.size else np.inf


def _moved(ours: Plane, drift: Drift) -> tuple[Plane, NDArray[np.bool_]]:
    """Return the output moved onto the source, and where it covers it."""
    shape = np.array(ours.shape)
    centre = (shape - 1) / 2
    offset = centre * (1 - drift.scale) + (drift.down, drift.right)
    moved = affine_transform(ours, [drift.scale] * 2, offset, order=3, mode="nearest")
    ends = [offset[axis] + drift.scale * np.arange(shape[axis]) for axis in (0, 1)]
    rows, columns = ((end >= 1) & (end <= side - 2) for end, side in zip(ends, shape, strict=True))
    return moved, rows[:, None] & columns


def _fitted(ours: Plane, theirs: Plane, counted: NDArray[np.bool_], start: Drift) -> Drift:
    """Fit shift and scale from coarse to fine, beginning at `start`."""
    drift = start
    for by in LEVELS:
        if min(theirs.shape) // by >= SMALLEST:
            small = [_smaller(plane, by) for plane in (ours, theirs)]
            part = resize(counted.astype(float), small[0].shape, order=1) > 0.99
            drift = _refined(small[0], small[1], part, drift, by)
    return drift


def _refined(
    ours: Plane, theirs: Plane, counted: NDArray[np.bool_], drift: Drift, by: int
) -> Drift:
    """Fit shift and scale, with a gain and an offset of the levels, `by` times smaller."""
    now = np.array([drift.right / by, drift.down / by, drift.scale])
    rows, columns = (np.arange(side) - (side - 1) / 2 for side in theirs.shape)
    for _ in range(STEPS):
        moved, inside = _moved(ours, Drift(*now))
        slope_down, slope_right = (slope / now[2] for slope in np.gradient(moved))
        outward = slope_right * columns + slope_down * rows[:, None]
        part = counted & inside
        if part.sum() < SMALLEST:
            return Drift()
        terms = np.stack(
            [slope_right[part], slope_down[part], outward[part], -theirs[part]], axis=1
        )
        terms = np.column_stack([terms, -np.ones(len(terms))])
        apart = (moved - theirs)[part]
        apart = np.abs(apart - np.median(apart))
        weights = 1 / (1 + (apart / (2 * np.median(apart) + 1e-3)) ** 2)
        weighted = terms * weights[:, None]
        step, *_ = np.linalg.lstsq(weighted.T @ terms, -weighted.T @ moved[part], rcond=None)
        now = now + step[:3]
        if np.abs(step[:2]).max() < 1e-3 and abs(step[2]) < 1e-5:
            break
    return Drift(float(now[0] * by), float(now[1] * by), float(now[2]))


_last = threading.local()


def _drift_of_pair(pair: Pair) -> Drift | None:
    """Return a pair's drift, measured once for the metrics that follow each other on it."""
    pictures = (pair.edited, pair.source, pair.mask)
    known = getattr(_last, "known", None)
    if known is None or any(a is not b for a, b in zip(known[0], pictures, strict=True)):
        known = _last.known = (pictures, drift_of(*pictures))
    return known[1]


class Shift:
    """Distance by which the picture outside the mask has moved, in pixels of the source."""

    definition = "shift outside the mask in pixels, by least squares"
    needs = "source"

    def __init__(self, model: None = None, config: Any = None, device: Any = None) -> None:
        """Need nothing."""

    def score(self, pair: Pair, reference: Image.Image | None) -> float | None:
        """Return the length of the shift; None where it cannot be measured."""
        drift = _drift_of_pair(pair)
        return None if drift is None else float(np.hypot(drift.right, drift.down))


class ScaleDrift(Shift):
    """Change in size of the picture outside the mask."""

    definition = "change of scale outside the mask in percent, by least squares"

    def score(self, pair: Pair, reference: Image.Image | None) -> float | None:
        """Return the absolute change in percent; None where it cannot be measured."""
        drift = _drift_of_pair(pair)
        return None if drift is None else abs(drift.scale - 1) * 100


class ColourDrift(Shift):
    """Change of the mean colour outside the mask."""

    definition = (
        "absolute difference of the mean level outside the mask, after the output is put back onto"
        " its source, mean over red, green and blue, in [0, 1]"
    )

    def score(self, pair: Pair, reference: Image.Image | None) -> float | None:
        """Return the difference; None where the pictures do not match."""
        drift = _drift_of_pair(pair)
        if drift is None:
            return None
        placed = put_back(pair.edited, pair.source, drift)
        apart = np.asarray(placed, dtype=float) - np.asarray(pair.source, dtype=float)
        part = ~_widened(pair.mask, apart.shape[:2])
        return float(np.abs(apart[part].mean(axis=0)).mean() / 255)
