"""FID and KID of one editor's pictures against the targets, from the features of each sample.

Both use the same features, of the samples that have both pictures, or of all edited pictures and
those of `--fid-set`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ric.errors import RicError
from ric.metrics.fid import Jackknife, jackknife_fid, unpaired_fid
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
    """FID and KID of the edited set, with what their intervals are computed from.

    Attributes:
        fid: Of the edited pictures and the others.
        kid: Likewise.
        unpaired: FID of halves, in which no edit meets its own target; None where it was not asked
            for, or there are too few samples.
    """

    fid: Jackknife
    kid: Kid
    unpaired: Jackknife | None = None

    def minus(self, other: SetDistances) -> SetDistances:
        """Return the difference of two editors' distances over the same samples."""
        unpaired = None
        if self.unpaired is not None and other.unpaired is not None:
            unpaired = self.unpaired.minus(other.unpaired)
        return SetDistances(self.fid.minus(other.fid), self.kid.minus(other.kid), unpaired)


def set_distances(
    set_rows: Sequence[SetRow],
    photos: Sequence[str],
    fid_set: FidSet | None = None,
    *,
    seed: int = 0,
    unpaired: bool = False,
) -> SetDistances | None:
    """Return the distances; None without any sample that has the features they need.

    Args:
        set_rows: One per sample, sorted by id: groups and subsets are drawn by position, so that
            two editors with the same samples share them.
        photos: The photo of each sample.
        fid_set: The pictures to compare with in place of the targets.
        seed: Decides groups and subsets.
        unpaired: Whether FID of halves is asked for.

    Raises:
        RicError: only one sample has them.
    """
    rows = list(zip(set_rows, photos, strict=True))
    if fid_set is not None:
        edits = [(row.features, of) for row, of in rows if row.features is not None]
        if not edits:
            return None
        features, kept = zip(*edits, strict=True)
        return _of_two(np.stack(features), fid_set.features, kept, seed, paired=False)
    both = [
        (row.features, row.target_features, of)
        for row, of in rows
        if row.features is not None and row.target_features is not None
    ]
    if not both:
        return None
    *sides, kept = zip(*both, strict=True)
    edited, targets = (np.stack(side) for side in sides)
    found = _of_two(edited, targets, kept, seed, paired=True)
    if not unpaired:
        return found
    try:
        return found._replace(unpaired=unpaired_fid(edited, targets, seed=seed, photos=kept))
    except RicError:  # too few samples
        return found


def _of_two(
    edited: ArrayLike, others: ArrayLike, photos: Sequence[str], seed: int, *, paired: bool
) -> SetDistances:
    fid = jackknife_fid(edited, others, seed=seed, paired=paired, photos=photos)
    kid = kid_from_features(edited, others, seed=seed, paired=paired, photos=photos)
    return SetDistances(fid, kid)
