"""Differences of two editors' scores on the samples that both have, with their intervals.

Both editors get the same samples, hard ones and easy ones, so the difference of their means is more
certain than either mean: its interval is that of each sample's difference. Shares of hits have
intervals and tests of their own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ric.errors import RicError
from ric.metric_table import METRICS
from ric.metrics.intervals import mean_interval, mean_p, p_value
from ric.metrics.share_differences import share_difference
from ric.scoring.kept_samples import photos_of
from ric.scoring.scores import OF_SETS, Difference, Score, within_range
from ric.scoring.set_distances import minus, set_distances
from ric.scoring.summary import SHARES, weights_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ric.scoring.set_distances import FidSet, SetDistances
    from ric.scoring.suite import Scored


def difference(
    later: Scored, first: Scored, *, fid_set: FidSet | None = None, seed: int = 0
) -> Difference:
    """Return `later` minus `first`, over the samples that both have.

    Means come with Student's interval of pairs, shares with Newcombe's, Frechet distances with the
    jackknife's, KID and CMMD, less what the likeness within pairs adds to them, with that of their
    subsets. Left out are scores that one of them lacks, and IS, which has no pairs.
    """
    ours = {row["id"]: row for row in later.rows}
    theirs = {row["id"]: row for row in first.rows}
    common = sorted(ours.keys() & theirs.keys())
    pairs = [(ours[name], theirs[name]) for name in common]
    sets = _between_sets(later, first, common, fid_set, seed)
    scores = []
    for score in later.scores.scores:
        if score.key in OF_SETS:
            scores += _of_sets(score, sets)
        elif score.value is not None:
            scores += _of_means(score, pairs)
    told = tuple(within_range(score, difference=True) for score in scores)
    return Difference(later.scores.label, first.scores.label, told, len(common))


def _of_means(score: Score, pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> list[Score]:
    """Return the mean difference of one column, or nothing where no sample has both values."""
    both = [
        (ours, theirs)
        for ours, theirs in pairs
        if ours.get(score.key) is not None and theirs.get(score.key) is not None
    ]
    if not both:
        return []
    apart = [ours[score.key] - theirs[score.key] for ours, theirs in both]
    photos = photos_of(ours for ours, _ in both)
    about = f"difference of pairs; {score.definition}"
    weights = weights_of([ours for ours, _ in both], score.key)  # the same of both editors
    value = float(np.average(apart, weights=weights))
    if score.key in SHARES:
        hits = ([one[score.key] for one in side] for side in zip(*both, strict=True))
        interval, p = share_difference(*hits, photos=photos) or (None, None)
    else:
        interval = mean_interval(apart, weights=weights, photos=photos)
        p = mean_p(apart, weights=weights, photos=photos)
    apart_from = replace(score, value=value, n=len(apart), interval=interval, definition=about)
    return [replace(apart_from, p=p, std=None, note=None)]


def _of_sets(score: Score, sets: SetDistances | None) -> list[Score]:
    """Return the difference of a distance of sets, or nothing where either editor lacks it."""
    distance = (sets or {}).get(score.key)
    if distance is None:
        return []
    by_kernel = METRICS[score.key].measure == "kernel"
    about = "difference over the same samples"
    if score.key == "kid":
        about += ", without what the likeness within pairs adds"
    if by_kernel:
        about += ", without the bias of small sets and of pairs"
    value, interval = distance.value, distance.interval
    p = p_value(value, interval, distance.freedom) if interval else None
    apart = replace(score, value=value, n=distance.n, interval=interval)
    return [replace(apart, p=p, std=None, note=None, unavailable=None,
                    ranks=score.ranks or by_kernel,  # unbiased, unlike the value
                    definition=f"{about}; {score.definition}")]  # fmt: skip


def _between_sets(
    later: Scored, first: Scored, common: Sequence[str], fid_set: FidSet | None, seed: int
) -> SetDistances | None:
    """Return the difference of two editors' set distances, or None if either has none."""
    if later.distances is None or first.distances is None:
        return None

    def of(scored: Scored) -> SetDistances | None:
        if len(common) == len(scored.rows):
            return scored.distances  # the same samples, groups and subsets
        names = set(common)
        held = zip(scored.rows, scored.set_rows, strict=True)
        shared = [(row, kept) for row, kept in held if row["id"] in names]
        photos = photos_of(row for row, _ in shared)
        asked = "fid_unpaired" in (scored.distances or ())
        try:
            set_rows = [kept for _, kept in shared]
            return set_distances(set_rows, photos, fid_set, seed=seed, unpaired=asked)
        except RicError:  # one sample in common has no spread
            return None

    ours, theirs = of(later), of(first)
    return None if ours is None or theirs is None else minus(ours, theirs)
