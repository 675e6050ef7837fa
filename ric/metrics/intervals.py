"""Confidence intervals of means over samples, of which several may be of one photo.

Edits of one photo are alike: hard for an editor, or easy. Counted as if they were strangers, they
make an interval too narrow, so photos are what counts, each with all of its samples.

- A share, of hits among hits and misses: Wilson's interval (1927), with as many trials as say
  as much (`effective_trials`).
- Any other mean, weighted or not: Student's t. Its standard error is the jackknife's, which leaves
  out a photo at a time (CR3 of Bell & McCaffrey 2002), and it has one degree of freedom less than
  there are photos; or than say as much, where some weigh more than others (Kish 1965). Without
  weights and repeated photos it is the textbook's.
- Most scores are skewed: a few edits fail badly. Hall's transformation of t (1992) makes up for the
  skew, as a bootstrap of t would (the two cover alike), and gives one end further out. Each end is
  the outer one of Student's and Hall's: where the tails are long, Hall's alone are too near.

docs/exactness.md has the coverage of each, by simulation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

Z_95 = 1.959964  # standard deviations that hold 95 % of a normal distribution
ROUNDING = 1e-9  # of a difference: a narrower interval has no width


def mean_interval(
    values: Sequence[float],
    *,
    weights: Sequence[float] | None = None,
    photos: Sequence[str] | None = None,
    share: bool = False,
) -> tuple[float, float] | None:
    """Return the 95 % interval of the mean of `values`; None of one photo alone.

    Args:
        values: One number per sample, at least one.
        weights: The weight of each in the mean, above 0; None: all the same.
        photos: The photo of each, by any name; None: each has its own.
        share: Whether the values are hits and misses, 1 and 0, and the mean a share of hits;
            without weights.
    """
    told = _of_photos(values, weights, photos)
    if told is None:
        return None
    if share:
        drawn = np.asarray(values, np.float64)
        return wilson_interval(
            told.value, effective_trials(drawn, photo_numbers(photos, len(drawn)))
        )
    return told.interval


def mean_p(
    values: Sequence[float],
    *,
    weights: Sequence[float] | None = None,
    photos: Sequence[str] | None = None,
) -> float | None:
    """Return the two-sided p that the mean of `values` is 0, by `mean_interval`'s t.

    Arguments as there; None of one photo alone.
    """
    told = _of_photos(values, weights, photos)
    return None if told is None else told.p


class _Mean(NamedTuple):
    """A mean of photos.

    Attributes:
        value: The mean.
        error: Its standard error.
        skew: Of its distribution: that of photos over the root of their number.
        freedom: Degrees of freedom of the error.
    """

    value: float
    error: float
    skew: float
    freedom: float

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval."""
        reach = float(stdtrit(self.freedom, 0.975))
        down, up = reach, reach
        if abs(self.skew) > ROUNDING:  # solve Hall's t = +-reach
            roots = np.cbrt(1 + self.skew * (np.array([reach, -reach]) - self.skew / 6))
            of_hall = 3 / self.skew * (roots - 1)
            down, up = max(reach, float(of_hall[0])), max(reach, -float(of_hall[1]))
        return self.value - down * self.error, self.value + up * self.error

    @property
    def p(self) -> float:
        """The two-sided p that it is 0; below 0.05 exactly where the interval excludes 0."""
        if not self.value:
            return 1.0
        if self.error <= ROUNDING * abs(self.value):
            return _p_of_signs(self.freedom)
        t, skew = self.value / self.error, self.skew
        of_hall = t + skew * t**2 / 3 + skew**2 * t**3 / 27 + skew / 6
        return float(2 * stdtr(self.freedom, -min(abs(t), abs(of_hall))))


def _of_photos(
    values: Sequence[float], weights: Sequence[float] | None, photos: Sequence[str] | None
) -> _Mean | None:
    """Return the mean of samples, weighted or not; None of one photo alone."""
    drawn = np.asarray(values, np.float64)
    sizes = np.ones(len(drawn)) if weights is None else np.asarray(weights, np.float64)
    of_photo = photo_numbers(photos, len(drawn))
    sums_P: Array = np.bincount(of_photo, weights=sizes * drawn).astype(np.float64)
    sizes_P: Array = np.bincount(of_photo, weights=sizes).astype(np.float64)
    if len(sums_P) < 2:
        return None
    mean = float(sums_P.sum() / sizes_P.sum())
    moved_P = _moved(mean, sums_P, sizes_P)
    squares = float(np.square(moved_P).sum())
    skew = float((moved_P**3).sum()) / squares**1.5 if squares > 0 else 0.0
    # one photo that outweighs all others leaves less than one degree, and an interval of any width
    freedom = max(1.0, float(sizes_P.sum() ** 2 / np.square(sizes_P).sum()) - 1)
    return _Mean(mean, _error(moved_P), skew, freedom)


def effective_trials(values: Array, of_photo: NDArray[np.int64]) -> float:
    """Return of how many samples, each of its own photo, the mean would be as certain.

    As many as there are if samples of one photo are strangers; if they are all alike, as many as
    there are photos, or fewer where some have more samples than others. In between it is told by
    how photos' sums vary (Korn & Graubard 1998).

    Args:
        values: One number per sample.
        of_photo: The photo of each, from 0.
    """
    sizes_P: Array = np.bincount(of_photo).astype(np.float64)
    fewest = float(len(values) ** 2 / np.square(sizes_P).sum())
    sums_P: Array = np.bincount(of_photo, weights=values).astype(np.float64)
    error = _error(_moved(float(values.mean()), sums_P, sizes_P))
    if error <= ROUNDING:
        return fewest
    surer = float(stdtrit(len(sizes_P) - 1, 0.975)) / Z_95  # few photos tell their error badly
    return float(np.clip(values.var() / (surer * error) ** 2, fewest, len(values)))


def wilson_interval(share: float, trials: float) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share of `trials`, which need not be a whole number."""
    square = Z_95**2 / trials
    middle = (share + square / 2) / (1 + square)
    reach = Z_95 / (1 + square) * (share * (1 - share) / trials + square / (4 * trials)) ** 0.5
    return max(0.0, middle - reach), min(1.0, middle + reach)


def p_value(value: float, interval: tuple[float, float], freedom: float) -> float:
    """Return the two-sided p of a difference from its 95 % interval.

    It is below 0.05 exactly where the interval excludes 0. Its tail is Student's, with the spread
    of that side of the interval: Holm's correction asks for 5 % shared among all differences, which
    a normal tail reaches far too soon where photos are few. An interval without width, of photos
    that all differ alike, says no more than that all have one sign: then it is the sign test's.

    Args:
        value: The difference.
        interval: Its interval.
        freedom: Degrees of freedom: the photos, or the groups of a jackknife, less one.
    """
    reach = abs((interval[0] if value > 0 else interval[1]) - value)
    if not value:
        return 1.0
    if reach <= ROUNDING * abs(value):
        return _p_of_signs(freedom)
    return float(2 * stdtr(freedom, -abs(value) / reach * stdtrit(freedom, 0.975)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p adjusted for their number, in the order given (Holm 1979).

    Those below 0.05 are, together, wrong in at most 5 % of tables where nothing differs.
    """
    order = np.argsort(p_values)
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def photo_numbers(photos: Sequence[str] | None, count: int) -> NDArray[np.int64]:
    """Number the photos of `count` samples from 0 as they first appear; None: each has its own."""
    if photos is None:
        return np.arange(count)
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(photo, len(numbers)) for photo in photos], np.int64)


def _p_of_signs(freedom: float) -> float:
    """Return the p of photos that all differ alike, which says no more than that of their signs."""
    return float(0.5**freedom)


def _moved(mean: float, sums_P: Array, sizes_P: Array) -> Array:
    """Return (P,): how far the mean falls when each of two photos or more is left out."""
    moved_P: Array = (sums_P - mean * sizes_P) / (sizes_P.sum() - sizes_P)
    return moved_P


def _error(moved_P: Array) -> float:
    """Return the jackknife's standard error."""
    count = len(moved_P)
    return float(np.sqrt((count - 1) / count * np.square(moved_P).sum()))
