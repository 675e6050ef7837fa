"""What context is worth to the region judge: two controls, fitted like phase 1.

The same fusion, from the same start, on the same batches for as many steps, but shown the crop
alone or the full image alone. They read the cached tokens, so each costs no more than phase 1.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from ric.interrupt import stop_between_steps
from ric.method.region_encoder import RegionEncoder
from ric.runs.rows import write_atomically
from ric.training.contrastive import batches_of_epoch
from ric.training.optimizer import GuardedAdamW

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ric.config import FitClipConfig, Sees
    from ric.inputs.examples import Example
    from ric.progress import Progress
    from ric.runs.run import RunDir
    from ric.training.contrastive_pairs import Embed, Pairs

CONTROLS: tuple[Sees, ...] = ("crop", "image")


def asks_for_controls(config: FitClipConfig) -> bool:
    """Tell whether controls say anything about a fit: it has a phase 1, and fuses both streams."""
    fuses = config.gated_fusion and config.sees == "both"
    return config.controls and fuses and config.fusion_epochs > 0


def fit_controls(
    pairs: Pairs,
    examples: Sequence[Example],
    splits: Mapping[str, Sequence[Example]],
    config: FitClipConfig,
    run: RunDir,
    progress: Progress,
    *,
    embed_with: Callable[[RegionEncoder], Embed],
    embed_cached: Callable[[RegionEncoder], Embed],
) -> None:
    """Fit the controls of a region judge that nothing has changed yet; write `controls.json`.

    Args:
        pairs: Of the judge.
        examples: What is fitted.
        splits: What is measured, at the end, by name; those of fewer than two are left out.
        config: Phase 1's settings.
        run: Gets `controls.json`: by control and split, what `retrieval.json` holds.
        progress: Told about each step.
        embed_with: Gives what embeds any example with a judge.
        embed_cached: Gives what embeds the fitted examples from their tokens.

    Raises:
        RicError: a loss was not finite ten times in a row.
        Interrupted: asked to stop; the controls are fitted again when the run resumes.
    """
    found = {}
    start = pairs.judge
    assert isinstance(start, RegionEncoder)
    per_epoch = len(batches_of_epoch(len(examples), config.batch_size, config.seed, 0))
    steps = per_epoch * config.fusion_epochs
    for sees in CONTROLS:
        judge = start.control(sees)
        judge.requires_grad_(False)
        trained = list(judge.fusion_parameters())
        for parameter in trained:
            parameter.requires_grad_(True)
        own = replace(pairs, judge=judge, embed=embed_cached(judge))
        optimizer = GuardedAdamW(trained, lr=config.fusion_lr, weight_decay=config.weight_decay)
        with (
            stop_between_steps(second_ends=pairs.ranks.count == 1) as stop,
            progress.stage(f"fitting the control that sees the {sees}", total=steps) as stage,
        ):
            for step in range(steps):
                epoch, place = divmod(step, per_epoch)
                batches = batches_of_epoch(len(examples), config.batch_size, config.seed, epoch)
                optimizer.step(own.backward([examples[index] for index in batches[place]]))
                stage.advance()
                if asked := pairs.ranks.asked_of_any(stop):
                    pairs.ranks.leave_together(asked)
        optimizer.check()
        if not pairs.ranks.leads:
            continue
        measured = replace(own, embed=embed_with(judge))
        found[f"{sees} only"] = {
            split: {"samples": float(len(some)), **measured.measure(some)}
            for split, some in splits.items()
            if len(some) > 1
        }
    if pairs.ranks.leads:
        write_atomically(run.path / "controls.json", json.dumps(found, indent=2) + "\n")
