"""Two controls that measure what context is worth to the region judge, fitted like phase 1.

Each is the same fusion, with the same initial weights, batches and number of steps, but given the
crop alone or the full image alone. They read the cached tokens, so each costs no more than phase 1.
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
    from ric.config import FitClipConfig, Sees
    from ric.inputs.fit_set import FitSet
    from ric.training.contrastive_pairs import Embed, Pairs
    from ric.work import Work

CONTROLS: tuple[Sees, ...] = ("crop", "image")


def asks_for_controls(config: FitClipConfig) -> bool:
    """Tell whether controls are on and apply: there is a phase 1, and it fuses both streams."""
    fuses = config.gated_fusion and config.sees == "both"
    return config.controls and fuses and config.fusion_epochs > 0


def fit_controls(
    pairs: Pairs, data: FitSet, config: FitClipConfig, work: Work, embed_cached: Embed
) -> None:
    """Fit the controls of a region judge, before its own fit; write `controls.json`.

    Args:
        pairs: The judge's, with its initial weights.
        data: The examples to fit, and those measured at the end, on each split of at least two.
        config: Phase 1's settings.
        work: The run gets `controls.json`: for each control what `retrieval.json` holds.
        embed_cached: Embeds the fitted examples from their cached tokens.

    Raises:
        RicError: a loss was not finite ten times in a row.
        Interrupted: a stop was requested; the controls are fitted again when the run resumes.
    """
    found = {}
    start = pairs.judge
    assert isinstance(start, RegionEncoder)
    epochs = Epochs(data.fitted, config.batch_size, config.seed)
    for sees in CONTROLS:
        judge = start.control(sees)
        own = replace(pairs, judge=judge)
        trained = list(judge.fusion_parameters())
        phase = FitPhase("fusion", config.fusion_epochs, config.fusion_lr, trained)
        name = f"fitting the control that sees the {sees}"
        # an empty cadence: nothing is logged or saved
        loop = Loop(work.run, work.progress, work.ranks, Cadence(), Watch(), name)
        steps = steps_of(phase, replace(own, embed=embed_cached, further={}), epochs, config)
        loop.take_steps(TrainState(dict(judge.named_parameters())), [steps])
        if work.ranks.is_main:
            found[f"{sees} only"] = measure_splits(own, data.measured)
    if work.ranks.is_main:
        write_atomically(work.run.path / "controls.json", json.dumps(found, indent=2) + "\n")
