"""The kernel Inception distance of two sets of features (Binkowski et al. 2018), in float64.

KID is the squared maximum mean discrepancy under the kernel k(x, y) = (x.y / W + 1)^3, estimated
without bias: unlike FID's, its expectation does not depend on the number of pictures.

The subsets take half of the pictures, drawn without replacement: then they scatter around the
value as the value does around the truth, where the two distributions differ; where they are equal,
the subsets scatter more, and an interval from them is too wide (Wu 1990, the delete-half
jackknife). Edited and target pictures of one sample are drawn together, because they are alike,
and so are all samples of one photo.

That likeness also makes the usual estimator too low: it counts the kernel between the two pictures
of one sample as if they were unrelated. The `bias` says by how much; at a few hundred pictures it
can be as large as the KID itself. The value stays that of clean-fid and torch-fidelity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ric.errors import RicError
from ric.metrics.fid import two_sets
from ric.metrics.kernel_sums import KernelDistance, draw_whole_and_halves, kernel_sums

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]


def kid_from_features(
    edited: ArrayLike,
    target: ArrayLike,
    *,
    seed: int = 0,
    paired: bool = True,
    photos: Sequence[str] | None = None,
    block: int = 2**18,
) -> KernelDistance:
    """Return the unbiased KID of two sets of pictures.

    The kernel is computed a block of rows at a time, once for the whole and for all subsets:
    6 N^2 W operations, and memory for `block` numbers, however many pictures there are.

    Args:
        edited: (N, W), one row per picture.
        target: (N, W), of the same samples in the same order; or any (M, W), unless `paired`.
        seed: Decides the subsets.
        paired: Whether a subset has both pictures of a sample; otherwise the halves of each set
            are drawn independently.
        photos: The photo of each edited picture: a subset has all of one, or none.
        block: Numbers in a block, which is at least one row.

    Returns:
        The KID: below 0 where the sets are closer than chance would have them. Its bias is what the
        likeness within pairs adds, mostly 0 or below; 0 for unpaired sets.

    Raises:
        RicError: a set has fewer than 2 pictures.
        ValueError: paired sets differ in size.
    """
    a, b = two_sets(edited, target, paired=paired)
    count = len(a)
    if min(count, len(b)) < 2:
        counts = f"{count}" if paired else f"{count} and {len(b)}"
        raise RicError(f"KID needs 2 pictures or more on each side, and has {counts}.")
    of_a, of_b, held = draw_whole_and_halves(count, len(b), photos, seed=seed, paired=paired)
    across = kernel_sums(_kernel, (a, b), (of_a, of_b), block)
    values = _mean_within(a, of_a, block) + _mean_within(b, of_b, block)
    values -= 2 * across / (of_a.sum(axis=1) * of_b.sum(axis=1))
    if not paired:
        return KernelDistance(float(values[0]), values[1:], count, held)
    of_pairs = float(_kernel_of_rows(a, b).sum())
    strangers = (across[0] - of_pairs) / (count * (count - 1))
    pair_bias = 2 * (strangers - of_pairs / count) / count
    return KernelDistance(float(values[0]), values[1:], count, held, float(pair_bias))


def _kernel(a: Array, b: Array) -> Array:
    """Return (R, M) of rows (R, W) and (M, W)."""
    return (a @ b.T / a.shape[1] + 1) ** 3


def _kernel_of_rows(a: Array, b: Array) -> Array:
    """Return (N,), of each row of (N, W) and the same one of (N, W)."""
    return ((a * b).sum(axis=1) / a.shape[1] + 1) ** 3


def _mean_within(features: Array, members_SN: Array, block: int) -> Array:
    """Return (S,): for each subset, the mean kernel over its pairs of different rows."""
    sums = kernel_sums(_kernel, (features, features), (members_SN, members_SN), block)
    on_diagonal = members_SN @ _kernel_of_rows(features, features)
    sizes = members_SN.sum(axis=1)
    return (sums - on_diagonal) / (sizes * (sizes - 1))
