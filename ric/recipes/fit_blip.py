"""`ric fit-blip`: fit the scene judge on target pictures and their paragraphs (Sec. 3.2.1)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, cast

import torch

from ric.data.batches import to_unit
from ric.device import pick_dtype
from ric.inputs.clean_estimates import with_estimates
from ric.inputs.examples import Example, Needs
from ric.inputs.fit_set import load_fit_set
from ric.inputs.pasted import of_changing_surroundings, pasted
from ric.method.alignment import flattened
from ric.method.losses import cosine
from ric.method.scene_encoder import NAME, SceneEncoder
from ric.models.locate import locate
from ric.runs.artifacts import write_judge
from ric.runs.descriptions import read_descriptions
from ric.training.contrastive import FitPhase, contrastive_epochs, measure_kept
from ric.training.contrastive_pairs import Pairs
from ric.training.judges import refuse_conflicting_settings
from ric.training.tracking import tracked
from ric.work import open_work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
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
    negatives = negatives_of(config)
    negative_of = {"": None, "source": source_of, "pasted": pasted}[negatives]
    needs = Needs(
        config.image_size,
        config.fit,
        descriptions=read_descriptions(config.descriptions, work.samples, run, ("scene_text",)),
        region_text="region_text" if config.pasted_negatives else None,  # boxes come with it
        require=("scene_text",),
        sources=bool(negatives) or config.blur_to_t is not None,
    )
    data = load_fit_set(config, work, needs)
    if config.blur_to_t is not None:
        fitted = with_estimates(data.fitted, config, work)
        data = replace(data, fitted=fitted)
    changing = of_changing_surroundings(data) if negatives == "pasted" else frozenset()
    pairs = Pairs(
        judge,
        partial(embed, negative_of=negative_of),
        text_of=lambda item: item.scene_text or "",
        device=work.device,
        dtype=pick_dtype(config.dtype, work.device),
        at_once=config.micro_batch or config.batch_size + 1,  # an epoch's last may be one longer
        ranks=work.ranks,
        negatives=negatives,
        counts=lambda item: negatives == "source" or item.id in changing,
    )
    trained = [judge.logit_scale, *judge.backbone_parameters()]
    phases = [
        FitPhase(
            "all",
            config.epochs,
            config.lr,
            trained,
            prepare=lambda: partial(embed, negative_of=negative_of, flatten=config.flatten),
            negatives=negatives,
        )
    ]
    with tracked(config.track if work.ranks.is_main else None, run):
        contrastive_epochs(pairs, data, phases, config, work)
    if work.ranks.is_main:
        measure_kept(pairs, data.measured, run)
        write_judge(judge, run, NAME, base=config.blip)
    return run.path / NAME


def negatives_of(config: FitBlipConfig) -> str:
    """Return what each text's further negative is: `source`, `pasted`, or "" for none."""
    return "source" if config.source_negatives else "pasted" if config.pasted_negatives else ""


def source_of(item: Example) -> Tensor:
    """Return an example's source: (3, S, S), uint8."""
    return cast("Tensor", item.source)  # `Needs` asked for it


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
    negative_of: Callable[[Example], Tensor] | None = None,
    flatten: float = 0.0,
) -> tuple[Tensor, ...]:
    """Embed examples' targets, their paragraphs and, if asked, their negatives: (N, Q) each.

    With `flatten`, the targets' pixels are first moved by one adversarial step of that length
    (choice 18).
    """

    def stacked(pictures: Iterable[Tensor]) -> Tensor:
        return to_unit(torch.stack(list(pictures)).to(judge.logit_scale.device))

    texts = judge.encode_text([item.scene_text or "" for item in items])
    disliked = flattened(
        stacked(item.target for item in items),
        lambda seen: -cosine(judge.encode_image(seen), texts.detach()),
        flatten,
    )
    targets = judge.encode_image(disliked)
    if negative_of is None:
        return targets, texts
    return targets, texts, judge.encode_image(stacked(negative_of(item) for item in items))
