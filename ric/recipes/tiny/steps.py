"""The training loop of the embedded family: steps of a loss, resumable to the bit.

The learning rate rises over the first steps, stays for a share of all, and falls along a cosine to
a hundredth; it is a function of the step, as is everything that a loss draws. An average of the
weights is what is kept (as choice 8), with batch norms' own averages beside it. Averages of several
lengths can be taken, of which the best on held-out data is kept: while the rate does not fall, how
long an average should be is not known beforehand (Karras et al. 2024).
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import torch

from ric.device import autocast, pick_dtype
from ric.inputs.batches import index_at
from ric.interrupt import stop_between_steps
from ric.runs.checkpoints import last_checkpoint, load_checkpoint, restore_tensors, save_checkpoint
from ric.training.ema import start_average, update_average
from ric.training.muon import GuardedMuon
from ric.training.optimizer import GuardedAdamW, finite_or_none

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn

    from ric.config import TinyConfig
    from ric.progress import Progress
    from ric.runs.run import RunDir

LAST_SHARE = 0.01  # of the learning rate, at the last step
LONGER = 4  # times as long as the one before is each further average


def learning_rate(step: int, config: TinyConfig) -> float:
    """Give the rate of step `step`, counted from 0: a rise, a plain, then half a cosine."""
    rise = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    plain = config.constant_share * config.steps
    fallen = max(step - plain, 0.0) / max(config.steps - plain, 1.0)
    fall = 0.5 * (1 + math.cos(math.pi * min(fallen, 1.0)))
    return config.lr * rise * (LAST_SHARE + (1 - LAST_SHARE) * fall)


def batch_of_step(count: int, config: TinyConfig, step: int) -> list[int]:
    """List which of `count` items step `step` sees; each epoch goes through all, in its own order.

    A function of the seed, the batch size and the step.
    """
    places = range(step * config.batch_size, (step + 1) * config.batch_size)
    return [index_at(place, count, config.seed) for place in places]


def train_steps(
    modules: Mapping[str, nn.Module],
    config: TinyConfig,
    run: RunDir,
    progress: Progress,
    *,
    loss_of: Callable[[int], Mapping[str, Tensor]],
    measure: Callable[[], Mapping[str, float]],
    worth: Callable[[Mapping[str, float]], float] | None = None,
) -> None:
    """Take `config.steps` steps and leave the best of the averaged weights in the modules.

    Args:
        modules: What is trained, by a name for each; all on one device.
        config: Steps, rate, batch size, decay of the average, how often to log and to save.
        run: Gets metrics.jsonl and checkpoints.
        progress: Told about each step.
        loss_of: Gives step n's loss as `loss`, and its parts, each a scalar; called under autocast.
        measure: Gives figures on held-out data; called with the averaged weights in place, before
            the first step, every `measure_every` steps, and after the last.
        worth: Says of such figures how good they are; needed where there are several averages.

    Raises:
        RicError: the loss was not finite ten times in a row, or a checkpoint cannot be written.
        Interrupted: asked to stop; a checkpoint was written first.
    """
    checkpoint = last_checkpoint(run)
    named = {
        f"{part}.{name}": weight
        for part, module in modules.items()
        for name, weight in module.named_parameters()
    }
    buffers = {
        f"{part}.{name}": value
        for part, module in modules.items()
        for name, value in module.named_buffers()
    }
    for module in modules.values():
        module.train().requires_grad_(True)
    device = next(iter(named.values())).device
    dtype = pick_dtype(config.dtype, device)
    optimizer = start_optimizer(named, config)
    decays = [1 - (1 - config.ema_decay) / LONGER**n for n in range(config.averages)]
    averages = [start_average(named) for _ in decays]
    done = best = 0
    if checkpoint:
        groups, state = load_checkpoint(checkpoint)
        restore_tensors({**named, **buffers}, groups["model"])
        for number, average in enumerate(averages):
            restore_tensors(average, groups[_group(number)])
        optimizer.restore(named, groups["moments"])
        done, best = state["step"], state["best"]
        progress.note(f"resuming after step {done} of {config.steps}")
        run.forget_metrics_after(done)

    def measured() -> dict[str, float]:
        """Measure the average that is worth most, and tell which it is where there are several."""
        weights = {name: weight.detach().clone() for name, weight in named.items()}
        for module in modules.values():
            module.eval()
        found = []
        for average in averages:
            restore_tensors(named, average)
            with torch.no_grad(), autocast(device, dtype):
                found.append(dict(measure()))
        for module in modules.values():
            module.train()
        restore_tensors(named, weights)
        if worth is None:
            return found[0]
        best = max(range(len(found)), key=lambda number: worth(found[number]))
        return {**found[best], "average": best}

    if not done:
        run.forget_metrics_after(-1)  # the row of step 0 is measured again
        run.log_metrics({"step": 0, **finite_or_none(measured())})
    with (
        stop_between_steps() as stop,
        progress.stage("training", total=config.steps, done=done) as stage,
    ):
        began, counted = time.monotonic(), done
        for step in range(done, config.steps):
            rate = learning_rate(step, config)
            optimizer.set_rate(rate)
            with autocast(device, dtype):
                values = loss_of(step)
            values["loss"].backward()
            norm = optimizer.step(values["loss"])
            for average, decay in zip(averages, decays, strict=True):
                update_average(average, named, step, decay)
            done = step + 1
            stage.advance()
            last = done == config.steps
            measures = last or done % config.measure_every == 0
            logs = measures or done % config.log_every == 0
            saves = last or bool(stop) or done % config.checkpoint_every == 0
            if logs:
                row = {key: value.item() for key, value in values.items()}
                row |= {"grad_norm": norm.item(), "skipped": optimizer.check(), "lr": rate}
                images = config.batch_size * (done - counted)
                row["images_per_second"] = images / (time.monotonic() - began)
                figures = measured() if measures else {}
                best = int(figures.get("average", best))
                run.log_metrics({"step": done, **finite_or_none({**row, **figures})})
                stage.advance(0, loss=row["loss"], **figures)
            if saves:
                groups = {
                    "model": {**named, **buffers},
                    "moments": optimizer.tensors(named),
                    **{_group(number): average for number, average in enumerate(averages)},
                }
                save_checkpoint(
                    run.path / "checkpoints",
                    done,
                    groups,
                    {"best": best},
                    keep=config.keep_checkpoints,
                )
                stop.raise_if_set()
            if logs or saves:
                began, counted = time.monotonic(), done
    restore_tensors(named, averages[best])
    for module in modules.values():
        module.eval().requires_grad_(False).to(memory_format=torch.contiguous_format)


def start_optimizer(
    named: Mapping[str, nn.Parameter], config: TinyConfig
) -> GuardedAdamW | GuardedMuon:
    """Make the optimizer that a config asks for."""
    if config.optimizer == "muon":
        return GuardedMuon(named, lr=config.lr, weight_decay=config.weight_decay, max_grad_norm=1.0)
    return GuardedAdamW(
        named.values(), lr=config.lr, weight_decay=config.weight_decay, max_grad_norm=1.0
    )


def _group(number: int) -> str:
    """Name an average's file in a checkpoint."""
    return f"average-{number}" if number else "average"
