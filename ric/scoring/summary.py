"""Summarise samples as scores: means with intervals and scores of sets, or why there is none."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ric.metric_table import (
    BOTH_WAYS,
    INSIDE,
    JUDGED,
    OF_SCENES,
    OWN_NETWORK,
    SET_DISTANCES,
    measured_by,
)
from ric.metrics.clip_direction import DEFINITION as DIRECTION
from ric.metrics.context_error import STICKER_ABOVE
from ric.metrics.intervals import mean_interval
from ric.metrics.networks import NOT_ASKED, MetricNetworks, Network, Unavailable
from ric.scoring.judge_prompts import ASKED_FOR, QUESTIONS
from ric.scoring.kept_samples import photos_of
from ric.scoring.scores import Score, within_range
from ric.scoring.set_scores import SetScores, fid_and_kid, is_score, set_distance_score

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ric.scoring.load_metrics import LoadedMetric
    from ric.scoring.rules import Rules

    Measure: TypeAlias = Network | LoadedMetric | Unavailable

SHARES = ("edit_success", "sticker_rate")  # their values are hits and misses

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


JUDGE_DEFINITION = {
    "vie_semantics": "the lower of a judge's two grades, 0 to 10, of how the instruction was"
    " carried out and of what else was left alone; VIEScore's SC, in ric's words",
    "vie_quality": "the lower of a judge's two grades, 0 to 10, of how natural and how clean the"
    " edit looks; VIEScore's PQ, in ric's words",
    "vie_overall": "geometric mean of VIE semantics and VIE quality of each sample, as VIEScore and"
    " GEdit have it",
    "imgedit": "mean of a judge's three grades, 1 to 5, of compliance, seamlessness and"
    " plausibility; ImgEdit's, in ric's words",
}


def summarise(
    rows: Sequence[dict[str, Any]], sets: SetScores, networks: MetricNetworks, rules: Rules
) -> list[Score]:
    """Return the requested scores of one editor, the six of the paper's tables first.

    Args:
        rows: One dict per sample, sorted by id; those of drawn scenes have columns of
            `OF_SCENES`.
        sets: What FID, KID, IS and their like are computed from.
        networks: The metric networks that made them.
        rules: What is computed, and against what.
    """

    def mean(key: str, network: Measure, needs: str) -> Score:
        if key not in INSIDE:
            return mean_score(rows, key, network, needs=needs)
        both, against = f"mask and a {needs}", f"{needs}, inside the mask"
        return mean_score(rows, key, network, needs=both, against=against)

    own = {key: networks.own.get(key, NOT_ASKED) for key in OWN_NETWORK}
    scores = [
        mean("clip_i", networks.clip, rules.reference),
        mean("dino", networks.dino, rules.reference),
        _of_texts(rows, "clip_t", networks.clip, rules),
        mean("lpips", networks.lpips, rules.reference),
        *fid_and_kid(sets, networks.fid),
        is_score([row.is_logits for row in sets.rows], networks.inception_score),
    ]
    if not isinstance(networks.fid, Unavailable) and networks.fid is not networks.inception_score:
        # FID's own pass has the classes too: a second IS at no cost
        scores.append(is_score([row.logits for row in sets.rows], networks.fid))
    scores += [set_distance_score(key, sets, own[key]) for key in SET_DISTANCES]
    encoders = {"clip_i": networks.clip, "dino": networks.dino, **own}
    scores += [mean(f"{key}_{rules.other}", encoders[key], rules.other) for key in BOTH_WAYS]
    of_pairs = measured_by("cosine", "distance")
    scores += [mean(key, own[key], rules.reference) for key in of_pairs]
    scores += [_of_texts(rows, key, own[key], rules) for key in measured_by("text")]
    scores.append(_clip_direction(rows, networks.clip, rules))
    shipped = [metric for metric in rules.pair_metrics if not metric.own]
    scores += [mean(metric.key, metric, _needs(metric, rules)) for metric in shipped]
    scores.append(mean("lpips_outside", networks.lpips_squeeze, "mask"))
    scores.append(mean("lpips_inside", networks.lpips_squeeze, rules.reference))
    scores += [judged_score(rows, key, rules) for key in JUDGED if key in rules.metrics]
    scores += [scene_score(rows, key) for key in OF_SCENES]
    asked = {*rules.metrics, *rules.to_the_other}
    scores = [_with_derived_masks(score, rows) for score in scores if score.key in asked]
    for metric in rules.pair_metrics:
        if metric.own:
            score = mean(metric.key, metric, _needs(metric, rules))
            scores.append(replace(score, own=metric.own, definition=metric.definition))
    return [within_range(score) for score in scores]


def _needs(metric: LoadedMetric, rules: Rules) -> str:
    return rules.reference if metric.needs == "reference" else metric.needs


def _of_texts(
    rows: Sequence[dict[str, Any]], key: str, network: Network | Unavailable, rules: Rules
) -> Score:
    """Return CLIP-T or its like, noting how many samples used another text, and how many a cut one.

    Its rows say under `text_cut`, or of another score under its key and `_cut`, which were cut.
    """
    kinds = Counter(row["text_kind"] for row in rows if row["text_kind"])
    others = {kind: count for kind, count in kinds.items() if kind != rules.text}
    needs = ", else ".join([rules.text, *others])
    score = mean_score(rows, key, network, needs=needs)
    notes = [score.note] if score.note else []
    notes += [f"Without a {rules.text}, by the {kind}: {count}." for kind, count in others.items()]
    cut = "text_cut" if key == "clip_t" else f"{key}_cut"
    return replace(score, note=" ".join([*notes, *_cut_texts(rows, cut)]) or None)


def _clip_direction(
    rows: Sequence[dict[str, Any]], network: Network | Unavailable, rules: Rules
) -> Score:
    """Return CLIP's directional similarity, noting how many samples have a cut caption."""
    needs = "source_text and a target_text that differ"
    score = mean_score(rows, "clip_direction", network, needs=needs)
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


def judged_score(rows: Sequence[dict[str, Any]], key: str, rules: Rules) -> Score:
    """Return the mean of a judge's scores, noting how many samples lack a question or an answer."""
    held = [row for row in rows if row.get(key) is not None]
    told = any(QUESTIONS[one].shows_source for one in ASKED_FOR[key])
    unasked = sum(told and not row.get("instructed") for row in rows)
    unread = len(rows) - unasked - len(held)
    if not held:
        reason = "no sample has an instruction" if unasked else "the judge gave no readable answer"
        reason = reason if rows else "no sample was scored"
        return Score(key=key, marker=rules.judge, unavailable=reason)
    notes = [f"Samples without an instruction: {unasked} of {len(rows)}."] if unasked else []
    notes += [f"Samples without a readable answer: {unread} of {len(rows)}."] if unread else []
    values = [row[key] for row in held]
    return Score(
        key=key,
        marker=rules.judge,
        value=float(np.mean(values)),
        n=len(values),
        interval=mean_interval(values, photos=photos_of(held)),
        definition=JUDGE_DEFINITION[key],
        note=" ".join(notes) or None,
    )


def scene_score(rows: Sequence[dict[str, Any]], key: str) -> Score:
    """Return the mean of one of `OF_SCENES`; relative errors are weighted by the needed change."""
    held = [row for row in rows if row.get(key) is not None]
    if not held:
        return Score(key=key, unavailable="no sample asks for it")
    values = [row[key] for row in held]
    weights = weights_of(held, key)
    return Score(
        key=key,
        value=float(np.average(values, weights=weights)),
        n=len(held),
        interval=mean_interval(
            values, weights=weights, photos=photos_of(held), share=key in SHARES
        ),
        definition=SCENE_DEFINITION[key],
    )


def weights_of(rows: Sequence[dict[str, Any]], key: str) -> list[float] | None:
    """Return how much each sample counts in the mean of a column; None: all the same."""
    weight = {"region_error": "region_weight", "context_error": "context_weight"}.get(key)
    return [row[weight] for row in rows] if weight else None


def mean_score(
    rows: Sequence[dict[str, Any]],
    key: str,
    network: Measure,
    *,
    needs: str,
    against: str | None = None,
) -> Score:
    """Return the mean of one column over the samples that have it, with its interval.

    Args:
        rows: One dict per sample; a value may be None.
        key: The column.
        network: What measures it: a network, or a rule that needs none.
        needs: What a sample must have for this score: `target`, `source`, `mask`, or a text's name.
        against: What edited pictures are compared with, in the definition's words; None: `needs`.
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
        interval=mean_interval(values, photos=photos_of(held)),
        definition=f"edited and {against}: {network.definition}",
        note=f"Samples without a {needs}{small}: {missing} of {len(rows)}." if missing else None,
    )
