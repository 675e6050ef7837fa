"""`ric fit-blip`: fit the scene judge on target pictures and their paragraphs (Sec. 3.2.1)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

import torch

from ric.data.batches import to_unit
from ric.device import pick_device, pick_dtype
from ric.distributed import Ranks
from ric.inputs.examples import Example, enough, load_examples
from ric.method.scene_encoder import NAME, SceneEncoder
from ric.models.locate import locate
from ric.progress import Progress, Silent
from ric.runs.artifacts import write_judge
from ric.runs.samples import Descriptions, read_descriptions
from ric.runs.trained_on import list_trained_on
from ric.training.contrastive import FitPhase, contrastive_epochs, measure_kept
from ric.training.contrastive_pairs import Pairs
from ric.training.tracking import tracked

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from torch import Tensor

    from ric.config import FitBlipConfig, SplitName
    from ric.runs.run import RunDir
    from ric.training.contrastive_pairs import Embed


def fit_blip(config: FitBlipConfig, run: RunDir, progress: Progress | None = None) -> Path:
    """Fit the scene judge on DATA and return the folder `scene_encoder` of the run.

    Raises:
        RicError: fewer than two usable samples, a model that cannot be had, or a loss that is not
            finite ten times in a row.
        Interrupted: asked to stop; the run resumes from its checkpoint.
    """
    progress = progress or Silent()
    device = pick_device(config.device)
    blip = locate(config, "blip", run)
    ranks = Ranks(device)
    judge = start_judge(blip, config).to(device)
    judge.eval()  # BLIP's dropout is 0; repeating a command repeats its result

    descriptions = read_descriptions(config.descriptions, config, run)

    def examples_of(split: SplitName) -> list[Example]:
        return _examples(config, run, progress, split, descriptions)

    examples = enough(ranks.once_per_machine(partial(examples_of, config.split)), run)
    list_trained_on(examples, run)
    splits: dict[str, list[Example]] = {config.split: examples}
    if config.split == "train":  # only the main process measures
        splits = {split: examples_of(split) for split in ("val", "test") if ranks.is_main}
    pairs = Pairs(
        judge,
        embed_with(judge, device, with_sources=config.source_negatives),
        text_of=lambda item: item.scene_text or "",
        device=device,
        dtype=pick_dtype(config.dtype, device),
        at_once=config.micro_batch or config.batch_size + 1,  # an epoch's last may be one longer
        ranks=ranks,
        told_from_sources=config.source_negatives,
    )
    trained = [judge.logit_scale, *judge.backbone_parameters()]
    phases = [FitPhase("all", config.epochs, config.lr, trained)]
    held_out = splits.get("val", [])
    with tracked(config.track if ranks.is_main else None, run):
        contrastive_epochs(pairs, examples, held_out, phases, config, run, progress)
    if ranks.is_main:
        measure_kept(pairs, splits, run)
        write_judge(judge, run, "scene_encoder", base=config.blip)
    return run.path / "scene_encoder"


def start_judge(path: Path, config: FitBlipConfig) -> SceneEncoder:
    """Start from a pretrained BLIP, or go on with a fitted judge and its own tau."""
    if (path / f"{NAME}.json").is_file():
        return SceneEncoder.from_pretrained(path)
    return SceneEncoder.from_blip(
        path, max_text_tokens=config.max_text_tokens, temperature=config.temperature
    )


def embed_with(judge: SceneEncoder, device: torch.device, *, with_sources: bool = False) -> Embed:
    """Give what embeds examples' targets, their paragraphs, and maybe sources: (N, Q) each."""

    def images_of(pictures: Iterable[Tensor]) -> Tensor:
        return judge.encode_image(to_unit(torch.stack(list(pictures)).to(device)))

    def embed(items: Sequence[Example]) -> tuple[Tensor, ...]:
        targets = images_of(item.target for item in items)
        texts = judge.encode_text([item.scene_text or "" for item in items])
        if not with_sources:
            return targets, texts
        return targets, texts, images_of(cast("Tensor", item.source) for item in items)

    return embed


def _examples(
    config: FitBlipConfig,
    run: RunDir,
    progress: Progress,
    split: SplitName,
    descriptions: Descriptions | None,
) -> list[Example]:
    return load_examples(
        config,
        run,
        progress,
        split=split,
        size=config.image_size,
        fit=config.fit,
        descriptions=descriptions,
        require=("scene_text",),
        keep_source=config.source_negatives,
    )
