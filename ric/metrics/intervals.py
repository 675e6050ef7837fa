"""Confidence intervals of means over samples, of which several may be of one photo.

Edits of one photo are alike: hard for an editor, or easy. Counted as if they were strangers, they
make an interval too narrow, so photos are drawn instead, each with all of its samples (the cluster
bootstrap; Cameron, Gelbach & Miller 2008).

- A share, of hits among hits and misses: Wilson's interval (1927), with as many trials as say
  as much (`effective_trials`). A bootstrap of 0 of 60 is 0 to 0.
- Fewer than 30 photos: Student's t with the cluster-robust standard error, since the bootstrap is
  then too narrow (88 % of 10 samples).
- Otherwise: the percentile bootstrap (Efron 1979).

docs/scoring.md has the coverage of each, by simulation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import stdtr, stdtrit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

RESAMPLES = 1000
FEW = 30  # photos, below which Student's t replaces the bootstrap
Z_95 = 1.959964  # standard deviations that hold 95 % of a normal distribution
ROUNDING = 1e-9  # of a difference: a narrower interval has no width


def mean_interval(
    values: Sequence[float],
    *,
    weights: Sequence[float] | None = None,
    photos: Sequence[str] | None = None,
    share: bool = False,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> tuple[float, float] | None:
    """Return the 95 % interval of the mean of `values`; None of one photo alone.

    Never use it on FID: a set with doubled pictures is a narrower set, and its FID is another
    number.

    Args:
        values: One number per sample, at least one.
        weights: The weight of each in the mean, above 0; None: all the same.
        photos: The photo of each, by any name; None: each has its own.
        share: Whether the values are hits and misses, 1 and 0, and the mean a share of hits;
            without weights.
        seed: The same values and seed give the same interval.
        resamples: How many times the bootstrap draws.
    """
    drawn = np.asarray(values, np.float64)
    sizes = np.ones(len(drawn)) if weights is None else np.asarray(weights, np.float64)
    of_photo = photo_numbers(photos, len(drawn))
    sums_P: Array = np.bincount(of_photo, weights=sizes * drawn).astype(np.float64)
    sizes_P: Array = np.bincount(of_photo, weights=sizes).astype(np.float64)
    mean = float(sums_P.sum() / sizes_P.sum())
    if len(sums_P) < 2:
        return None
    if share:
        return wilson_interval(mean, effective_trials(drawn, of_photo))
    if len(sums_P) < FEW:
        return _students_interval(mean, sums_P, sizes_P)
    return _bootstrap_interval(sums_P, sizes_P, seed, resamples)


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
    error = _standard_error(float(values.mean()), sums_P, sizes_P)
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
        return float(0.5**freedom)
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


def _students_interval(mean: float, sums_P: Array, sizes_P: Array) -> tuple[float, float]:
    """Return the interval by Student's t; without repeated photos it is the textbook's."""
    reach = float(stdtrit(len(sums_P) - 1, 0.975)) * _standard_error(mean, sums_P, sizes_P)
    return mean - reach, mean + reach


def _standard_error(mean: float, sums_P: Array, sizes_P: Array) -> float:
    """Return the cluster-robust standard error of a mean of two photos or more."""
    count = len(sums_P)
    squares = np.square(sums_P - mean * sizes_P).sum()
    return float(np.sqrt(count / (count - 1) * squares)) / float(sizes_P.sum())


def _bootstrap_interval(
    sums_P: Array, sizes_P: Array, seed: int, resamples: int
) -> tuple[float, float]:
    """Return the percentile interval; photos are drawn with replacement, as many as there are."""
    generator = np.random.default_rng(seed)
    means: list[float] = []
    # half a million draws at a time: all at once would take a gigabyte at 100,000 samples
    at_once = max(1, 500_000 // len(sums_P))
    for start in range(0, resamples, at_once):
        count = min(at_once, resamples - start)
        picks = generator.integers(len(sums_P), size=(count, len(sums_P)))
        means.extend(sums_P[picks].sum(axis=1) / sizes_P[picks].sum(axis=1))
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)
