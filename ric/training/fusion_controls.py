"""What context is worth to the region judge: two controls, fitted like phase 1.

The same fusion, from the same start, on the same batches for as many steps, but shown the crop
alone or the full image alone. They read the cached tokens, so each costs no more than phase 1.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from ric.method.region_encoder import RegionEncoder
from ric.runs.rows import write_atomically
from ric.training.contrastive import Epochs, FitPhase, measure_splits, steps_of
from ric.training.loop import Cadence, Loop, TrainState, Watch

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
    epochs = Epochs(examples, config.batch_size, config.seed)
    for sees in CONTROLS:
        judge = start.control(sees)
        own = replace(pairs, judge=judge, embed=embed_cached(judge))
        trained = list(judge.fusion_parameters())
        phase = FitPhase("fusion", config.fusion_epochs, config.fusion_lr, trained)
        name = f"fitting the control that sees the {sees}"
        # nothing of it is logged or saved
        loop = Loop(run, progress, pairs.ranks, Cadence(), Watch(), name)
        steps = steps_of(phase, own, epochs, config)
        loop.take_steps(TrainState(dict(judge.named_parameters())), [steps])
        if not pairs.ranks.is_main:
            continue
        found[f"{sees} only"] = measure_splits(replace(own, embed=embed_with(judge)), splits)
    if pairs.ranks.is_main:
        write_atomically(run.path / "controls.json", json.dumps(found, indent=2) + "\n")
