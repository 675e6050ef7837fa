"""Sums of a kernel over two sets and over halves of them, for KID and CMMD."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ric.metrics.intervals import Z_95, photo_numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Kernel = Callable[[Array, Array], Array]

SUBSETS = 100


class KernelDistance(NamedTuple):
    """A KID or a CMMD, and its values on subsets.

    Attributes:
        value: Over all pictures.
        subsets: (100,) over halves of them; empty with fewer than 4 pictures.
        n: How many pictures the edited set has.
        photos: Of how many photos they are, which the subsets halve.
        bias: What the value has too much; less this, it is unbiased for pairs too.
    """

    value: float
    subsets: Array
    n: int
    photos: int
    bias: float = 0.0

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the value; None with fewer than 4 pictures."""
        return subset_interval(self.value, self.subsets, self.photos)

    @property
    def freedom(self) -> int:
        """Degrees of freedom, for the tail of a p."""
        return self.photos - 1

    def minus(self, other: KernelDistance) -> KernelDistance:
        """Return the difference of two over the same samples, drawn with the same seed.

        Both are taken without their biases: an editor is not nearer to the targets' set for being
        nearer to its own target.
        """
        ours, theirs = self.value - self.bias, other.value - other.bias
        return KernelDistance(ours - theirs, self.subsets - other.subsets, self.n, self.photos)


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


def draw_whole_and_halves(
    count: int, other: int, photos: Sequence[str] | None, *, seed: int, paired: bool
) -> tuple[Array, Array, int]:
    """Draw the subsets of two sets; the first row of each is the whole.

    Args:
        count: N, pictures of the first set.
        other: M, of the second.
        photos: The photo of each of the first: a subset has all of one, or none.
        seed: Decides the subsets.
        paired: Whether the second set's subsets are the first's; then M is N.

    Returns:
        (1 + S, N) and (1 + S, M), 1 for a member, and how many photos there are. S is 0 where one
        of the sets has fewer than 4 photos or pictures.
    """
    generator = np.random.default_rng(seed)
    of_photo = photo_numbers(photos, count)
    held = int(of_photo.max()) + 1
    subsets = SUBSETS if min(held, other) >= 4 else 0
    of_a = np.vstack([np.ones(count), draw_halves(held, subsets, generator)[:, of_photo]])
    if paired:
        return of_a, of_a, held
    return of_a, np.vstack([np.ones(other), draw_halves(other, subsets, generator)]), held


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
