"""FID, KID, FD-DINOv2 and CMMD of one editor's pictures against the targets.

Each is computed from the features of its own network (FID and KID share one), of the samples that
have both pictures, or of all edited pictures and those of `--fid-set`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ric.errors import RicError
from ric.metrics.cmmd import cmmd_from_features
from ric.metrics.fid import Jackknife, jackknife_fid, unpaired_fid
from ric.metrics.kernel_sums import KernelDistance
from ric.metrics.kid import kid_from_features

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ric.scoring.encode_once import SetRow, Vector


class FidSet(NamedTuple):
    """The pictures of `--fid-set`.

    Attributes:
        name: Their folder.
        features: (M, W) by each network: `fid` (KID's, too), `fd_dinov2`, `cmmd`; without those
            that no metric needs.
    """

    name: str
    features: Mapping[str, NDArray[np.float32]]


class SetDistances(NamedTuple):
    """The distances of the edited set, with what their intervals are computed from.

    Each is None where its network did not run, or no sample has the pictures.

    Attributes:
        fid: Of the edited pictures and the others.
        kid: Likewise.
        unpaired: FID of halves, in which no edit meets its own target; None also where it was not
            asked for, or there are too few samples.
        fd_dinov2: As `fid`, of DINOv2's features.
        cmmd: Of CLIP's embeddings.
    """

    fid: Jackknife | None = None
    kid: KernelDistance | None = None
    unpaired: Jackknife | None = None
    fd_dinov2: Jackknife | None = None
    cmmd: KernelDistance | None = None

    def minus(self, other: SetDistances) -> SetDistances:
        """Return the difference of two editors' distances over the same samples."""
        apart = [
            None if ours is None or theirs is None else ours.minus(theirs)  # type: ignore[arg-type]
            for ours, theirs in zip(self, other, strict=True)
        ]
        return SetDistances(*apart)  # type: ignore[arg-type]


class _Sides(NamedTuple):
    """Two sets of features by one network.

    Attributes:
        edited: (N, W), one row per sample.
        others: (N, W) of the same samples' targets, or (M, W) of the pictures of `--fid-set`.
        photos: The photo of each edited picture.
        paired: Whether the others are the targets.
    """

    edited: NDArray[np.float32]
    others: NDArray[np.float32]
    photos: Sequence[str]
    paired: bool


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
    fid = _sides("fid", set_rows, photos, fid_set)
    dinov2 = _sides("fd_dinov2", set_rows, photos, fid_set)
    clip = _sides("cmmd", set_rows, photos, fid_set)
    if fid is dinov2 is clip is None:
        return None
    halves = fid if unpaired and fid is not None and fid.paired else None
    return SetDistances(
        fid=fid and _frechet(fid, seed),
        kid=fid and kid_from_features(*fid[:2], seed=seed, paired=fid.paired, photos=fid.photos),
        unpaired=halves and _unpaired(halves, seed),
        fd_dinov2=dinov2 and _frechet(dinov2, seed),
        cmmd=clip
        and cmmd_from_features(*clip[:2], seed=seed, paired=clip.paired, photos=clip.photos),
    )


def _sides(
    key: str, set_rows: Sequence[SetRow], photos: Sequence[str], fid_set: FidSet | None
) -> _Sides | None:
    """Return both sets of features that a metric compares; None where one of them is empty.

    Raises:
        RicError: a set has a single picture.
    """
    edited: list[Vector] = []
    targets: list[Vector] = []
    kept: list[str] = []
    for row, photo in zip(set_rows, photos, strict=True):
        ours, theirs = row.compared(key)
        if ours is None or (theirs is None and fid_set is None):
            continue
        edited.append(ours)
        kept.append(photo)
        if theirs is not None:
            targets.append(theirs)
    others = fid_set.features.get(key) if fid_set is not None else targets
    if not edited or others is None:
        return None
    if min(len(edited), len(others)) < 2:
        raise RicError(
            "A distance of sets needs 2 pictures or more on each side, and has"
            f" {len(edited)} and {len(others)}."
        )
    return _Sides(np.stack(edited), np.stack(list(others)), kept, paired=fid_set is None)


def _frechet(sides: _Sides, seed: int) -> Jackknife:
    return jackknife_fid(
        sides.edited, sides.others, seed=seed, paired=sides.paired, photos=sides.photos
    )


def _unpaired(sides: _Sides, seed: int) -> Jackknife | None:
    try:
        return unpaired_fid(sides.edited, sides.others, seed=seed, photos=sides.photos)
    except RicError:  # too few samples
        return None
