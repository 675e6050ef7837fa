"""`ric fit-clip`: fit the region judge, first its fusion, then all of it (Sec. 3.2.1, 3.2.2).

Both views are of the *target* picture (choice 3): the crop of its edited region and the whole of
it, against the region's text.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING

import torch

from ric.data.batches import to_unit
from ric.device import pick_device, pick_dtype
from ric.distributed import Ranks
from ric.inputs.clip_tokens import TokenCache, cache_tokens
from ric.inputs.examples import Example, enough, load_examples
from ric.method.region_encoder import NAME, RegionEncoder
from ric.models.locate import locate
from ric.progress import Progress, Silent
from ric.runs.artifacts import write_judge
from ric.runs.trained_on import list_trained_on
from ric.training.contrastive import FitPhase, contrastive_epochs, measure_kept
from ric.training.contrastive_pairs import Pairs
from ric.training.fusion_controls import asks_for_controls, fit_controls
from ric.training.tracking import tracked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor

    from ric.config import FitClipConfig, SplitName
    from ric.runs.run import RunDir
    from ric.training.contrastive_pairs import Embed


def fit_clip(config: FitClipConfig, run: RunDir, progress: Progress | None = None) -> Path:
    """Fit the region judge on DATA and return the folder `region_encoder` of the run.

    Raises:
        RicError: fewer than two usable samples, a model that cannot be had, or a loss that is not
            finite ten times in a row.
        Interrupted: asked to stop; the run resumes from its checkpoint.
    """
    progress = progress or Silent()
    device = pick_device(config.device)
    clip = locate(config, "clip", run)
    ranks = Ranks(device)
    judge = start_judge(clip, config).to(device)
    judge.eval()  # CLIP has no dropout; nothing here depends on the mode but libraries' defaults

    def examples_of(split: SplitName) -> list[Example]:
        return _examples(config, run, progress, split)

    examples = enough(ranks.once_per_machine(partial(examples_of, config.split)), run)
    list_trained_on(examples, run)
    splits: dict[str, list[Example]] = {config.split: examples}
    if config.split == "train":  # only the main process measures
        splits = {split: examples_of(split) for split in ("val", "test") if ranks.is_main}
    pairs = Pairs(
        judge,
        embed_with(judge, device),
        text_of=lambda item: item.region_text or "",
        device=device,
        dtype=pick_dtype(config.dtype, device),
        at_once=config.micro_batch or config.batch_size + 1,  # an epoch's last may be one longer
        ranks=ranks,
    )

    @cache
    def tokens() -> TokenCache:
        return cache_tokens(
            judge,
            examples,
            dtype=pairs.dtype,
            at_once=pairs.at_once,
            ranks=ranks,
            progress=progress,
        )

    if asks_for_controls(config) and not (run.path / "controls.json").is_file():
        fit_controls(
            pairs,
            examples,
            splits,
            config,
            run,
            progress,
            embed_with=lambda control: embed_with(control, device),
            embed_cached=lambda control: replace(tokens(), judge=control).embed,
        )
    phases = phases_of(judge, config, prepare=lambda: tokens().embed)
    held_out = splits.get("val", [])
    with tracked(config.track if ranks.is_main else None, run):
        contrastive_epochs(pairs, examples, held_out, phases, config, run, progress)
    if ranks.is_main:
        measure_kept(pairs, splits, run)
        write_judge(judge, run, "region_encoder", base=config.clip)
    return run.path / "region_encoder"


def phases_of(
    judge: RegionEncoder, config: FitClipConfig, prepare: Callable[[], Embed]
) -> list[FitPhase]:
    """Give Sec. 3's two phases: the fusion alone on tokens that `prepare` caches, then all."""
    fusion, backbone = list(judge.fusion_parameters()), list(judge.backbone_parameters())
    return [
        FitPhase("fusion", config.fusion_epochs, config.fusion_lr, fusion, prepare=prepare),
        FitPhase("joint", config.joint_epochs, config.joint_lr, [*fusion, *backbone]),
    ]


def start_judge(path: Path, config: FitClipConfig) -> RegionEncoder:
    """Put a fresh fusion on a CLIP, or go on with a fitted judge and its own fusion and tau."""
    if (path / f"{NAME}.json").is_file():
        judge = RegionEncoder.from_pretrained(path)
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


def embed_with(judge: RegionEncoder, device: torch.device) -> Embed:
    """Give what embeds examples' regions in their targets, and their texts: (N, P) each."""

    def embed(items: Sequence[Example]) -> tuple[Tensor, Tensor]:
        images = to_unit(torch.stack([item.target for item in items]).to(device))
        visual = judge.encode_region(images, [item.box for item in items if item.box])
        return visual, judge.encode_text([item.region_text or "" for item in items])

    return embed


def _examples(
    config: FitClipConfig, run: RunDir, progress: Progress, split: SplitName
) -> list[Example]:
    return load_examples(
        config,
        run,
        progress,
        split=split,
        size=config.image_size,
        fit=config.fit,
        region_text=config.region_text,
        require=("region_text", "box"),
        keep_source=False,
    )
