"""Confidence intervals of means over samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

RESAMPLES = 1000


def bootstrap_interval(
    values: Sequence[float],
    *,
    weights: Sequence[float] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> tuple[float, float] | None:
    """Return the 95 % percentile interval of the mean of `values` (Efron 1979); None for one.

    Samples are drawn with replacement, as many as there are. Never use it on FID: a set with
    doubled pictures is a narrower set, and its FID is another number.

    Args:
        values: One number per sample, at least one.
        weights: The weight of each in the mean, above 0; None: all the same.
        seed: The same values and seed give the same interval.
        resamples: How many times the mean is drawn.
    """
    if len(values) < 2:
        return None  # a single sample has no spread
    drawn = np.asarray(values, np.float64)
    counts = None if weights is None else np.asarray(weights, np.float64)
    generator = np.random.default_rng(seed)
    means: list[float] = []
    # half a million draws at a time: all at once would take a gigabyte at 100,000 samples
    at_once = max(1, 500_000 // len(drawn))
    for start in range(0, resamples, at_once):
        count = min(at_once, resamples - start)
        picks = generator.integers(len(drawn), size=(count, len(drawn)))
        weighted = None if counts is None else counts[picks]
        means.extend(np.average(drawn[picks], axis=1, weights=weighted))
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)
