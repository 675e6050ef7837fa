"""CMMD: the maximum mean discrepancy of two sets of CLIP's embeddings (Jayasumana et al. 2024).

1,000 times the squared discrepancy under the kernel k(x, y) = exp(-|x - y|^2 / (2 * 10^2)), in
float64. The value is that of google-research/cmmd, the biased estimator (Gretton et al. 2012,
Eq. 5): its means hold k(x, x) = 1, which makes it too high by about 1/N of how much the pictures of
a set vary, and never negative.

Where edited and target pictures come in pairs, the likeness within pairs makes it lower again.
`bias` is what both add: the value minus it is the unbiased estimator (Gretton et al., Lemma 6; of
pairs their Eq. 4, which leaves each sample's own pair out). Differences of editors are taken
without it. The interval is that of KID: halves of the samples, drawn without replacement.
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

SIGMA = 10
SCALE = 1000


def cmmd_from_features(
    edited: ArrayLike,
    target: ArrayLike,
    *,
    seed: int = 0,
    paired: bool = True,
    photos: Sequence[str] | None = None,
    block: int = 2**18,
) -> KernelDistance:
    """Return the CMMD of two sets of embeddings.

    Args:
        edited: (N, P) of length 1, one row per picture.
        target: (N, P), of the same samples in the same order; or any (M, P), unless `paired`.
        seed: Decides the subsets.
        paired: Whether a subset has both pictures of a sample; otherwise the halves of each set
            are drawn independently.
        photos: The photo of each edited picture: a subset has all of one, or none.
        block: Numbers in memory at once, but at least one row of the kernel.

    Returns:
        The CMMD by the biased estimator, 0 or more; its subsets' values are unbiased. Its bias is
        what small sets and the likeness within pairs add.

    Raises:
        RicError: a set has fewer than 2 pictures.
        ValueError: paired sets differ in size.
    """
    a, b = two_sets(edited, target, paired=paired)
    if min(len(a), len(b)) < 2:
        raise RicError(
            f"CMMD needs 2 pictures or more on each side, and has {len(a)} and {len(b)}."
        )
    of_a, of_b, held = draw_whole_and_halves(len(a), len(b), photos, seed=seed, paired=paired)
    within_a = kernel_sums(gaussian_kernel, (a, a), (of_a, of_a), block)
    within_b = kernel_sums(gaussian_kernel, (b, b), (of_b, of_b), block)
    across = kernel_sums(gaussian_kernel, (a, b), (of_a, of_b), block)
    n_a, n_b = of_a.sum(axis=1), of_b.sum(axis=1)
    biased = within_a / n_a**2 + within_b / n_b**2 - 2 * across / (n_a * n_b)
    if paired:
        own = of_a @ np.exp(-np.square(a - b).sum(axis=1) / (2 * SIGMA**2))
        between = (across - own) / (n_a * (n_a - 1))
    else:
        between = across / (n_a * n_b)
    # k(x, x) is 1
    apart = [(sums - n) / (n * (n - 1)) for sums, n in ((within_a, n_a), (within_b, n_b))]
    unbiased = SCALE * (apart[0] + apart[1] - 2 * between)
    value = max(0.0, SCALE * float(biased[0]))
    return KernelDistance(value, unbiased[1:], len(a), held, value - float(unbiased[0]))


def gaussian_kernel(a: Array, b: Array) -> Array:
    """Return (R, M): exp(-|x - y|^2 / 200) of rows (R, P) and (M, P)."""
    squares = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1) - 2 * a @ b.T
    return np.exp(-squares / (2 * SIGMA**2))
