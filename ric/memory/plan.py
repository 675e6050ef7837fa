"""`--memory GB`: choosing how a `train-unet` step fits into a GPU, from counted memory.

Measures are tried in order of their cost in time, and added up: gradient accumulation over 2, 4, 8,
… micro-batches; then gradient checkpointing of UNet and loss decoder; AdamW's moments in 8 bits;
the EMA in the host's memory. Only the 8 bits change what is learnt.

Counted to the byte are weights, gradients, moments, EMA and frozen networks, and the activations
that the backward pass needs (`activations`). Memory peaks at the end of the forward pass; gradients
exist by then only with several micro-batches, since a single one's appear as its activations are
freed. Under a plan the samples' encodings stay in the host's memory, so the plan does not depend on
the data.

What cannot be counted is `ALLOWANCE`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

from ric.errors import RicError
from ric.memory.step import NotHereError, Step, count_step
from ric.models.table import row_of, uses

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ric.config import TrainUnetConfig
    from ric.work import Work

GIB = 2**30  # a card sold as 24 GB has 24 of these


class Allowance(NamedTuple):
    """Allowances for what is not counted: the only estimates here."""

    context: float  # GiB: CUDA's context, the kernels' code, workspaces of cuBLAS and cuDNN
    fragments: float  # share of what is counted: fragmentation of PyTorch's memory pool
    passing: int  # temporary tensors of the largest size within one layer


ALLOWANCE = Allowance(context=0.8, fragments=0.05, passing=3)


@dataclass(frozen=True)
class MemoryPlan:
    """One way to compute a step, and the GPU memory it needs.

    Attributes:
        accumulate: Micro-batches per batch.
        gradient_checkpointing: Whether UNet and loss decoder are checkpointed.
        eight_bit: Whether AdamW's moments are in 8 bits.
        ema_on_cpu: Whether the EMA is in the host's memory.
        samples: Samples in the largest micro-batch.
        gib: GiB by part at the step's peak.
    """

    accumulate: int
    gradient_checkpointing: bool
    eight_bit: bool
    ema_on_cpu: bool
    samples: int
    gib: Mapping[str, float] = field(hash=False)

    @property
    def total(self) -> float:
        """GiB at the step's peak."""
        return sum(self.gib.values())

    def settings(self) -> dict[str, Any]:
        """Return the plan as settings of `TrainUnetConfig`."""
        return {
            "accumulate": self.accumulate,
            "gradient_checkpointing": self.gradient_checkpointing,
            "adam_8bit": self.eight_bit,
            "ema_on_cpu": self.ema_on_cpu,
        }

    def flags(self) -> str:
        """Return the plan as flags of the command line."""
        words = [f"--accumulate {self.accumulate}"]
        words += ["--gradient-checkpointing"] * self.gradient_checkpointing
        words += ["--adam-8bit"] * self.eight_bit
        words += ["--ema-on-cpu"] * self.ema_on_cpu
        return " ".join(words)

    def in_words(self) -> str:
        """Describe the plan and its memory in one line."""
        parts = ", ".join(f"{name} {size:.1f}" for name, size in self.gib.items() if size >= 0.05)
        return f"{self.flags()}: {self.total:.1f} GiB at its peak ({parts})"


def plan_memory(step: Step, config: TrainUnetConfig, gigabytes: float) -> MemoryPlan:
    """Pick the fastest plan among those that fit.

    Args:
        step: From `count_step`.
        config: What it already switches on stays on.
        gigabytes: The GPU's memory, as it is sold: 12, 24, 48, 80.

    Raises:
        RicError: none fits; names the smallest plan.
    """
    plans = list(_plans(step, config))
    for plan in plans:
        if plan.total <= gigabytes:
            return plan
    least = min(plans, key=lambda plan: plan.total)
    raise RicError(
        f"--memory {gigabytes:g} is too small for this training: the smallest plan takes "
        f"{least.total:.1f} GiB, with {least.flags()}."
    )


def plan_for(config: TrainUnetConfig, runs_dir: Path, *, processes: int = 1) -> MemoryPlan:
    """Pick the plan that `--memory` asks for; arguments as `count_step`.

    Raises:
        RicError: a network is not on this machine, or no plan fits; the hint names changes that
            would fit.
    """
    gigabytes = config.memory or 0.0
    step = count_step(config, runs_dir, processes=processes)
    try:
        return plan_memory(step, config, gigabytes)
    except RicError as error:
        hint = _what_fits(config, runs_dir, processes)
        raise RicError(error.message, hint) from None


def _what_fits(config: TrainUnetConfig, runs_dir: Path, processes: int) -> str:
    """Name the changes that each fit into `--memory` alone; if none does, all of them together."""

    def fits(changed: TrainUnetConfig) -> bool:
        try:
            step = count_step(changed, runs_dir, processes=processes)
            return plan_memory(step, changed, config.memory or 0.0).total > 0
        except RicError:
            return False

    ways = _other_ways(config)
    found = [flags for flags, settings in ways.items() if fits(replace(config, **settings))]
    if found:
        return f"What fits: {' or '.join(found)}."
    together = {key: value for settings in ways.values() for key, value in settings.items()}
    if fits(replace(config, **together)):
        return f"What fits: {' '.join(ways)}."
    return "No smaller training of this base fits: use a larger card."


def _other_ways(config: TrainUnetConfig) -> dict[str, dict[str, Any]]:
    """List changes that make a step smaller but alter what is learnt: settings by their flags."""
    ways: dict[str, dict[str, Any]] = {}
    if not config.lora_rank:
        ways["--lora-rank 16"] = {"lora_rank": 16}
    judged = uses(config, "region_clip") or uses(config, "scene_blip")
    if judged and not uses(config, "loss_decoder"):
        small = "tiny" if config.base == "tiny" else row_of(config, "loss_decoder").known[0]
        ways[f"--loss-decoder {small}"] = {"loss_decoder": small}
    size = config.image_size // 2
    ways[f"--image-size {size}"] = {"image_size": size}
    return ways


def plan_as_set(step: Step, config: TrainUnetConfig) -> MemoryPlan:
    """Return the plan of `config`'s own settings."""
    return next(_plans(step, config))


def next_plan(step: Step, config: TrainUnetConfig) -> MemoryPlan | None:
    """Return the first plan after `config`'s own that takes less; None if none does."""
    now, *others = _plans(step, config)
    return next((plan for plan in others if plan.total < now.total), None)


def within_memory(config: TrainUnetConfig, work: Work) -> TrainUnetConfig:
    """Apply the plan that `--memory` asks for to the settings, and note it.

    A run keeps its first plan: another number of processes, or other packages, would change it, and
    moments of one kind cannot be restored as the other. The main process plans for all.

    Returns:
        `config` itself without `--memory`.

    Raises:
        RicError: no plan fits, or a network is not on this machine.
    """
    if config.memory is None:
        return config
    run, ranks, settings = work.run, work.ranks, {}
    if ranks.is_main:
        stored = run.record.get("memory_plan")
        if stored is None:
            plan = plan_for(config, run.runs_dir, processes=ranks.count)
            work.progress.note(plan.in_words())
            stored = {**plan.settings(), "gib": dict(plan.gib)}
            run.note(memory_plan=stored)
        settings = {key: value for key, value in stored.items() if key != "gib"}
    return replace(config, **json.loads(ranks.broadcast(json.dumps(settings))))


def out_of_memory(config: TrainUnetConfig, runs_dir: Path, processes: int = 1) -> RicError:
    """Make the error for a GPU that ran out of memory; it names the next plan that takes less.

    Args:
        config: The settings that ran out of memory.
        runs_dir: Where runs are looked for.
        processes: The number of processes that train together.
    """
    message = "The GPU ran out of memory."
    try:
        step = count_step(config, runs_dir, processes=processes)
    except NotHereError as error:
        return RicError(message, error.message)
    plan = next_plan(step, config)
    if plan is None:
        return RicError(message, f"No plan takes less. Try {' or '.join(_other_ways(config))}.")
    return RicError(
        message, f"The next plan takes about {plan.total:.1f} GiB: {plan.flags()}. Or: --memory GB"
    )


def _plans(step: Step, config: TrainUnetConfig) -> Iterator[MemoryPlan]:
    """Yield all plans, fastest first; the first is `config`'s own.

    Without bitsandbytes, none uses 8 bits unless `config` does.
    """
    eight_bit = config.adam_8bit
    smaller = eight_bit or find_spec("bitsandbytes") is not None
    # without an EMA there is none to move
    on_cpu = config.ema_on_cpu or not config.ema
    ways = [
        Way(config.gradient_checkpointing, eight_bit, on_cpu),
        Way(True, eight_bit, on_cpu),
        Way(True, smaller, on_cpu),
        Way(True, smaller, True),
    ]
    for way in dict.fromkeys(ways):
        for accumulate in _micro_batch_counts(config.accumulate, step.batch):
            plan = _plan(step, accumulate, way)
            # without an EMA none is on the CPU
            yield plan if config.ema else replace(plan, ema_on_cpu=False)


class Way(NamedTuple):
    """Measures that save memory, beside gradient accumulation."""

    checkpointing: bool
    eight_bit: bool
    on_cpu: bool


def _micro_batch_counts(least: int, batch: int) -> Iterator[int]:
    """Double the number of micro-batches until each holds one sample."""
    count = min(least, batch)
    yield count
    while count < batch:
        count = min(2 * count, batch)
        yield count


def _plan(step: Step, accumulate: int, way: Way) -> MemoryPlan:
    checkpointing, eight_bit, on_cpu = way
    samples = ceil(step.batch / accumulate)
    saved = step.activations(checkpointing)
    passing = ALLOWANCE.passing * saved.largest_tensor(samples)
    # a logged step backpropagates through the judges while all activations exist; before that, at
    # the end of the forward pass, autocast still holds its copies
    judged = saved.by_all.of(samples) + passing
    again = saved.largest_block(samples)
    if checkpointing:
        again = max(again, step.copies - passing)
    gradients = step.gradients if accumulate > 1 else 0
    # the UNet's backward pass begins when the judges' activations are freed
    answered = saved.by_unet.of(samples) + passing
    again_unet = saved.largest_block(samples, unet_alone=True)
    if judged + again + gradients < answered + again_unet + step.gradients:
        judged, again, gradients = answered, again_unet, step.gradients
        fixed = saved.by_unet.fixed
    else:
        fixed = saved.by_all.fixed
    parts = {
        "weights": step.weights,
        "gradients": gradients + step.buckets,
        "moments": step.moments_8bit if eight_bit else step.moments,
        "EMA": 0 if on_cpu else step.ema,
        "frozen networks": step.frozen,
        "activations of any batch": fixed,
        f"activations of {samples} sample{'s' if samples > 1 else ''}": judged - fixed - passing,
        "blocks recomputed": again,
        "passing": passing,
    }
    counted = sum(parts.values()) / GIB
    gib = {name: size / GIB for name, size in parts.items()}
    gib["allowance"] = ALLOWANCE.context + ALLOWANCE.fragments * counted
    return MemoryPlan(accumulate, *way, samples, gib)
