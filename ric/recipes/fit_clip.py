"""`ric fit-clip`: fit the region judge, first its fusion, then all of it (Sec. 3.2.1, 3.2.2).

It sees the *target* picture (choice 3), as the crop of the edited region and as a whole, and
compares the two with the region's text.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING

import torch

from ric.data.batches import to_unit
from ric.device import pick_dtype
from ric.inputs.clean_estimates import with_estimates
from ric.inputs.clip_tokens import TokenCache, cache_tokens
from ric.inputs.examples import Example, Needs
from ric.inputs.fit_set import load_fit_set
from ric.method.alignment import flattened
from ric.method.losses import cosine
from ric.method.region_encoder import NAME, RegionEncoder
from ric.models.locate import locate
from ric.runs.artifacts import write_judge
from ric.runs.descriptions import read_descriptions
from ric.training.contrastive import FitPhase, contrastive_epochs, measure_kept
from ric.training.contrastive_pairs import Pairs
from ric.training.further_negatives import NONE, FurtherNegatives, further_negatives
from ric.training.fusion_controls import asks_for_controls, fit_controls
from ric.training.judges import refuse_conflicting_settings
from ric.training.tracking import tracked
from ric.work import open_work

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor

    from ric.config import FitClipConfig
    from ric.progress import Progress
    from ric.runs.run import RunDir
    from ric.training.contrastive_pairs import Embed


def fit_clip(config: FitClipConfig, run: RunDir, progress: Progress | None = None) -> Path:
    """Fit the region judge on DATA and return the folder `region_encoder` of the run.

    Raises:
        RicError: there are fewer than two usable samples, the model cannot be loaded, or the loss
            was not finite ten times in a row.
        Interrupted: a stop was requested; the run resumes from its checkpoint.
    """
    work = open_work(config, run, progress)
    judge = start_judge(locate(config, "clip", run), config).to(work.device)
    judge.eval()  # CLIP's dropout is 0 by default; this makes sure of it
    needs = Needs(
        config.image_size,
        config.fit,
        region_text=config.region_text,
        descriptions=read_descriptions(config.descriptions, work.samples, run, ("region_text",)),
        require=("region_text", "box"),
        sources=config.blur_to_t is not None or config.pasted_negatives,
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

    @cache
    def cached() -> TokenCache:
        return cache_tokens(judge, data.fitted, work, dtype=pairs.dtype, at_once=pairs.at_once)

    if asks_for_controls(config) and not (run.path / "controls.json").is_file():
        fit_controls(pairs, data, config, work, embed_cached=cached().embed)
    phases = phases_of(judge, config, prepare=lambda: cached().embed, further=further)
    with tracked(config.track if work.ranks.is_main else None, run):
        contrastive_epochs(pairs, data, phases, config, work)
    if work.ranks.is_main:
        measure_kept(pairs, data.measured, run)
        write_judge(judge, run, NAME, base=config.clip)
    return run.path / NAME


def phases_of(
    judge: RegionEncoder,
    config: FitClipConfig,
    prepare: Callable[[], Embed],
    further: FurtherNegatives,
) -> list[FitPhase]:
    """Return Sec. 3's two phases: the fusion alone on tokens that `prepare` caches, then all.

    Only the second has `further` negatives.
    """
    fusion, backbone = list(judge.fusion_parameters()), list(judge.backbone_parameters())
    return [
        FitPhase(
            "fusion", config.fusion_epochs, config.fusion_lr, fusion, prepare=prepare, further=False
        ),
        FitPhase(
            "joint",
            config.joint_epochs,
            config.joint_lr,
            [*fusion, *backbone],
            prepare=lambda: partial(embed, flatten=config.flatten, further=further),
        ),
    ]


def start_judge(path: Path, config: FitClipConfig) -> RegionEncoder:
    """Add a new fusion to a CLIP, or start from a fitted judge with its own fusion and tau.

    Raises:
        RicError: the folder holds neither, or a setting contradicts a fitted judge's own value.
    """
    if (path / f"{NAME}.json").is_file():
        judge = RegionEncoder.from_pretrained(path)
        own = {"num_heads": judge.fusion.num_heads, "temperature": judge.temperature.item()}
        refuse_conflicting_settings(config, "clip", own)
        judge.gated = config.gated_fusion
    else:
        judge = RegionEncoder.from_clip(
            path,
            gated=config.gated_fusion,
            num_heads=config.num_heads,
            temperature=config.temperature,
            seed=config.seed,
        )
    judge.sees = config.sees
    return judge


def embed(
    judge: RegionEncoder,
    items: Sequence[Example],
    *,
    flatten: float = 0.0,
    further: FurtherNegatives = NONE,
) -> tuple[Tensor, ...]:
    """Embed the regions of examples' targets, their texts and further negatives: (N, P) each.

    Args:
        judge: Embeds them.
        items: N examples.
        flatten: The length of an adversarial step by which pixels are moved first (choice 18).
        further: The negatives to embed next, the wrong pictures' regions before the wrong texts.
    """
    device = judge.logit_scale.device
    images = to_unit(torch.stack([item.target for item in items]).to(device))
    visual_of = partial(judge.encode_region, boxes=[item.box for item in items if item.box])
    text = judge.encode_text([text_of(item) for item in items])
    disliked = flattened(images, lambda seen: -cosine(visual_of(seen), text.detach()), flatten)
    embedded = [visual_of(disliked), text]
    if further.picture_of is not None:
        wrong = to_unit(torch.stack([further.picture_of(item) for item in items]).to(device))
        embedded.append(visual_of(wrong))
    if further.text_of is not None:
        embedded.append(judge.encode_text([further.text_of(item) or "" for item in items]))
    return tuple(embedded)


def text_of(item: Example) -> str:
    """Return an example's region text."""
    return item.region_text or ""
