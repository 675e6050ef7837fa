"""The fitting loop of both judges: epochs of Eq. 11 over pairs, resumable to the bit (Sec. 3.2.1).

The batches are a function of the seed and the epoch, so a resumed run sees exactly those that are
left, and all processes of one command compute the same ones without communicating.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from ric.device import draw_generator
from ric.errors import RicError
from ric.report.curves import Panel, draw_curves
from ric.runs.checkpoints import (
    all_checkpoints,
    damage_of,
    last_checkpoint,
    load_checkpoint,
    restore_tensors,
    save_checkpoint,
)
from ric.runs.rows import write_atomically
from ric.training.loop import Cadence, Loop, Phase, TrainState, Watch
from ric.training.optimizer import GuardedAdamW

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor, nn

    from ric.config import FitBlipConfig, FitClipConfig
    from ric.inputs.examples import Example
    from ric.inputs.fit_set import FitSet
    from ric.runs.run import RunDir
    from ric.training.contrastive_pairs import Embed, Pairs
    from ric.work import Work


CURVES = (
    Panel("Eq. 11", "^loss$"),
    Panel("recall at 1", "recall_at_1$", (0, 1)),
    Panel("recall at 5", "recall_at_5$", (0, 1)),
    Panel("temperature", "^temperature$"),
)


@dataclass(frozen=True)
class FitPhase:
    """Some epochs (0: none) with one set of trained parameters and one learning rate.

    Attributes:
        prepare: Called before the first step; returns the embedding function for the fitted
            examples in this phase. None: that of `Pairs`.
        further: Whether that function embeds the further negatives of `Pairs` as well.
    """

    name: str
    epochs: int
    lr: float
    trained: list[nn.Parameter]
    prepare: Callable[[], Embed] | None = None
    further: bool = True


def batches_of_epoch(count: int, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Shuffle `count` indices into batches; a last one of fewer than 2 joins the one before."""
    order = torch.randperm(count, generator=draw_generator(seed, "epoch", epoch)).tolist()
    batches = [order[start : start + batch_size] for start in range(0, count, batch_size)]
    if len(batches) > 1 and len(batches[-1]) < 2:
        single = batches.pop()
        batches[-1] += single
    return batches


class Epochs:
    """The batches of a fit, by step.

    Attributes:
        steps: Steps in one epoch.
    """

    def __init__(self, examples: Sequence[Example], batch_size: int, seed: int) -> None:
        """Shuffle the first epoch's batches."""
        self.examples = examples
        self._how = (len(examples), batch_size, seed)
        self._epoch, self._batches = 0, batches_of_epoch(*self._how, 0)
        self.steps = len(self._batches)

    def batch(self, step: int) -> list[Example]:
        """Return the examples of a step, counted from 0 over all epochs."""
        epoch, place = divmod(step, self.steps)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, batches_of_epoch(*self._how, epoch)
        return [self.examples[index] for index in self._batches[place]]


def contrastive_epochs(
    pairs: Pairs,
    data: FitSet,
    phases: Sequence[FitPhase],
    settings: FitClipConfig | FitBlipConfig,
    work: Work,
) -> None:
    """Fit the judge by Eq. 11, phase after phase, logging, measuring and writing checkpoints.

    Retrieval is measured before the first step, every `measure_every` epochs and after each phase:
    on the held-out examples if there are at least two, else on the fitted ones; the figures carry
    the split's name. `--keep best` restores the weights with the highest mean of both recalls at 1.

    Args:
        pairs: Holds the judge, and all parameters that a phase trains.
        data: The fitted and the held-out examples.
        phases: Run one after the other.
        settings: The command's config.
        work: Its run gets metrics.jsonl, checkpoints, and the number of texts too long for the
            judge; its progress shows each step.

    Raises:
        RicError: a batch of one pair, too few held-out examples to choose the best by, a loss that
            was not finite ten times in a row, or a checkpoint that cannot be written.
        Interrupted: a stop was requested; a checkpoint was written first.
    """
    judge, run, ranks = pairs.judge, work.run, work.ranks
    _refuse_too_few(settings, len(data.held_out) if ranks.is_main else None)
    named = dict(judge.named_parameters())
    state = TrainState(named)
    state.resume(last_checkpoint(run, work.progress))
    on_val = len(data.held_out) > 1
    measured, of_split = (data.held_out, "val") if on_val else (data.fitted, settings.split)
    best = BestSoFar(run, of_split)

    def measure(done: int) -> dict[str, float]:
        if not ranks.is_main:
            return {}
        figures = {f"{of_split}_{name}": value for name, value in pairs.measure(measured).items()}
        if settings.keep == "best" and done:
            best.offer(done, figures, named)
        return figures

    judge.truncated_texts = 0
    judge.tokenize([pairs.text_of(item) for item in data.fitted])
    run.note(truncated_texts=judge.truncated_texts, processes=ranks.count)
    epochs = Epochs(data.fitted, settings.batch_size, settings.seed)
    cadence = Cadence.of(settings, measure=epochs.steps * settings.measure_every)
    watch = Watch(
        measure=measure,
        also=lambda: {"temperature": judge.temperature.item()},
        shown="^loss$|i2t_recall_at_1",
    )
    loop = Loop(run, work.progress, ranks, cadence, watch, "fitting")
    loop.take_steps(state, _prepared(phases, pairs, epochs, settings, state.done))
    if settings.keep == "best" and ranks.is_main:
        run.note(kept_step=best.take_back(named))


def _prepared(
    phases: Sequence[FitPhase],
    pairs: Pairs,
    epochs: Epochs,
    settings: FitClipConfig | FitBlipConfig,
    done: int,
) -> list[Phase]:
    """Prepare all phases that are not over after `done` steps, before the loop begins.

    The loop defers signals, and preparing a phase may take long.
    """
    steps, end = [], 0
    for phase in phases:
        end += phase.epochs * epochs.steps
        needed = phase.prepare if phase.epochs and done < end else None
        own = replace(pairs, embed=needed()) if needed else pairs
        if not phase.further:
            own = replace(own, further={})
        steps.append(steps_of(phase, own, epochs, settings))
    return steps


def _refuse_too_few(settings: FitClipConfig | FitBlipConfig, held_out: int | None) -> None:
    """Refuse batches of one pair, and a val split too small to choose by (None: not counted)."""
    if settings.batch_size < 2:
        raise RicError(
            f"--batch-size is {settings.batch_size}: a contrastive loss needs other pairs.",
            "Use at least 2; the paper uses 64 and 32.",
        )
    if held_out is not None and settings.keep == "best" and held_out < 2:
        raise RicError(
            f"{settings.data} has {held_out} usable val samples: too few to choose by.",
            "Keep the last weights: --keep last"
            + ("; or describe val, too" if settings.descriptions else ""),
        )


def steps_of(
    phase: FitPhase, pairs: Pairs, epochs: Epochs, settings: FitClipConfig | FitBlipConfig
) -> Phase:
    """Turn a phase of a fit into a phase of the training loop."""

    def begin() -> GuardedAdamW:
        _train_only(pairs.judge, phase.trained)
        return GuardedAdamW(phase.trained, lr=phase.lr, weight_decay=settings.weight_decay)

    return Phase(
        name=phase.name,
        steps=phase.epochs * epochs.steps,
        begin=begin,
        step=lambda step, logs: {"loss": pairs.backward(epochs.batch(step))},
        rate=lambda step: phase.lr,
        images=lambda step: len(epochs.batch(step)),
    )


class BestSoFar:
    """The weights with the best retrieval so far, kept in the run's folder `best`."""

    def __init__(self, run: RunDir, split: str) -> None:
        """Read the best recall of an earlier attempt at the run (raises as `take_back`)."""
        self.folder = run.path / "best"
        self.split = split
        self.recall = -1.0
        if all_checkpoints(self.folder):
            self.recall = json.loads((self._kept() / "state.json").read_text())["recall"]

    def offer(self, step: int, figures: Mapping[str, float], named: Mapping[str, Tensor]) -> None:
        """Save the weights if their mean recall at 1 is higher than any before."""
        both = [figures[f"{self.split}_{name}_recall_at_1"] for name in ("i2t", "t2i")]
        recall = sum(both) / 2
        if recall > self.recall:
            self.recall = recall
            save_checkpoint(self.folder, step, {"model": dict(named)}, {"recall": recall}, keep=1)

    def take_back(self, named: Mapping[str, Tensor]) -> int:
        """Restore the best weights; return their step (raises RicError if they are damaged)."""
        groups, state = load_checkpoint(self._kept())
        restore_tensors(named, groups["model"])
        return int(state["step"])

    def _kept(self) -> Path:
        kept = all_checkpoints(self.folder)[-1]
        if file := damage_of(kept):
            raise RicError(
                f"{kept / file} is damaged: the best weights cannot be restored.",
                "Begin a new fit in another run, or with --keep last.",
            )
        return kept


def measure_splits(
    pairs: Pairs, splits: Mapping[str, Sequence[Example]]
) -> dict[str, dict[str, float]]:
    """Measure retrieval on each split that has at least two examples."""
    return {
        split: {"samples": float(len(examples)), **pairs.measure(examples)}
        for split, examples in splits.items()
        if len(examples) > 1
    }


def measure_kept(
    pairs: Pairs, splits: Mapping[str, Sequence[Example]], run: RunDir
) -> dict[str, dict[str, float]]:
    """Measure the kept weights on each split that has at least two examples.

    The figures go to the run's `retrieval.json`; `curves.png` shows all logged values.
    """
    figures = measure_splits(pairs, splits)
    write_atomically(run.path / "retrieval.json", json.dumps(figures, indent=2) + "\n")
    draw_curves(run, CURVES)
    return figures


def _train_only(judge: nn.Module, trained: Sequence[nn.Parameter]) -> None:
    judge.requires_grad_(False)
    for parameter in trained:
        parameter.requires_grad_(True)
