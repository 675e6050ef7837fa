"""The kernel Inception distance of two sets of features (Binkowski et al. 2018), in float64.

KID is the squared maximum mean discrepancy under the kernel k(x, y) = (x.y / W + 1)^3, estimated
without bias: other than FID's, its expectation does not depend on how many pictures there are.

The subsets take half of the pictures, drawn without replacement: then they scatter around the
value as the value does around the truth, where the two distributions differ; where they are equal,
the subsets scatter more, and an interval from them is too wide (Wu 1990, the delete-half
jackknife). Edited and target pictures of one sample are drawn together, because they are alike.

That likeness also makes the usual estimator low: it counts the kernel between the two pictures of
one sample as if they were strangers. `pair_bias` says by how much; at a few hundred pictures it can
be as large as the KID itself. The value stays what clean-fid and torch-fidelity give.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ric.errors import RicError
from ric.metrics.fid import paired_features

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

SUBSETS = 100
Z_95 = 1.959964  # of a normal distribution: 95 % lie within so many standard deviations


class Kid(NamedTuple):
    """A KID and what it is on subsets.

    Attributes:
        value: Over all pictures; below 0 where the sets are closer than chance would have them.
        subsets: (100,) over halves of them; empty with fewer than 4 pictures.
        n: How many pictures each set has.
        pair_bias: What the likeness within pairs adds to the value, 0 or below as a rule; the value
            less this is unbiased for pairs too.
    """

    value: float
    subsets: Array
    n: int
    pair_bias: float = 0.0

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the value."""
        return subset_interval(self.value, self.subsets, self.n)

    def minus(self, other: Kid) -> Kid:
        """Return the difference of two KIDs over the same samples, drawn with the same seed."""
        pair_bias = self.pair_bias - other.pair_bias
        return Kid(self.value - other.value, self.subsets - other.subsets, self.n, pair_bias)


def kid_from_features(
    edited: ArrayLike, target: ArrayLike, *, seed: int = 0, block: int = 2**18
) -> Kid:
    """Return the unbiased KID of two sets of as many pictures.

    The kernel is computed a block of rows at a time, once for the whole and for all subsets:
    6 N^2 W operations, and memory for `block` numbers, however many pictures there are.

    Args:
        edited: (N, W), one row a picture.
        target: (N, W), of the same samples in the same order.
        seed: Of the subsets.
        block: Numbers of a block; a row at the least.

    Raises:
        RicError: there are fewer than 2 pictures.
        ValueError: the sets differ in size.
    """
    a, b = paired_features(edited, target)
    count = len(a)
    if count < 2:
        raise RicError(f"KID needs 2 pictures or more on each side, and has {count}.")
    rows_at_once = max(1, block // count)
    members_SN = np.vstack([np.ones(count), _halves(count, seed)])
    within = _kernel_sums(a, a, members_SN, rows_at_once)
    within += _kernel_sums(b, b, members_SN, rows_at_once)
    across = _kernel_sums(a, b, members_SN, rows_at_once)
    on_diagonal = members_SN @ (_kernel((a * a).sum(axis=1), a) + _kernel((b * b).sum(axis=1), b))
    sizes = members_SN.sum(axis=1)
    values = (within - on_diagonal) / (sizes * (sizes - 1)) - 2 * across / sizes**2
    of_pairs = float(_kernel((a * b).sum(axis=1), a).sum())
    strangers = (across[0] - of_pairs) / (count * (count - 1))
    pair_bias = 2 * (strangers - of_pairs / count) / count
    return Kid(float(values[0]), values[1:], count, float(pair_bias))


def subset_interval(value: float, subsets: Array, count: int) -> tuple[float, float] | None:
    """Return the 95 % interval around `value` from what half of the samples give, or None."""
    if not len(subsets):
        return None
    half = count // 2
    # 1 where half is exactly half
    spread = float(np.std(subsets, ddof=1)) * np.sqrt(half / (count - half))
    return float(value - Z_95 * spread), float(value + Z_95 * spread)


def _halves(count: int, seed: int) -> Array:
    """Draw the subsets: (100, N) of 1 for what a subset has; (0, N) with fewer than 4 samples."""
    members_SN = np.zeros((SUBSETS if count >= 4 else 0, count))
    generator = np.random.default_rng(seed)
    for row_N in members_SN:
        row_N[generator.choice(count, count // 2, replace=False)] = 1
    return members_SN


def _kernel(products: Array, features: Array) -> Array:
    return (products / features.shape[1] + 1) ** 3


def _kernel_sums(a: Array, b: Array, members_SN: Array, rows_at_once: int) -> Array:
    """Return (S,): of each subset, the sum of the kernel over all its pairs of rows."""
    sums_S = np.zeros(len(members_SN))
    for start in range(0, len(a), rows_at_once):
        kernel_RN = _kernel(a[start : start + rows_at_once] @ b.T, a)
        of_block_SN = members_SN[:, start : start + rows_at_once] @ kernel_RN
        sums_S += (of_block_SN * members_SN).sum(axis=1)
    return sums_S
