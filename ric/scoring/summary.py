"""Summarise samples as scores: means with intervals, FID, KID and IS, or why there is none."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from ric.metric_table import INSIDE, OF_SCENES
from ric.metrics.clip_direction import DEFINITION as DIRECTION
from ric.metrics.context_error import STICKER_ABOVE
from ric.metrics.inception_score import SPLITS, inception_score
from ric.metrics.intervals import mean_interval
from ric.metrics.kid import SUBSETS
from ric.metrics.networks import MetricNetworks, Network, SetEncoder, Unavailable
from ric.scoring.encode_once import SetRow, Vector
from ric.scoring.kept_samples import photos_of
from ric.scoring.scores import IS_RANKS_FROM, Score

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ric.scoring.load_metrics import LoadedMetric
    from ric.scoring.rules import Rules
    from ric.scoring.set_distances import FidSet, SetDistances

    Measure = Network | LoadedMetric | Unavailable

# Below Inception's width the covariances lack rank, and FID is mostly small-sample bias.
FID_SPEAKS_FROM = 2048
SHARES = ("edit_success", "sticker_rate")  # their values are hits and misses
FID_OF_PAIRS = (
    "Edits are compared with the targets of the same samples, so an editor tied to its own target"
    " looks better for that alone: no editor is marked as best. --fid-set FOLDER and --metrics"
    " fid_unpaired do not have this fault."
)
# Whose rule a score without a marker follows.
FID_RULE, IS_RULE = "clean", "torch-fidelity"

SCENE_DEFINITION = {
    "edit_success": "share of edits in which the scene classifier reads what was asked for",
    "l1_inside": "mean absolute difference to the exact target inside mask and context mask",
    "l1_gain": "the source's L1 to the exact target inside both masks, less the edit's",
    "region_error": "squared error inside the mask, relative to doing nothing",
    "context_error": "squared error inside the context mask, relative to doing nothing",
    "sticker_rate": "share of right edits whose surroundings did not follow: context error over"
    f" {STICKER_ABOVE}",
    "psnr_preserved": "peak signal-to-noise ratio against the source outside both masks",
}


class SetScores(NamedTuple):
    """The features that the scores of the whole set are computed from.

    Attributes:
        rows: One per sample, sorted by id.
        distances: FID and KID of them; a str that says why there are none; or None where no sample
            has both pictures.
        fid_set: What FID and KID compare with in place of the targets.
    """

    rows: Sequence[SetRow]
    distances: SetDistances | str | None = None
    fid_set: FidSet | None = None


def summarise(
    rows: Sequence[dict[str, Any]], sets: SetScores, networks: MetricNetworks, rules: Rules
) -> list[Score]:
    """Return the requested scores of one editor, the six of the paper's tables first.

    Args:
        rows: One dict per sample, sorted by id; those of drawn scenes have columns of
            `OF_SCENES`.
        sets: What FID, KID and IS are computed from.
        networks: The metric networks that made them.
        rules: What is computed, and against what.
    """

    def mean(key: str, network: Measure, needs: str) -> Score:
        if key not in INSIDE:
            return mean_score(rows, key, network, needs=needs, seed=rules.seed)
        both, against = f"mask and a {needs}", f"{needs}, inside the mask"
        return mean_score(rows, key, network, needs=both, against=against, seed=rules.seed)

    clip_i, dino = (f"{key}_{rules.other}" for key in ("clip_i", "dino"))
    scores = [
        mean("clip_i", networks.clip, rules.reference),
        mean("dino", networks.dino, rules.reference),
        _clip_t(rows, networks.clip, rules),
        mean("lpips", networks.lpips, rules.reference),
        *fid_and_kid(sets, networks.fid),
        is_score([row.is_logits for row in sets.rows], networks.inception_score),
    ]
    if not isinstance(networks.fid, Unavailable) and networks.fid is not networks.inception_score:
        # FID's own pass has the classes too: a second IS at no cost
        scores.append(is_score([row.logits for row in sets.rows], networks.fid))
    scores += [mean(clip_i, networks.clip, rules.other), mean(dino, networks.dino, rules.other)]
    scores.append(_clip_direction(rows, networks.clip, rules))
    shipped = [metric for metric in rules.pair_metrics if not metric.own]
    scores += [mean(metric.key, metric, _needs(metric, rules)) for metric in shipped]
    scores.append(mean("lpips_outside", networks.lpips_outside, "mask"))
    scores.append(mean("lpips_inside", networks.lpips_outside, rules.reference))
    scores += [scene_score(rows, key, seed=rules.seed) for key in OF_SCENES]
    asked = {*rules.metrics, *rules.to_the_other}
    scores = [_with_derived_masks(score, rows) for score in scores if score.key in asked]
    for metric in rules.pair_metrics:
        if metric.own:
            score = mean(metric.key, metric, _needs(metric, rules))
            scores.append(replace(score, own=metric.own, definition=metric.definition))
    return scores


def _needs(metric: LoadedMetric, rules: Rules) -> str:
    return rules.reference if metric.needs == "reference" else metric.needs


def _clip_t(rows: Sequence[dict[str, Any]], network: Network | Unavailable, rules: Rules) -> Score:
    """Return CLIP-T, noting how many samples used another text, and how many texts were cut."""
    kinds = Counter(row["text_kind"] for row in rows if row["text_kind"])
    others = {kind: count for kind, count in kinds.items() if kind != rules.text}
    needs = ", else ".join([rules.text, *others])
    score = mean_score(rows, "clip_t", network, needs=needs, seed=rules.seed)
    notes = [score.note] if score.note else []
    notes += [f"Without a {rules.text}, by the {kind}: {count}." for kind, count in others.items()]
    return replace(score, note=" ".join([*notes, *_cut_texts(rows, "text_cut")]) or None)


def _clip_direction(
    rows: Sequence[dict[str, Any]], network: Network | Unavailable, rules: Rules
) -> Score:
    """Return CLIP's directional similarity, noting how many samples have a cut caption."""
    needs = "source_text and a target_text that differ"
    score = mean_score(rows, "clip_direction", network, needs=needs, seed=rules.seed)
    if score.value is None or isinstance(network, Unavailable):
        return score
    notes = [*filter(None, [score.note]), *_cut_texts(rows, "captions_cut")]
    definition = f"{DIRECTION}: {network.definition}"
    return replace(score, definition=definition, note=" ".join(notes) or None)


def _cut_texts(rows: Sequence[dict[str, Any]], key: str) -> list[str]:
    count = sum(bool(row.get(key)) for row in rows)
    return [f"Texts cut to the length the network reads: {count}."] if count else []


def _with_derived_masks(score: Score, rows: Sequence[dict[str, Any]]) -> Score:
    """Note on a score outside or inside the mask how many masks were derived."""
    derived = sum(bool(row["mask_derived"]) for row in rows)
    if not (score.key.endswith("_outside") or score.key in INSIDE) or not derived:
        return score
    about = f"Masks derived from where source and target differ: {derived} of {len(rows)}."
    return replace(score, note=" ".join(filter(None, (score.note, about))))


def scene_score(rows: Sequence[dict[str, Any]], key: str, *, seed: int = 0) -> Score:
    """Return the mean of one of `OF_SCENES`; relative errors are weighted by the needed change."""
    held = [row for row in rows if row.get(key) is not None]
    if not held:
        return Score(key=key, unavailable="no sample asks for it")
    values = [row[key] for row in held]
    weight = {"region_error": "region_weight", "context_error": "context_weight"}.get(key)
    weights = [row[weight] for row in held] if weight else None
    return Score(
        key=key,
        value=float(np.average(values, weights=weights)),
        n=len(held),
        interval=mean_interval(
            values, weights=weights, photos=photos_of(held), share=key in SHARES, seed=seed
        ),
        definition=SCENE_DEFINITION[key],
    )


def mean_score(
    rows: Sequence[dict[str, Any]],
    key: str,
    network: Measure,
    *,
    needs: str,
    against: str | None = None,
    seed: int = 0,
) -> Score:
    """Return the mean of one column over the samples that have it, with its interval.

    Args:
        rows: One dict per sample; a value may be None.
        key: The column.
        network: What measures it: a network, or a rule that needs none.
        needs: What a sample must have for this score: `target`, `source`, `mask`, or a text's name.
        against: What edited pictures are compared with, in the definition's words; None: `needs`.
        seed: Seeds the interval.
    """
    if isinstance(network, Unavailable):
        return Score(key=key, unavailable=network.reason)
    marker = network.marker
    held = [row for row in rows if row.get(key) is not None]
    values = [row[key] for row in held]
    least = getattr(network, "smallest", 1)
    small = f" of {least} pixels or more" if least > 1 else ""
    if not values:
        reason = f"no sample has a {needs}{small}" if rows else "no sample was scored"
        return Score(key=key, marker=marker, unavailable=reason)
    against = against or ("source, outside the mask" if needs == "mask" else needs)
    missing = len(rows) - len(values)
    return Score(
        key=key,
        marker=marker,
        value=float(np.mean(values)),
        n=len(values),
        interval=mean_interval(values, photos=photos_of(held), seed=seed),
        definition=f"edited and {against}: {network.definition}",
        note=f"Samples without a {needs}{small}: {missing} of {len(rows)}." if missing else None,
    )


def fid_and_kid(sets: SetScores, network: SetEncoder | Unavailable) -> list[Score]:
    """Return FID, FID of halves and KID of the edited set and the other one, or why not."""
    keys = ("fid", "fid_unpaired", "kid")
    if isinstance(network, Unavailable):
        return [Score(key=key, unavailable=network.reason) for key in keys]
    distances, fid_set = sets.distances, sets.fid_set
    marker = _marker_by_rule(network, FID_RULE)
    if distances is None:
        distances = "no sample has a target" if sets.rows else "no sample was scored"
    if isinstance(distances, str):
        return [Score(key=key, marker=marker, unavailable=distances) for key in keys]
    count, others = distances.fid.n, len(fid_set.features) if fid_set else distances.fid.n
    few = (
        f"Below {FID_SPEAKS_FROM:,} pictures FID is mostly small-sample bias: N = {count}"
        + (f" edits and {others} pictures" if fid_set else "")
        + ", and it compares only with FIDs at this N."
    )
    held_against = f"the {others} pictures of {fid_set.name}" if fid_set else "target set"
    about = f"edited set and {held_against}: {network.definition}"
    notes = [few] if min(count, others) < FID_SPEAKS_FROM else []
    if not fid_set:
        notes.append(FID_OF_PAIRS)
    fid = Score(
        key="fid",
        marker=marker,
        value=distances.fid.value,
        n=count,
        interval=distances.fid.interval,
        definition=f"{about}; interval by the delete-a-tenth jackknife",
        note=" ".join(notes) or None,
        ranks=fid_set is not None,
    )
    kid = Score(
        key="kid",
        marker=marker,
        value=distances.kid.value,
        n=count,
        interval=distances.kid.interval,
        definition=f"{about}; unbiased, kernel (x.y / W + 1)^3, interval by {SUBSETS} halves"
        " without replacement",
        note=None
        if fid_set
        else "Edited and target pictures come in pairs, which adds"
        f" {distances.kid.pair_bias:.4f}; a difference is taken without it.",
    )
    return [fid, _fid_of_halves(fid, distances, fid_set), kid]


def _fid_of_halves(fid: Score, distances: SetDistances, fid_set: FidSet | None) -> Score:
    """Return FID of halves beside FID, or why there is none."""
    if distances.unpaired is None:
        reason = "--fid-set has no pairs to part" if fid_set else "fewer than 4 samples have both"
        return Score(key="fid_unpaired", marker=fid.marker, unavailable=reason)
    return replace(
        fid,
        key="fid_unpaired",
        value=distances.unpaired.value,
        interval=distances.unpaired.interval,
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
