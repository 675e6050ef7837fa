"""`ric fit-blip`: fit the scene judge on target pictures and their paragraphs (Sec. 3.2.1)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from ric.data.batches import to_unit
from ric.device import pick_dtype
from ric.inputs.clean_estimates import with_estimates
from ric.inputs.examples import Example, Needs
from ric.inputs.fit_set import load_fit_set
from ric.method.alignment import flattened
from ric.method.losses import cosine
from ric.method.scene_encoder import NAME, SceneEncoder
from ric.models.locate import locate
from ric.runs.artifacts import write_judge
from ric.runs.descriptions import read_descriptions
from ric.training.contrastive import FitPhase, contrastive_epochs, measure_kept
from ric.training.contrastive_pairs import Pairs
from ric.training.further_negatives import NONE, FurtherNegatives, further_negatives
from ric.training.judges import refuse_conflicting_settings
from ric.training.tracking import tracked
from ric.work import open_work

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from torch import Tensor

    from ric.config import FitBlipConfig
    from ric.progress import Progress
    from ric.runs.run import RunDir


def fit_blip(config: FitBlipConfig, run: RunDir, progress: Progress | None = None) -> Path:
    """Fit the scene judge on DATA and return the folder `scene_encoder` of the run.

    Raises:
        RicError: there are fewer than two usable samples, the model cannot be loaded, or the loss
            was not finite ten times in a row.
        Interrupted: a stop was requested; the run resumes from its checkpoint.
    """
    work = open_work(config, run, progress)
    judge = start_judge(locate(config, "blip", run), config).to(work.device)
    judge.eval()  # BLIP's dropout is 0 by default; this makes sure of it
    needs = Needs(
        config.image_size,
        config.fit,
        descriptions=read_descriptions(config.descriptions, work.samples, run, ("scene_text",)),
        region_text="region_text" if config.pasted_negatives else None,  # boxes come with it
        require=("scene_text",),
        sources=config.source_negatives or config.pasted_negatives or config.blur_to_t is not None,
    )
    data = load_fit_set(config, work, needs)
    if config.blur_to_t is not None:
        fitted = with_estimates(data.fitted, config, work)
        data = replace(data, fitted=fitted)
    further = further_negatives(config, data, text_of)
    pairs = Pairs(
        judge,
        partial(embed, further=further),
        text_of=text_of,
        device=work.device,
        dtype=pick_dtype(config.dtype, work.device),
        at_once=config.micro_batch or config.batch_size + 1,  # an epoch's last may be one longer
        ranks=work.ranks,
        further=further.counts,
    )
    trained = [judge.logit_scale, *judge.backbone_parameters()]
    phases = [
        FitPhase(
            "all",
            config.epochs,
            config.lr,
            trained,
            prepare=lambda: partial(embed, flatten=config.flatten, further=further),
        )
    ]
    with tracked(config.track if work.ranks.is_main else None, run):
        contrastive_epochs(pairs, data, phases, config, work)
    if work.ranks.is_main:
        measure_kept(pairs, data.measured, run)
        write_judge(judge, run, NAME, base=config.blip)
    return run.path / NAME


def start_judge(path: Path, config: FitBlipConfig) -> SceneEncoder:
    """Start from a pretrained BLIP, or from a fitted judge with its own tau.

    Raises:
        RicError: the folder holds neither, or a setting contradicts a fitted judge's own value.
    """
    if (path / f"{NAME}.json").is_file():
        judge = SceneEncoder.from_pretrained(path)
        own = {"max_text_tokens": judge.max_text_tokens, "temperature": judge.temperature.item()}
        refuse_conflicting_settings(config, "blip", own)
        return judge
    return SceneEncoder.from_blip(
        path, max_text_tokens=config.max_text_tokens, temperature=config.temperature
    )


def embed(
    judge: SceneEncoder,
    items: Sequence[Example],
    *,
    flatten: float = 0.0,
    further: FurtherNegatives = NONE,
) -> tuple[Tensor, ...]:
    """Embed examples' targets, their paragraphs and further negatives: (N, Q) each.

    Args:
        judge: Embeds them.
        items: N examples.
        flatten: The length of an adversarial step by which the targets' pixels are moved first
            (choice 18).
        further: The negatives to embed next, the wrong pictures before the wrong texts.
    """

    def stacked(pictures: Iterable[Tensor]) -> Tensor:
        return to_unit(torch.stack(list(pictures)).to(judge.logit_scale.device))

    texts = judge.encode_text([text_of(item) for item in items])
    disliked = flattened(
        stacked(item.target for item in items),
        lambda seen: -cosine(judge.encode_image(seen), texts.detach()),
        flatten,
    )
    embedded = [judge.encode_image(disliked), texts]
    if further.picture_of is not None:
        wrong = stacked(further.picture_of(item) for item in items)
        embedded.append(judge.encode_image(wrong))
    if further.text_of is not None:
        embedded.append(judge.encode_text([further.text_of(item) or "" for item in items]))
    return tuple(embedded)


def text_of(item: Example) -> str:
    """Return an example's paragraph."""
    return item.scene_text or ""
