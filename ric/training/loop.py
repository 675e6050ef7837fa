"""The one training loop: judges, their controls, UNets and the embedded family are trained here.

The caller computes a step; when to log, save, measure, preview and stop is decided here, by one
rule for all. Every random draw is a function of the step's number, so a run that resumes from a
checkpoint continues as if it had never stopped.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ric.errors import RicError
from ric.interrupt import stop_between_steps
from ric.runs.checkpoints import (
    load_checkpoint,
    restore_tensors,
    save_checkpoint,
)
from ric.training.ema import start_ema, update_ema
from ric.training.optimizer import MOST_IN_A_ROW, finite_or_none

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch
    from torch import Tensor, nn

    from ric.distributed import Ranks
    from ric.interrupt import StopRequest
    from ric.progress import Progress, Stage
    from ric.runs.checkpoints import Tensors
    from ric.runs.run import RunDir

Figures = Mapping[str, float]


class Optimizer(Protocol):
    """Updates the trained weights; see `optimizer.GuardedAdamW`."""

    def set_rate(self, lr: float) -> None:
        """Use another learning rate from the next step on."""

    def step(self, loss: Tensor) -> Tensor:
        """Update from the gradients, clear them, and return their norm before clipping."""

    def check(self, steps: int = MOST_IN_A_ROW) -> int:
        """Return how many steps were skipped (raises RicError after ten in a row, or all steps)."""

    def tensors(self, named: Mapping[str, nn.Parameter]) -> Tensors:
        """Return the optimizer's state for a checkpoint."""

    def restore(self, named: Mapping[str, nn.Parameter], tensors: Tensors) -> None:
        """Restore the state that `tensors` returned."""


@dataclass
class TrainState:
    """Everything that training changes, which is what a checkpoint holds.

    Attributes:
        named: The trained weights by name, all on one device.
        buffers: What else changes beside them, such as batch norms' averages.
        averages: EMAs of the weights, each by name.
        decays: The upper limit of each EMA's decay.
        done: Steps taken.
        moments: The optimizer's state, as read from the checkpoint.
        optimizer: The current phase's.
        extra: Further entries of the checkpoint's `state.json`.
    """

    named: Mapping[str, nn.Parameter]
    buffers: Mapping[str, Tensor] = field(default_factory=dict)
    averages: Sequence[Tensors] = ()
    decays: Sequence[float] = ()
    done: int = 0
    moments: Tensors = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    optimizer: Optimizer = field(init=False)

    def keep_averages(self, decays: Sequence[float], device: torch.device | None = None) -> None:
        """Start an EMA of the weights for each limit of the decay (choice 8)."""
        self.decays = decays
        self.averages = [start_ema(self.named, device) for _ in decays]

    def resume(self, checkpoint: Path | None) -> None:
        """Restore a checkpoint; do nothing for None.

        Raises:
            RicError: it is another model's, or not one of a training.
        """
        if checkpoint is None:
            return
        groups, state = load_checkpoint(checkpoint)
        if missing := {"model", "moments"} - groups.keys():
            raise RicError(
                f"{checkpoint} lacks {min(missing)}.safetensors.",
                "Delete it: the checkpoint before it is used then.",
            )
        restore_tensors({**self.named, **self.buffers}, groups["model"])
        for number, ema in enumerate(self.averages):
            restore_tensors(ema, groups.get(_group(number), {}))
        self.done, self.moments, self.extra = state["step"], groups["moments"], state

    def save(self, run: RunDir, keep: int) -> None:
        """Write a checkpoint after the steps taken so far; keep the last `keep` of them."""
        groups = {
            "model": dict(self.named) | dict(self.buffers),
            "moments": self.optimizer.tensors(self.named),
            **{_group(number): ema for number, ema in enumerate(self.averages)},
        }
        save_checkpoint(run.path / "checkpoints", self.done, groups, self.extra, keep=keep)


def _group(number: int) -> str:
    """Name an EMA's file in a checkpoint."""
    return f"average-{number}" if number else "average"


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Some steps (0: none) with one optimizer.

    Attributes:
        steps: How many.
        begin: Called before the first of them; returns the optimizer.
        step: Computes the loss of a step, counted from 0 over all phases, and its gradients. Its
            second argument says whether the step is logged; it returns scalars by name, `loss`
            among them.
        rate: The learning rate of a step.
        images: How many pictures a step sees.
        name: Logged as `phase`, where there are several phases.
    """

    steps: int
    begin: Callable[[], Optimizer]
    step: Callable[[int, bool], Mapping[str, Tensor]]
    rate: Callable[[int], float]
    images: Callable[[int], int]
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Cadence:
    """Intervals in steps; 0 is never.

    A phase's last step is always logged, measured and saved, unless the interval is 0.
    """

    log: int = 0
    save: int = 0
    measure: int = 0
    preview: int = 0
    keep: int = 2  # checkpoints

    @classmethod
    def of(cls, config: Any, *, measure: int = 0, preview: int = 0) -> Cadence:
        """Read the intervals of logging and saving, and the checkpoints to keep, from a config."""
        return cls(
            log=config.log_every,
            save=config.checkpoint_every,
            keep=config.keep_checkpoints,
            measure=measure,
            preview=preview,
        )


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Observations beside the loss.

    Attributes:
        measure: Returns figures of the weights after so many steps, on held-out data. Called before
            the first step, too, and in every process, though only the main one logs them.
        preview: Renders a preview after so many steps; before the first step, too.
        also: Returns further figures for each logged row, read after the optimizer's step.
        shown: A pattern: figures whose names match it stand beside the progress.
    """

    measure: Callable[[int], Figures] | None = None
    preview: Callable[[int], None] | None = None
    also: Callable[[], Figures] = dict
    shown: str = "^loss$"


@dataclass(frozen=True)
class Loop:
    """Runs phases one after the other.

    Attributes:
        run: Gets metrics.jsonl and checkpoints.
        progress: Shows each step.
        ranks: The processes that train together.
        cadence: When to log, save, measure and preview.
        watch: Observations beside the loss.
        name: The progress stage's name.
    """

    run: RunDir
    progress: Progress
    ranks: Ranks
    cadence: Cadence
    watch: Watch
    name: str = "training"

    def take_steps(self, state: TrainState, phases: Sequence[Phase]) -> None:
        """Take the steps that are left of all phases, and leave the last weights in place.

        Raises:
            RicError: the loss was not finite ten times in a row, or a checkpoint cannot be written.
            Interrupted: a stop was requested; a checkpoint was written first, unless
                `cadence.save` is 0.
        """
        total = sum(phase.steps for phase in phases)
        self._start_log(state, total, named=any(phase.name for phase in phases))
        with (
            stop_between_steps(
                second_ends=self.ranks.count == 1, loses=", without a checkpoint"
            ) as stop,
            self.progress.stage(self.name, total=total, done=state.done) as stage,
        ):
            end = 0
            for phase in phases:
                start, end = end, end + phase.steps
                if state.done >= end:
                    continue
                state.optimizer = phase.begin()
                if state.done > start:
                    state.optimizer.restore(state.named, state.moments)
                state.moments = {}  # they may be mapped from a checkpoint's file
                self._take_phase(state, phase, end, stage, stop)

    def _take_phase(
        self, state: TrainState, phase: Phase, end: int, stage: Stage, stop: StopRequest
    ) -> None:
        """Take the steps of one phase that are left; see `take_steps`."""
        cadence, clock, images = self.cadence, _Clock(), 0
        first = state.done
        for step in range(state.done, end):
            last = step + 1 == end
            measures = _is_due(cadence.measure, step + 1, last=last)
            logs = measures or _is_due(cadence.log, step + 1, last=last)
            values = self._take_step(state, phase, step, logs=logs)
            images += phase.images(step)
            stage.advance()
            if last:
                state.optimizer.check(end - first)  # before it is saved
            asked = self.ranks.any_stop(stop)
            if logs:
                row = {
                    **{key: value.item() for key, value in values.items()},
                    **self.watch.also(),
                    "skipped": state.optimizer.check(),
                    "lr": phase.rate(step),
                    "images_per_second": images / clock.seconds(),
                }
                self._log(state.done, phase.name, row, stage, measures=measures)
            saves = _is_due(cadence.save, state.done, last=last)
            saves = saves or (asked is not None and cadence.save > 0)
            if saves and self.ranks.is_main:
                state.extra |= {"phase": phase.name} if phase.name else {}
                state.save(self.run, cadence.keep)
            if asked:
                self.ranks.leave_together(asked)
            shows = _is_due(cadence.preview, state.done, last=False)
            if shows and self.watch.preview:
                self.watch.preview(state.done)
            if logs or saves or shows:
                clock, images = _Clock(), 0

    def _take_step(
        self, state: TrainState, phase: Phase, step: int, *, logs: bool
    ) -> Mapping[str, Tensor]:
        """Take one step and update the EMAs; return the loss, the gradients' norm and the parts."""
        state.optimizer.set_rate(phase.rate(step))
        values = phase.step(step, logs)
        norm = state.optimizer.step(values["loss"])
        for ema, decay in zip(state.averages, state.decays, strict=True):
            update_ema(ema, state.named, step, decay)
        state.done = step + 1
        return {"loss": values["loss"], "grad_norm": norm, **values}

    def _start_log(self, state: TrainState, total: int, *, named: bool) -> None:
        """Drop rows of steps that will be repeated; measure and preview the initial weights."""
        if not self.cadence.log:
            return
        if state.done:
            self.progress.note(f"resuming after step {state.done} of {total}")
        # the row of step 0 is measured again
        first = self.watch.measure is not None and not state.done
        self.run.forget_metrics_after(-1 if first else state.done)
        if first and self.watch.measure:
            phase = {"phase": "start"} if named else {}
            self.run.log_metrics({"step": 0, **phase, **finite_or_none(self.watch.measure(0))})
        if self.watch.preview and not state.done:
            self.watch.preview(0)

    def _log(self, done: int, phase: str, row: Figures, stage: Stage, *, measures: bool) -> None:
        """Log a row, with figures where they are due; values that are not finite become null."""
        figures = self.watch.measure(done) if measures and self.watch.measure else {}
        finite = finite_or_none({**row, **figures})
        self.run.log_metrics({"step": done, **({"phase": phase} if phase else {}), **finite})
        shown = {
            key: value
            for key, value in finite.items()
            if value is not None and re.search(self.watch.shown, key)
        }
        stage.advance(0, **shown)


def _is_due(every: int, done: int, *, last: bool) -> bool:
    """Tell whether an interval of `every` steps (0: never) is due after `done` steps."""
    return every > 0 and (last or done % every == 0)


class _Clock:
    """Measures the seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def seconds(self) -> float:
        """Return the seconds since then."""
        return time.monotonic() - self._began
