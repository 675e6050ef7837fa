"""FID and KID of one editor's pictures against the targets, from the features of each sample.

Both use the same features, of the samples that have both pictures, or of all edited pictures and
those of `--fid-set`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ric.metrics.fid import Jackknife, jackknife_fid
from ric.metrics.kid import Kid, kid_from_features

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from ric.scoring.encode_once import SetRow


class FidSet(NamedTuple):
    """Features (M, W) of the pictures of `--fid-set`, and the name of their folder."""

    name: str
    features: NDArray[np.float32]


class SetDistances(NamedTuple):
    """FID and KID of the edited set, with what their intervals are computed from."""

    fid: Jackknife
    kid: Kid

    def minus(self, other: SetDistances) -> SetDistances:
        """Return the difference of two editors' distances over the same samples."""
        return SetDistances(self.fid.minus(other.fid), self.kid.minus(other.kid))


def set_distances(
    set_rows: Sequence[SetRow], fid_set: FidSet | None = None, *, seed: int = 0
) -> SetDistances | None:
    """Return both distances; None without any sample that has the features they need.

    Args:
        set_rows: One per sample, sorted by id: groups and subsets are drawn by position, so that
            two editors with the same samples share them.
        fid_set: The pictures to compare with in place of the targets.
        seed: Decides groups and subsets.

    Raises:
        RicError: only one sample has them.
    """
    if fid_set is not None:
        held = [row.features for row in set_rows if row.features is not None]
        return _of_two(np.stack(held), fid_set.features, seed, paired=False) if held else None
    both = [
        (row.features, row.target_features)
        for row in set_rows
        if row.features is not None and row.target_features is not None
    ]
    if not both:
        return None
    edited, targets = (np.stack(side) for side in zip(*both, strict=True))
    return _of_two(edited, targets, seed, paired=True)


def _of_two(edited: ArrayLike, others: ArrayLike, seed: int, *, paired: bool) -> SetDistances:
    fid = jackknife_fid(edited, others, seed=seed, paired=paired)
    return SetDistances(fid, kid_from_features(edited, others, seed=seed, paired=paired))
