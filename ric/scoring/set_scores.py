"""The scores of whole sets: FID, KID, IS and those of `SET_DISTANCES`, or why there is none."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import torch

from ric.metric_table import METRICS
from ric.metrics.cmmd import SCALE, SIGMA
from ric.metrics.fid import Jackknife
from ric.metrics.inception_score import SPLITS, inception_score
from ric.metrics.kernel_sums import SUBSETS, KernelDistance
from ric.metrics.networks import SetEncoder, Unavailable
from ric.scoring.encode_once import SetRow, Vector
from ric.scoring.scores import IS_RANKS_FROM, Score
from ric.scoring.set_distances import FidSet, SetDistances

if TYPE_CHECKING:
    from collections.abc import Sequence

TIED = (
    "Edits are compared with the targets of the same samples, so an editor tied to its own target"
    " looks better for that alone: no editor is marked as best."
)
# Whose rule a score without a marker follows.
FID_RULE, IS_RULE = "clean", "torch-fidelity"


class SetScores(NamedTuple):
    """The features that the scores of the whole set are computed from.

    Attributes:
        rows: One per sample, sorted by id.
        distances: FID, KID and their like; a str that says why there are none; or None where no
            sample has both pictures.
        fid_set: What they compare with in place of the targets.
    """

    rows: Sequence[SetRow]
    distances: SetDistances | str | None = None
    fid_set: FidSet | None = None


def fid_and_kid(sets: SetScores, network: SetEncoder | Unavailable) -> list[Score]:
    """Return FID, FID of halves and KID of the edited set and the other one, or why not."""
    keys = ("fid", "fid_unpaired", "kid")
    if isinstance(network, Unavailable):
        return [Score(key=key, unavailable=network.reason) for key in keys]
    distances, fid_set = sets.distances, sets.fid_set
    marker = _marker_by_rule(network, FID_RULE)
    if not distances or isinstance(distances, str) or "fid" not in distances:
        reason = _reason(sets)
        return [Score(key=key, marker=marker, unavailable=reason) for key in keys]
    fid = _frechet_score("fid", cast("Jackknife", distances["fid"]), sets, network, marker)
    of_kernel = cast("KernelDistance", distances["kid"])
    kid = Score(
        key="kid",
        marker=marker,
        value=of_kernel.value,
        n=of_kernel.n,
        interval=of_kernel.interval,
        definition=f"{_compared('fid', sets, network)}; unbiased, kernel (x.y / W + 1)^3,"
        f" interval by {SUBSETS} halves without replacement",
        note=None
        if fid_set
        else "Edited and target pictures come in pairs, which adds"
        f" {of_kernel.bias:.4f}; a difference is taken without it.",
    )
    return [fid, _fid_of_halves(fid, distances, fid_set), kid]


def set_distance_score(key: str, sets: SetScores, network: SetEncoder | Unavailable) -> Score:
    """Return a distance of `SET_DISTANCES` of the edited set and the other one, or why none."""
    if isinstance(network, Unavailable):
        return Score(key=key, unavailable=network.reason)
    distances = sets.distances
    if not distances or isinstance(distances, str) or key not in distances:
        return Score(key=key, marker=network.marker, unavailable=_reason(sets))
    found = distances[key]
    if isinstance(found, KernelDistance):
        return _cmmd_score(key, found, sets, network)
    return _frechet_score(key, found, sets, network, network.marker)


def _cmmd_score(key: str, found: KernelDistance, sets: SetScores, network: SetEncoder) -> Score:
    """Return CMMD of the edited set and the other one, with its notes."""
    with_pairs = "" if sets.fid_set else " and the likeness of edits and their own targets"
    notes = [
        f"Sets of this size{with_pairs} add {found.bias:.3f}; a difference is taken without it."
    ]
    if not sets.fid_set:
        notes.append("So no editor is marked as best: --fid-set FOLDER compares with others.")
    return Score(
        key=key,
        marker=network.marker,
        value=found.value,
        n=found.n,
        interval=found.interval,
        definition=f"{_compared(key, sets, network)}; {SCALE:,} MMD^2, biased, Gaussian kernel"
        f" of sigma {SIGMA}, interval by {SUBSETS} halves without replacement",
        note=" ".join(notes),
        ranks=sets.fid_set is not None,
    )


def _frechet_score(
    key: str, found: Jackknife, sets: SetScores, network: SetEncoder, marker: str
) -> Score:
    """Return a Frechet distance of the edited set and the other one, with its notes."""
    fid_set, heading, width = sets.fid_set, METRICS[key].heading, _width(key, sets)
    others = len(fid_set.features[key]) if fid_set else found.n
    notes = []
    if min(found.n, others) < width:  # the covariances lack rank
        pictures = f" edits and {others} pictures" if fid_set else ""
        notes.append(
            f"Below {width:,} pictures {heading} is mostly small-sample bias: N = {found.n}"
            f"{pictures}, and it compares only with {heading}s at this N."
        )
    if not fid_set:
        without = " and --metrics fid_unpaired do" if key == "fid" else " does"
        notes.append(f"{TIED} --fid-set FOLDER{without} not have this fault.")
    return Score(
        key=key,
        marker=marker,
        value=found.value,
        n=found.n,
        interval=found.interval,
        definition=f"{_compared(key, sets, network)}; interval by the delete-a-tenth jackknife",
        note=" ".join(notes) or None,
        ranks=fid_set is not None,
    )


def _width(key: str, sets: SetScores) -> int:
    """Return how many features the network of a distance gives."""
    edited = (row.compared(key)[0] for row in sets.rows)
    return next(len(features) for features in edited if features is not None)


def _compared(key: str, sets: SetScores, network: SetEncoder) -> str:
    """Say what a distance of sets compares, and by which network."""
    against = "target set"
    if sets.fid_set:
        against = f"the {len(sets.fid_set.features[key])} pictures of {sets.fid_set.name}"
    return f"edited set and {against}: {network.definition}"


def _reason(sets: SetScores) -> str:
    """Say why there is no distance of sets, though its network ran."""
    if isinstance(sets.distances, str):
        return sets.distances
    return "no sample has a target" if sets.rows else "no sample was scored"


def _fid_of_halves(fid: Score, distances: SetDistances, fid_set: FidSet | None) -> Score:
    """Return FID of halves beside FID, or why there is none."""
    halves = distances.get("fid_unpaired")
    if halves is None:
        reason = "--fid-set has no pairs to part" if fid_set else "fewer than 4 samples have both"
        return Score(key="fid_unpaired", marker=fid.marker, unavailable=reason)
    return replace(
        fid,
        key="fid_unpaired",
        value=halves.value,
        interval=halves.interval,
        note=f"Sets of about {fid.n // 2} pictures: it compares only with others at this N.",
        definition="odd edits to even targets, and even to odd, averaged, so that no edit meets"
        f" its own target; {fid.definition}",
        ranks=True,
    )


def _marker_by_rule(network: SetEncoder, rule: str) -> str:
    """Return the marker of a set's score: whose rule, unless it is `rule`, and the network's."""
    parts = ("" if network.kind == rule else network.kind, network.marker)
    return " ".join(dict.fromkeys(filter(None, parts)))


def is_score(logits: Sequence[Vector | None], network: SetEncoder | Unavailable) -> Score:
    """Return the Inception score of the edited set; `logits` in the order of sorted ids."""
    if isinstance(network, Unavailable):
        return Score(key="is", unavailable=network.reason)
    marker = _marker_by_rule(network, IS_RULE)
    held = [row for row in logits if row is not None]
    if not held:
        return Score(key="is", marker=marker, unavailable="no sample was scored")
    score = inception_score(torch.from_numpy(np.stack(held)))
    splits = min(SPLITS, score.n)
    return Score(
        key="is",
        marker=marker,
        value=score.mean,
        std=score.std,
        n=score.n,
        definition=f"edited set, mean and std over {splits} splits: {network.definition}",
        note=f"{score.n} pictures make splits of about {score.n // splits}: a split of one scores"
        " 1 whatever it shows."
        if score.n < IS_RANKS_FROM
        else None,
    )
