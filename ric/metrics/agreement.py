"""The agreement of two judges on the order of the same edits: rank correlations with ties."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return Spearman's rho, Pearson's correlation of the ranks; None where one list is constant.

    Equal values share the mean of their ranks.

    Args:
        first: One judge's scores.
        second: The other's, of the same edits in the same order.
    """
    return _pearson(_ranks(first), _ranks(second))


def kendall(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return Kendall's tau-b; None where one list is constant.

    Of all pairs of edits, those that both judges order alike less those that they order otherwise,
    over the geometric mean of the numbers of pairs that each judge does order.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    alike = ordered_a = ordered_b = 0
    for place in range(len(a)):
        signs_a, signs_b = np.sign(a[place + 1 :] - a[place]), np.sign(b[place + 1 :] - b[place])
        alike += int(signs_a @ signs_b)
        ordered_a += int(np.count_nonzero(signs_a))
        ordered_b += int(np.count_nonzero(signs_b))
    if not ordered_a or not ordered_b:
        return None
    return float(alike / np.sqrt(float(ordered_a) * float(ordered_b)))


def _ranks(values: Sequence[float]) -> Array:
    """Return ranks from 1; equal values have the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Array = (last - (counts - 1) / 2)[places]
    return ranks


def _pearson(a: Array, b: Array) -> float | None:
    a, b = a - a.mean(), b - b.mean()
    spread = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / spread if spread else None
