"""Differences of two shares of hits on the same samples, of which several may be of one photo.

A bootstrap of 3 hits in 3 against none is 1 to 1: shares need intervals that know of what they have
not seen.

- The interval adds the squares of both shares' Wilson intervals (Newcombe 1998, method 10), less
  what they have in common, with as many trials as say as much.
- p is that of an exact test of signs: if the editors are alike, each photo's net hits could as well
  be the other's. With one sample a photo it is McNemar's (1947) in its exact form. It is never
  below 0.05 where the interval holds 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import bdtr

from ric.metrics.intervals import effective_trials, photo_numbers, wilson_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]


class ShareDifference(NamedTuple):
    """A 95 % interval of a difference of shares, and the two-sided p that it is 0."""

    interval: tuple[float, float]
    p: float


def share_difference(
    ours: Sequence[float], theirs: Sequence[float], *, photos: Sequence[str] | None = None
) -> ShareDifference | None:
    """Compare the share of hits in `ours` with that in `theirs`; None of one photo alone.

    Args:
        ours: 1 or 0 for each sample.
        theirs: The same of the other editor, sample by sample.
        photos: The photo of each sample, by any name; None: each has its own.
    """
    hits, others = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    of_photo = photo_numbers(photos, len(hits))
    net_P: Array = np.bincount(of_photo, weights=hits - others).astype(np.float64)
    if len(net_P) < 2:
        return None
    trials = effective_trials(hits - others, of_photo)
    low, high = _interval(hits, others, trials)
    p = _p_of_signs(net_P)
    if low <= 0 <= high:  # of photos with several samples, two measures of one thing may disagree
        p = max(p, 0.05)
    return ShareDifference((low, high), p)


def _interval(hits: Array, others: Array, trials: float) -> tuple[float, float]:
    """Return Newcombe's interval, as if of `trials` samples."""
    one, other = float(hits.mean()), float(others.mean())
    low, high = wilson_interval(one, trials)
    other_low, other_high = wilson_interval(other, trials)
    likeness = _likeness(one, other, float((hits * others).mean()), trials)

    def reach(down: float, up: float) -> float:
        return float(np.sqrt(max(0.0, down**2 - 2 * likeness * down * up + up**2)))

    apart = one - other
    return (
        max(-1.0, apart - reach(one - low, other_high - other)),
        min(1.0, apart + reach(high - one, other - other_low)),
    )


def _likeness(one: float, other: float, both: float, trials: float) -> float:
    """Return the correlation of hits, corrected for continuity where it is above 0."""
    spread = float(np.sqrt(one * (1 - one) * other * (1 - other)))
    if not spread:
        return 0.0
    shared = both - one * other  # (ad - bc) / n^2 of the table of four
    if shared > 0:
        shared = max(0.0, shared - 1 / (2 * trials))
    return shared / spread


def _p_of_signs(net_P: Array) -> float:
    """Return how often random signs of each photo's net hits sum to as much, exactly."""
    sizes, counts = np.unique(np.abs(net_P[net_P != 0]).astype(int), return_counts=True)
    if not len(sizes):
        return 1.0
    chance_S: Array = np.ones(1)  # of each sum of those that are positive
    for size, count in zip(sizes, counts, strict=True):
        steps = np.arange(count + 1)
        of_size = np.zeros(size * count + 1)
        of_size[::size] = np.diff(bdtr(steps, count, 0.5), prepend=0.0)
        chance_S = np.convolve(chance_S, of_size)
    # the sum with signs is twice that of the positive ones less all
    total = len(chance_S) - 1
    least = (total - abs(round(net_P.sum()))) // 2
    return float(min(1.0, 2 * chance_S[: least + 1].sum()))
