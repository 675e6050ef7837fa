"""FID, KID and the distances of `metric_table.SET_DISTANCES` of one editor against the targets.

Each is computed from the features of its own network (FID and KID share one), of the samples that
have both pictures, or of all edited pictures and those of `--fid-set`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ric.errors import RicError
from ric.metric_table import METRICS, SET_DISTANCES
from ric.metrics.cmmd import cmmd_from_features
from ric.metrics.fid import Jackknife, jackknife_fid, unpaired_fid
from ric.metrics.kernel_sums import KernelDistance
from ric.metrics.kid import kid_from_features
from ric.scoring.encode_once import SetRow, Vector

# by the metrics' names; without those whose network did not run, or of which no sample has the
# pictures, and without FID of halves where it was not asked for or there are too few samples
SetDistances: TypeAlias = Mapping[str, Jackknife | KernelDistance]


class FidSet(NamedTuple):
    """The pictures of `--fid-set`.

    Attributes:
        name: Their folder.
        features: (M, W) by each network: `fid` (KID's, too), and those of `SET_DISTANCES`; without
            those that no metric needs.
    """

    name: str
    features: Mapping[str, NDArray[np.float32]]


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
    found: dict[str, Jackknife | KernelDistance] = {}
    if fid := _sides("fid", set_rows, photos, fid_set):
        found["fid"] = _frechet(fid, seed)
        found["kid"] = kid_from_features(
            fid.edited, fid.others, seed=seed, paired=fid.paired, photos=fid.photos
        )
        halves = _unpaired(fid, seed) if unpaired and fid.paired else None
        if halves is not None:
            found["fid_unpaired"] = halves
    for key in SET_DISTANCES:
        if sides := _sides(key, set_rows, photos, fid_set):
            measure = _frechet if METRICS[key].measure == "frechet" else _cmmd
            found[key] = measure(sides, seed)
    return found or None


def minus(ours: SetDistances, theirs: SetDistances) -> SetDistances:
    """Return the difference of two editors' distances over the same samples."""
    both = {key: (mine, theirs[key]) for key, mine in ours.items() if key in theirs}
    return {key: mine.minus(other) for key, (mine, other) in both.items()}  # type: ignore[arg-type]


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


def _cmmd(sides: _Sides, seed: int) -> KernelDistance:
    return cmmd_from_features(
        sides.edited, sides.others, seed=seed, paired=sides.paired, photos=sides.photos
    )


def _unpaired(sides: _Sides, seed: int) -> Jackknife | None:
    try:
        return unpaired_fid(sides.edited, sides.others, seed=seed, photos=sides.photos)
    except RicError:  # too few samples
        return None
