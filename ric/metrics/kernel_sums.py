"""Sums of a kernel over two sets and over halves of them, for KID and CMMD."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ric.metrics.intervals import Z_95

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Kernel = Callable[[Array, Array], Array]

SUBSETS = 100


def kernel_sums(
    kernel: Kernel, features: tuple[Array, Array], members: tuple[Array, Array], block: int
) -> Array:
    """Return (S,): for each subset, the sum of the kernel over all its pairs of rows.

    Args:
        kernel: Makes (R, M) of rows (R, W) and (M, W).
        features: (N, W) and (M, W).
        members: (S, N) and (S, M), 1 where a row belongs to a subset.
        block: Numbers that are in memory at once, but at least one row.
    """
    (a, b), (of_a_SN, of_b_SM) = features, members
    rows = max(1, block // len(b))
    sums_S = np.zeros(len(of_a_SN))
    for start in range(0, len(a), rows):
        kernel_RM = kernel(a[start : start + rows], b)
        of_block_SM = of_a_SN[:, start : start + rows] @ kernel_RM
        sums_S += (of_block_SM * of_b_SM).sum(axis=1)
    return sums_S


def draw_halves(count: int, subsets: int, generator: np.random.Generator) -> Array:
    """Draw the subsets: (S, N), 1 for a member."""
    members_SN = np.zeros((subsets, count))
    for row_N in members_SN:
        row_N[generator.choice(count, count // 2, replace=False)] = 1
    return members_SN


def subset_interval(value: float, subsets: Array, count: int) -> tuple[float, float] | None:
    """Return the 95 % interval around `value` from the values of half of `count`, or None."""
    if not len(subsets):
        return None
    half = count // 2
    # 1 where half is exactly half
    spread = float(np.std(subsets, ddof=1)) * np.sqrt(half / (count - half))
    return float(value - Z_95 * spread), float(value + Z_95 * spread)
