"""The one training loop: judges, their controls, UNets and the embedded family are fitted here.

What a step computes is the caller's; when it is logged, saved, measured, shown and stopped is
decided here, by one rule for all. A step's number decides all that it draws, so a run that resumes
from a checkpoint goes on as if it had not stopped.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

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
    """Updates what is trained; see `optimizer.GuardedAdamW`."""

    def set_rate(self, lr: float) -> None:
        """Use another learning rate from the next step on."""

    def step(self, loss: Tensor) -> Tensor:
        """Update from the gradients, clear them, and return their norm before clipping."""

    def check(self, steps: int = MOST_IN_A_ROW) -> int:
        """Return how many steps were skipped; raises RicError after ten in a row, or all steps."""

    def tensors(self, named: Mapping[str, nn.Parameter]) -> Tensors:
        """Collect what a checkpoint needs."""

    def restore(self, named: Mapping[str, nn.Parameter], tensors: Tensors) -> None:
        """Put back what `tensors` gave."""


@dataclass
class TrainState:
    """What a training changes, and so what a checkpoint holds.

    Attributes:
        named: The trained weights by name, all on one device.
        buffers: What else changes beside them, such as batch norms' averages.
        averages: EMAs of the weights, each by name.
        decays: The upper limit of each average's decay.
        done: Steps taken.
        moments: The optimizer's, as the checkpoint has them.
        optimizer: The current phase's.
        extra: What else the checkpoint's `state.json` says.
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
        """Begin an EMA of the weights for each limit of its decay (choice 8)."""
        self.decays = decays
        self.averages = [start_ema(self.named, device) for _ in decays]

    def resume(self, checkpoint: Path | None) -> None:
        """Put back what a checkpoint holds; nothing where there is none."""
        if checkpoint is None:
            return
        groups, state = load_checkpoint(checkpoint)
        restore_tensors({**self.named, **self.buffers}, groups["model"])
        for number, average in enumerate(self.averages):
            restore_tensors(average, groups.get(_group(number), {}))
        self.done, self.moments, self.extra = state["step"], groups["moments"], state

    def save(self, run: RunDir, keep: int) -> None:
        """Write a checkpoint of the steps taken so far."""
        groups = {
            "model": dict(self.named) | dict(self.buffers),
            "moments": self.optimizer.tensors(self.named),
            **{_group(number): average for number, average in enumerate(self.averages)},
        }
        save_checkpoint(run.path / "checkpoints", self.done, groups, self.extra, keep=keep)


def _group(number: int) -> str:
    """Name an average's file in a checkpoint."""
    return f"average-{number}" if number else "average"


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Some steps (0: none) with one optimizer.

    Attributes:
        steps: How many.
        begin: Called before the first of them; makes the optimizer.
        step: Computes the loss of a step, counted from 0 over all phases, and its gradients. It is
            told whether the step is logged, and gives scalars by name, `loss` among them.
        rate: The learning rate of a step.
        images: How many pictures a step sees.
        name: Stands beside what is logged, where there are several phases.
    """

    steps: int
    begin: Callable[[], Optimizer]
    step: Callable[[int, bool], Mapping[str, Tensor]]
    rate: Callable[[int], float]
    images: Callable[[int], int]
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Cadence:
    """How often something happens, in steps; 0 is never.

    A phase's last step is logged, measured and saved in any case, unless the interval is 0.
    """

    log: int = 0
    save: int = 0
    measure: int = 0
    preview: int = 0
    keep: int = 2  # checkpoints

    @classmethod
    def of(cls, config: Any, *, measure: int = 0, preview: int = 0) -> Cadence:
        """Take how often to log and to save, and how many checkpoints to keep, from a config."""
        return cls(
            log=config.log_every,
            save=config.checkpoint_every,
            keep=config.keep_checkpoints,
            measure=measure,
            preview=preview,
        )


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What is looked at beside the loss.

    Attributes:
        measure: Gives figures of the weights after so many steps, on held-out data. Called before
            the first step, too; in every process, though only the main one logs them.
        preview: Shows what the weights do after so many steps; before the first step, too.
        also: Gives further figures for each logged row, read after the optimizer's step.
        shown: Matches the names of figures that stand beside the progress.
    """

    measure: Callable[[int], Figures] | None = None
    preview: Callable[[int], None] | None = None
    also: Callable[[], Figures] = dict
    shown: str = "^loss$"


@dataclass(frozen=True)
class Loop:
    """Takes the steps of phases, one after the other.

    Attributes:
        run: Gets metrics.jsonl and checkpoints.
        progress: Told about each step.
        ranks: The processes that train together.
        cadence: How often what happens.
        watch: What is looked at.
        name: What the progress is called.
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
            Interrupted: asked to stop; a checkpoint was written first, unless none ever is.
        """
        total = sum(phase.steps for phase in phases)
        self._start_log(state, total, named=any(phase.name for phase in phases))
        with (
            stop_between_steps(second_ends=self.ranks.count == 1) as stop,
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
        """Compute, update, average; return the loss, the gradients' norm and the loss's parts."""
        state.optimizer.set_rate(phase.rate(step))
        values = phase.step(step, logs)
        norm = state.optimizer.step(values["loss"])
        for average, decay in zip(state.averages, state.decays, strict=True):
            update_ema(average, state.named, step, decay)
        state.done = step + 1
        return {"loss": values["loss"], "grad_norm": norm, **values}

    def _start_log(self, state: TrainState, total: int, *, named: bool) -> None:
        """Forget rows of steps that are taken again; measure and show what is there before any."""
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
        """Log a row, with figures where they are due; what is not finite is written as null."""
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
    """Tell whether what happens every so many steps (0: never) is due after `done` of them."""
    return every > 0 and (last or done % every == 0)


class _Clock:
    """Tells how long it has run."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self._began
