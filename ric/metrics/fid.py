"""The Frechet distance of two sets of features (Heusel et al. 2017), in float64.

d^2 = |mu_a - mu_b|^2 + tr(S_a + S_b - 2 sqrt(S_a S_b)). The last trace is the hard part; there are
two ways to compute it, both without the general matrix root, which takes half a minute:

- S_a S_b has the eigenvalues of the symmetric sqrt(S_a) S_b sqrt(S_a), so its root's trace is the
  sum of their roots;
- with fewer pictures than features, S = A^T A / (n - 1) for the centred features A, and
  tr sqrt(S_a S_b) is the sum of the singular values of A B^T / sqrt((n_a - 1) (n_b - 1)):
  a matrix of n_a x n_b instead of 2048 x 2048.

Its uncertainty is estimated by leaving out a tenth of the samples at a time (the grouped
jackknife). Drawing with replacement would not do: a set with doubled pictures is a narrower set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import stdtrit

from ric.errors import RicError
from ric.metrics.intervals import photo_numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]


class Frechet(NamedTuple):
    """A distance and the sizes of its sets: of small sets it is mostly bias."""

    value: float
    n_a: int
    n_b: int


GROUPS = 10  # of the jackknife


class Jackknife(NamedTuple):
    """A distance of two sets, and its values without each tenth of the samples.

    The spread is that of sets of this size. It says nothing about the bias of small sets, which
    all the tenths share.

    Attributes:
        value: Over all samples.
        left_out: (10,), each without one group; (N,) below 10 samples, empty below 3.
        n: How many samples the first set has.
    """

    value: float
    left_out: Array
    n: int

    @property
    def error(self) -> float | None:
        """The standard error; None where there is nothing to leave out."""
        groups = len(self.left_out)
        if not groups:
            return None
        apart = self.left_out - self.left_out.mean()
        return float(np.sqrt((groups - 1) / groups * np.square(apart).sum()))

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the value, by Student's t of as many groups."""
        if self.error is None:
            return None
        reach = float(stdtrit(len(self.left_out) - 1, 0.975)) * self.error
        return self.value - reach, self.value + reach

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the interval."""
        return len(self.left_out) - 1

    def minus(self, other: Jackknife) -> Jackknife:
        """Return the difference of two distances over the same samples, with the same seed."""
        return Jackknife(self.value - other.value, self.left_out - other.left_out, self.n)


def frechet_distance(mu_a: ArrayLike, cov_a: ArrayLike, mu_b: ArrayLike, cov_b: ArrayLike) -> float:
    """Return the squared Frechet distance of two Gaussians, 0 or more.

    Args:
        mu_a: Mean, (W,).
        cov_a: Covariance, (W, W), symmetric.
        mu_b: Mean, (W,).
        cov_b: Covariance, (W, W), symmetric.
    """
    cov_a, cov_b = np.asarray(cov_a, np.float64), np.asarray(cov_b, np.float64)
    eigenvalues, vectors = np.linalg.eigh(cov_a)
    # negative eigenvalues of a covariance come from rounding
    root_a = (vectors * np.sqrt(eigenvalues.clip(0))) @ vectors.T
    product = np.linalg.eigvalsh(root_a @ cov_b @ root_a)
    root_trace = np.sqrt(product.clip(0)).sum()
    return _distance(mu_a, np.trace(cov_a), mu_b, np.trace(cov_b), root_trace)


def fid_from_features(features_a: ArrayLike, features_b: ArrayLike) -> Frechet:
    """Return the Frechet distance of two sets of features.

    Args:
        features_a: (N_a, W), one row per picture, in any order.
        features_b: (N_b, W).

    Raises:
        RicError: a set holds fewer than 2 pictures, which have no covariance.
    """
    a, b = np.asarray(features_a, np.float64), np.asarray(features_b, np.float64)
    if min(len(a), len(b)) < 2:
        raise RicError(
            f"FID needs 2 pictures or more on each side, and has {len(a)} and {len(b)}.",
        )
    mu_a, mu_b = a.mean(axis=0), b.mean(axis=0)
    if min(a.shape[0], b.shape[0]) >= a.shape[1]:
        value = frechet_distance(mu_a, np.cov(a, rowvar=False), mu_b, np.cov(b, rowvar=False))
        return Frechet(value, len(a), len(b))
    centred_a = (a - mu_a) / np.sqrt(len(a) - 1)
    centred_b = (b - mu_b) / np.sqrt(len(b) - 1)
    rows_a, rows_b = (_no_longer_than_wide(centred) for centred in (centred_a, centred_b))
    root_trace = np.linalg.svd(rows_a @ rows_b.T, compute_uv=False).sum()
    value = _distance(mu_a, (centred_a**2).sum(), mu_b, (centred_b**2).sum(), root_trace)
    return Frechet(value, len(a), len(b))


def two_sets(edited: ArrayLike, target: ArrayLike, *, paired: bool) -> tuple[Array, Array]:
    """Return two sets of features (N, W) and (M, W) in float64.

    Raises:
        ValueError: they are `paired`, of the same samples, and differ in size.
    """
    a, b = np.asarray(edited, np.float64), np.asarray(target, np.float64)
    if paired and a.shape != b.shape:
        raise ValueError(f"features of {a.shape} and {b.shape}: samples must come in pairs")
    return a, b


def jackknife_fid(
    edited: ArrayLike,
    target: ArrayLike,
    *,
    seed: int = 0,
    paired: bool = True,
    photos: Sequence[str] | None = None,
) -> Jackknife:
    """Return the Frechet distance of two sets of features, and its values without each tenth.

    Args:
        edited: (N, W), one row per sample.
        target: (N, W), of the same samples in the same order; or any (M, W), unless `paired`.
        seed: Decides how the samples fall into groups.
        paired: Whether both pictures of a sample are left out together; otherwise each
            set has groups of its own.
        photos: The photo of each sample: all samples of one are left out together.

    Raises:
        RicError: a set has fewer than 2 pictures.
        ValueError: paired sets differ in size.
    """
    a, b = two_sets(edited, target, paired=paired)
    value, count, _ = fid_from_features(a, b)
    generator = np.random.default_rng(seed)
    of_photo = photo_numbers(photos, count)
    fewest = min(int(of_photo.max()) + 1, len(b))
    parts = min(GROUPS, fewest) if fewest > 2 else 0
    of_a = _groups(of_photo, parts, generator)
    of_b = of_a if paired else _groups(np.arange(len(b)), parts, generator)
    left_out = [
        fid_from_features(np.delete(a, some, axis=0), np.delete(b, others, axis=0)).value
        for some, others in zip(of_a, of_b, strict=True)
    ]
    return Jackknife(value, np.array(left_out), count)


def unpaired_fid(
    edited: ArrayLike, target: ArrayLike, *, seed: int = 0, photos: Sequence[str] | None = None
) -> Jackknife:
    """Return the mean of two FIDs: odd photos' edits against even ones' targets, and even, odd.

    No edited picture meets its own target, so that likeness within pairs does not count. The sets
    are half as large, and the bias of small sets is larger.

    Args:
        edited: (N, W), one row per sample.
        target: (N, W), of the same samples in the same order.
        seed: Decides the groups of the jackknife, each of which leaves out whole photos.
        photos: The photo of each sample; None: each has its own.

    Raises:
        RicError: there are fewer than 2 samples in a half.
        ValueError: the sets differ in size.
    """
    a, b = two_sets(edited, target, paired=True)
    of_photo = photo_numbers(photos, len(a))
    even = of_photo % 2 == 0
    if min(even.sum(), (~even).sum()) < 2:
        raise RicError(f"FID of halves needs 4 samples or more, and has {len(a)}.")

    def of(kept: NDArray[np.bool_]) -> float:
        halves = (even & kept, ~even & kept)
        one, other = (
            fid_from_features(a[mine], b[others]).value for mine, others in (halves, halves[::-1])
        )
        return (one + other) / 2

    count = int(of_photo.max()) + 1
    left_out = []
    # of fewer than 8 photos a half might be left with one sample
    for some in _groups(of_photo, min(GROUPS, count // 2) if count >= 8 else 0,
                        np.random.default_rng(seed)):  # fmt: skip
        kept = np.ones(len(a), dtype=bool)
        kept[some] = False
        if min((even & kept).sum(), (~even & kept).sum()) >= 2:
            left_out.append(of(kept))
    return Jackknife(of(np.ones(len(a), dtype=bool)), np.array(left_out), len(a))


def _groups(
    of_photo: NDArray[np.int64], parts: int, generator: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Draw which rows are left out together: `parts` groups of equally many photos, to one."""
    order = generator.permutation(int(of_photo.max()) + 1)
    some = np.array_split(order, parts) if parts else []
    return [np.flatnonzero(np.isin(of_photo, photos)) for photos in some]


def _no_longer_than_wide(centred: Array) -> Array:
    """Return rows (M, W), M at most W, that have the same covariance."""
    rows, width = centred.shape
    if rows <= width:
        return centred
    _, triangle = np.linalg.qr(centred)
    return triangle


def _distance(
    mu_a: ArrayLike, trace_a: float, mu_b: ArrayLike, trace_b: float, root_trace: float
) -> float:
    gap: Array = np.asarray(mu_a, np.float64) - np.asarray(mu_b, np.float64)
    # the true value is never negative; between equal sets rounding leaves some 1e-13 of the traces
    return max(0.0, float(gap @ gap + trace_a + trace_b - 2 * root_trace))
