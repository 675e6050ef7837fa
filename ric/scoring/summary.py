"""From samples to scores: means with intervals, FID, KID and IS, or why there is none."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ric.metrics.bootstrap import bootstrap_interval
from ric.metrics.context_error import STICKER_ABOVE
from ric.metrics.inception_score import SPLITS, inception_score
from ric.metrics.kid import SUBSETS
from ric.metrics.networks import Judges, Network, SetEncoder, Unavailable
from ric.scoring.encode_once import SetRow, Vector
from ric.scoring.scores import OF_SCENES, Score

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ric.config import Reference
    from ric.scoring.set_distances import FidSet, SetDistances

# Below Inception's width the covariances lack rank, and FID is mostly small-sample bias.
FID_SPEAKS_FROM = 2048
# Whose rule a score without a marker follows.
FID_RULE, IS_RULE = "clean", "torch-fidelity"

PIXEL_DEFINITION = {
    "l1": "mean absolute difference of levels in [0, 1]",
    "l2": "mean squared difference of levels in [0, 1]",
    "psnr_outside": "peak signal-to-noise ratio where the mask is black, at most 100 dB",
    "ssim_outside": "structural similarity (Gaussian of 1.5 pixels) where the mask is black, both"
    " pictures black elsewhere",
}

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


def summarise(
    rows: Sequence[dict[str, Any]],
    set_rows: Sequence[SetRow],
    judges: Judges,
    *,
    distances: SetDistances | str | None = None,
    fid_set: FidSet | None = None,
    reference: Reference,
    text: str = "text",
    text_kinds: Mapping[str, int] | None = None,
    cut_texts: int = 0,
    seed: int = 0,
    of_scenes: bool = False,
) -> list[Score]:
    """Return every score of one editor: the six of the paper's tables first.

    Args:
        rows: One dict a sample, in the order of sorted ids.
        set_rows: As `rows`.
        judges: The networks that made them.
        distances: FID and KID of `set_rows`; what stands in their way; or None where no sample has
            both pictures.
        fid_set: What FID and KID compare with in place of the targets.
        reference: Which picture `clip_i`, `dino`, `lpips`, `l1` and `l2` compare with.
        text: Which text CLIP-T was asked to compare with.
        text_kinds: How many samples' texts are of which kind; None: all are what was asked for.
        cut_texts: How many texts were too long for CLIP.
        seed: Of the bootstrap intervals.
        of_scenes: Whether these are drawn scenes, whose right answer is known.
    """
    other = "source" if reference == "target" else "target"

    def mean(key: str, judge: Network | Unavailable | None, needs: str) -> Score:
        return mean_score(rows, key, judge, needs=needs, seed=seed)

    others = {kind: count for kind, count in (text_kinds or {}).items() if kind != text}
    clip_t = mean("clip_t", judges.clip, ", else ".join([text, *others]))
    notes = [clip_t.note] if clip_t.note else []
    notes += [f"Without a {text}, by the {kind}: {count}." for kind, count in others.items()]
    if cut_texts:
        notes.append(f"Texts cut to the length the network reads: {cut_texts}.")
    clip_t = replace(clip_t, note=" ".join(notes) or None)
    outside = [
        mean("psnr_outside", None, "mask"),
        mean("ssim_outside", None, "mask"),
        mean("lpips_outside", judges.lpips_outside, "mask"),
    ]
    derived = sum(bool(row["mask_derived"]) for row in rows)
    if derived:
        about = f"Masks derived from where source and target differ: {derived} of {len(rows)}."
        outside = [replace(s, note=" ".join(filter(None, (s.note, about)))) for s in outside]
    scores = [
        mean("clip_i", judges.clip, reference),
        mean("dino", judges.dino, reference),
        clip_t,
        mean("lpips", judges.lpips, reference),
        *fid_and_kid(distances, judges.fid, samples=len(set_rows), fid_set=fid_set),
        is_score([row.is_logits for row in set_rows], judges.inception_score),
    ]
    if not isinstance(judges.fid, Unavailable) and judges.fid is not judges.inception_score:
        # FID's own pass has the classes too: a second IS for nothing
        scores.append(is_score([row.logits for row in set_rows], judges.fid))
    return [
        *scores,
        mean(f"clip_i_{other}", judges.clip, other),
        mean(f"dino_{other}", judges.dino, other),
        mean("l1", None, reference),
        mean("l2", None, reference),
        *outside,
        *(scene_score(rows, key, seed=seed) for key in (OF_SCENES if of_scenes else ())),
    ]


def scene_score(rows: Sequence[dict[str, Any]], key: str, *, seed: int = 0) -> Score:
    """Return the mean of one of `OF_SCENES`; relative errors count by how much had to change."""
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
        interval=bootstrap_interval(values, weights=weights, seed=seed),
        definition=SCENE_DEFINITION[key],
    )


def mean_score(
    rows: Sequence[dict[str, Any]],
    key: str,
    judge: Network | Unavailable | None,
    *,
    needs: str,
    seed: int = 0,
) -> Score:
    """Return the mean of one column over the samples that have it, with its interval.

    Args:
        rows: One dict a sample; a value may be None.
        key: The column.
        judge: Its network; None where it needs none.
        needs: What a sample must have for this score: `target`, `source`, `mask`, or a text's name.
        seed: Of the interval.
    """
    if isinstance(judge, Unavailable):
        return Score(key=key, unavailable=judge.reason)
    marker = judge.marker if judge else ""
    values = [row[key] for row in rows if row[key] is not None]
    least = getattr(judge, "smallest", 1)
    small = f" of {least} pixels or more" if least > 1 else ""
    if not values:
        reason = f"no sample has a {needs}{small}" if rows else "no sample was scored"
        return Score(key=key, marker=marker, unavailable=reason)
    against = "source, outside the mask" if needs == "mask" else needs
    missing = len(rows) - len(values)
    return Score(
        key=key,
        marker=marker,
        value=float(np.mean(values)),
        n=len(values),
        interval=bootstrap_interval(values, seed=seed),
        definition=f"edited and {against}: {judge.definition if judge else PIXEL_DEFINITION[key]}",
        note=f"Samples without a {needs}{small}: {missing} of {len(rows)}." if missing else None,
    )


def fid_and_kid(
    distances: SetDistances | str | None,
    judge: SetEncoder | Unavailable,
    *,
    samples: int,
    fid_set: FidSet | None = None,
) -> list[Score]:
    """Return FID and KID of the edited set and the other one, or why there are none."""
    if isinstance(judge, Unavailable):
        return [Score(key=key, unavailable=judge.reason) for key in ("fid", "kid")]
    marker = "" if judge.kind == FID_RULE else judge.kind
    if distances is None:
        distances = "no sample has a target" if samples else "no sample was scored"
    if isinstance(distances, str):
        return [Score(key=key, marker=marker, unavailable=distances) for key in ("fid", "kid")]
    count, others = distances.fid.n, len(fid_set.features) if fid_set else distances.fid.n
    few = (
        f"Below {FID_SPEAKS_FROM:,} pictures FID is mostly small-sample bias: N = {count}"
        + (f" edits and {others} pictures" if fid_set else "")
        + ", and it compares only with FIDs at this N."
    )
    of_pairs = (
        f"Edited and target pictures come in pairs, which adds {distances.kid.pair_bias:.4f}."
    )
    held_against = f"the {others} pictures of {fid_set.name}" if fid_set else "target set"
    about = f"edited set and {held_against}: {judge.definition}"
    return [
        Score(
            key="fid",
            marker=marker,
            value=distances.fid.value,
            n=count,
            std=distances.fid.error,
            definition=f"{about}; ± by the delete-a-tenth jackknife",
            note=few if min(count, others) < FID_SPEAKS_FROM else None,
        ),
        Score(
            key="kid",
            marker=marker,
            value=distances.kid.value,
            n=count,
            interval=distances.kid.interval,
            definition=f"{about}; unbiased, kernel (x.y / W + 1)^3, interval by {SUBSETS} halves"
            " without replacement",
            note=None if fid_set else of_pairs,
        ),
    ]


def is_score(logits: Sequence[Vector | None], judge: SetEncoder | Unavailable) -> Score:
    """Return the Inception score of the edited set; `logits` in the order of sorted ids."""
    if isinstance(judge, Unavailable):
        return Score(key="is", unavailable=judge.reason)
    marker = "" if judge.kind == IS_RULE else judge.kind
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
        definition=f"edited set, mean and std over {splits} splits: {judge.definition}",
        note=f"{score.n} pictures make splits of about {score.n // splits}: a split of one scores"
        " 1 whatever it shows."
        if score.n < 2 * SPLITS
        else None,
    )
