"""The training loop of the embedded family: steps of a loss, resumable to the bit.

The learning rate rises over the first steps, stays constant until a given share of all steps, and
falls along a cosine to a hundredth; it is a function of the step, as are all random draws of a
loss. The result is an EMA of the weights (as in choice 8), with batch norms' own averages beside
it. Several EMAs of different lengths can be taken, of which the best on held-out data is kept: the
right length is not known beforehand (Karras et al. 2024).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from ric.device import autocast, pick_dtype
from ric.distributed import Ranks
from ric.errors import RicError
from ric.inputs.batches import index_at
from ric.runs.checkpoints import last_checkpoint, restore_tensors
from ric.training.loop import Cadence, Loop, Phase, TrainState, Watch
from ric.training.muon import GuardedMuon
from ric.training.optimizer import GuardedAdamW

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from ric.config import TinyConfig
    from ric.progress import Progress
    from ric.runs.run import RunDir

LAST_SHARE = 0.01  # of the learning rate, after the last step
LONGER = 4  # each further EMA is this many times as long as the one before


def learning_rate(step: int, config: TinyConfig) -> float:
    """Return the rate of step `step`, counted from 0: a rise, a plateau, then half a cosine."""
    rise = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    plateau = config.constant_share * config.steps
    fallen = max(step - plateau, 0.0) / max(config.steps - plateau, 1.0)
    fall = 0.5 * (1 + math.cos(math.pi * min(fallen, 1.0)))
    return config.lr * rise * (LAST_SHARE + (1 - LAST_SHARE) * fall)


def batch_of_step(count: int, config: TinyConfig, step: int) -> list[int]:
    """List the indices of `count` items that step `step` sees; each epoch has its own order.

    They are a function of the seed, the batch size and the step.
    """
    places = range(step * config.batch_size, (step + 1) * config.batch_size)
    return [index_at(place, count, config.seed) for place in places]


@dataclass(frozen=True)
class Lesson:
    """The modules of a member of the family, their loss, and how they are measured.

    Attributes:
        modules: The trained modules by name; all on one device.
        loss_of: Returns step n's loss as `loss`, and its parts, each a scalar; called under
            autocast.
        measure: Returns figures on held-out data; called in float32 with the averaged weights in
            place, before the first step, every `measure_every` steps, and after the last.
        worth: Maps such figures to one number, larger is better; needed for several EMAs.
    """

    modules: Mapping[str, nn.Module]
    loss_of: Callable[[int], Mapping[str, Tensor]]
    measure: Callable[[], Mapping[str, float]]
    worth: Callable[[Mapping[str, float]], float] | None = None


def train_steps(lesson: Lesson, config: TinyConfig, run: RunDir, progress: Progress) -> None:
    """Take `config.steps` steps and leave the best of the averaged weights in the modules.

    Args:
        lesson: The modules and their loss.
        config: Steps, rate, batch size, decay of the EMA, how often to log and to save.
        run: Gets metrics.jsonl and checkpoints.
        progress: Shows each step.

    Raises:
        RicError: the loss was not finite ten times in a row, a checkpoint cannot be written,
            several processes were started, or there are several EMAs and no `worth`.
        Interrupted: a stop was requested; a checkpoint was written first.
    """
    # one module that holds them all, which prefixes the weights' names with theirs
    together = nn.ModuleDict(lesson.modules).train().requires_grad_(True)
    named, buffers = dict(together.named_parameters()), dict(together.named_buffers())
    device = next(iter(named.values())).device
    dtype, ranks = pick_dtype(config.dtype, device), Ranks(device)
    if ranks.count > 1:
        raise RicError(f"ric tiny trains in one process; {ranks.count} were started.")
    state = _start(lesson, config, named, buffers)
    state.resume(last_checkpoint(run, progress))

    def step(number: int, logs: bool) -> Mapping[str, Tensor]:
        with autocast(device, dtype):
            values = lesson.loss_of(number)
        values["loss"].backward()
        return values

    def measured(done: int) -> dict[str, float]:
        # in float32, as the family is used: bfloat16 adds its own error to what is measured
        with torch.no_grad():
            found = measure_averages(together, state, lesson.measure)
        if lesson.worth is None:
            return found[0]
        worths = [lesson.worth(figures) for figures in found]
        best = state.extra["best"] = worths.index(max(worths))
        return {**found[best], "average": best}

    phase = Phase(
        steps=config.steps,
        begin=lambda: start_optimizer(named, config),
        step=step,
        rate=lambda number: learning_rate(number, config),
        images=lambda number: config.batch_size,
    )
    cadence = Cadence.of(config, measure=config.measure_every)
    watch = Watch(measure=measured, shown=r"^loss$|^val_(?!.*_at_\d{2})")
    Loop(run, progress, ranks, cadence, watch).take_steps(state, [phase])
    restore_tensors(named, state.averages[state.extra["best"]])
    together.eval().requires_grad_(False).to(memory_format=torch.contiguous_format)


def _start(
    lesson: Lesson,
    config: TinyConfig,
    named: dict[str, nn.Parameter],
    buffers: dict[str, Tensor],
) -> TrainState:
    """Start the state, with as many EMAs as the config asks for."""
    if config.averages > 1 and lesson.worth is None:
        raise RicError(
            f"--averages is {config.averages}, but this training cannot choose among them.",
            "Only ric tiny prior can: use --averages 1.",
        )
    state = TrainState(named, buffers, extra={"best": 0})
    state.keep_averages([1 - (1 - config.ema_decay) / LONGER**n for n in range(config.averages)])
    return state


def measure_averages(
    module: nn.Module, state: TrainState, measure: Callable[[], Mapping[str, float]]
) -> list[dict[str, float]]:
    """Measure each EMA, put in place of a module's weights meanwhile."""
    weights = {name: weight.detach().clone() for name, weight in state.named.items()}
    module.eval()
    found = []
    for average in state.averages:
        restore_tensors(state.named, average)
        found.append(dict(measure()))
    module.train()
    restore_tensors(state.named, weights)
    return found


def start_optimizer(
    named: Mapping[str, nn.Parameter], config: TinyConfig
) -> GuardedAdamW | GuardedMuon:
    """Make the optimizer that a config asks for."""
    if config.optimizer == "muon":
        return GuardedMuon(named, lr=config.lr, weight_decay=config.weight_decay, max_grad_norm=1.0)
    return GuardedAdamW(
        named.values(), lr=config.lr, weight_decay=config.weight_decay, max_grad_norm=1.0
    )
