"""The needs of each of several commands, in numbers: hours, disk, download, GPU memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ric.config import EditConfig, TrainUnetConfig
from ric.data.count import count_samples
from ric.errors import RicError
from ric.models.table import models_of
from ric.preflight.cards import SHARE_OF_CARD, SHARE_OF_CPU
from ric.preflight.cost import arithmetic, cache_bytes, certain_memory, run_bytes, step_count
from ric.weights import find_weight, is_present

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ric.config import CommandConfig
    from ric.preflight.cards import Card
    from ric.weights import Weight

GIB = 2**30
BYTES_A_PIXEL = 3  # of an edit's PNG at most
SIDE_OF_EDIT = {"paper": 1024, "tiny": 64}  # HumanEdit's pictures; the family's scenes


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """The needs of one command.

    Attributes:
        hours: None where they are not estimated.
        disk: Bytes at most, its share of ric's cache included.
        kept: Bytes that stay when it is done, at most.
        memory: GiB of GPU memory; None if unknown.
        memory_is_least: Whether activations come on top of `memory`.
        note: What to add: the flags of a plan that fits, or why none does.
        problem: Why it cannot run on the card.
    """

    hours: float | None
    disk: int
    kept: int
    memory: float | None
    memory_is_least: bool = True
    note: str = ""
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where the stages are to run.

    Attributes:
        name: In words.
        flops: FLOP a second that a whole command is assumed to reach.
        gigabytes: The GPU's memory; None for a CPU.
    """

    name: str
    flops: float
    gigabytes: float | None


def machine_of(card: Card) -> Machine:
    """Describe a card of the table, at the share of its rate that is assumed."""
    words = f"{card.name}: {100 * SHARE_OF_CARD:.0f} % of {card.teraflops:g} TFLOP/s (bf16) assumed"
    return Machine(
        name=f"{words}, {card.gigabytes:g} GB",
        flops=SHARE_OF_CARD * card.teraflops * 1e12,
        gigabytes=card.gigabytes,
    )


def this_machine(device: str) -> Machine:
    """Measure this machine's matrix rate, for half a second."""
    import torch

    from ric.device import matmul_rate, pick_device, pick_dtype

    picked = pick_device(device)
    rate = matmul_rate(pick_dtype("auto", picked), 0.5, picked)
    on_gpu = picked.type == "cuda"
    share = SHARE_OF_CARD if on_gpu else SHARE_OF_CPU
    name = torch.cuda.get_device_name(picked) if on_gpu else "this machine's CPU"
    gigabytes = torch.cuda.get_device_properties(picked).total_memory / GIB if on_gpu else None
    words = f"{name}: {100 * share:.0f} % of {rate / 1e12:.2f} TFLOP/s, measured just now, assumed"
    return Machine(name=words, flops=share * rate, gigabytes=gigabytes)


def cost_of(config: CommandConfig, runs_dir: Path, machine: Machine) -> StageCost:
    """Estimate what a command needs on a machine.

    Args:
        config: Its settings. What an earlier stage makes is left out of them: no judge, the
            editor's own pipeline.
        runs_dir: Where runs are looked for.
        machine: Where it is to run.
    """
    samples, _ = count_samples(config)
    gflop = arithmetic(config, samples, step_count(config, samples))
    disk = sum(cache_bytes(config, samples).values())
    kept = disk
    if run := run_bytes(config, runs_dir):
        disk += run.total
        kept += run.total - run.checkpoint
    if isinstance(config, EditConfig) and samples:
        disk = kept = samples * BYTES_A_PIXEL * SIDE_OF_EDIT[config.preset] ** 2
    return StageCost(
        hours=gflop * 1e9 / machine.flops / 3600 if gflop else None,
        disk=disk,
        kept=kept,
        **_memory(config, runs_dir, machine),
    )


def _memory(config: CommandConfig, runs_dir: Path, machine: Machine) -> dict[str, Any]:
    """Count the GPU memory: all of a UNet's step, of others only what is certain."""
    if isinstance(config, TrainUnetConfig) and config.device != "cpu":
        told = _memory_of_step(config, runs_dir, machine)
        if told:
            return told
    size = certain_memory(config, runs_dir)
    needed = size / GIB if size else None
    too_much = needed and machine.gigabytes and needed > machine.gigabytes
    problem = f"needs {needed:.1f} GiB for its weights alone" if too_much else ""
    return {"memory": needed, "problem": problem}


def _memory_of_step(config: TrainUnetConfig, runs_dir: Path, machine: Machine) -> dict[str, Any]:
    """Count a step's memory, and pick the plan that fits; empty if its networks are unknown."""
    from ric.memory.plan import plan_as_set, plan_memory
    from ric.memory.step import NotHereError, count_step

    # judges that an earlier stage fits have the shapes of those that it begins with
    judge = "tiny" if config.preset == "tiny" else None
    try:
        step = count_step(replace(config, region_clip=judge, scene_blip=judge), runs_dir)
    except NotHereError:
        return {}
    plan = plan_as_set(step, config)
    gigabytes = config.memory or machine.gigabytes
    if gigabytes is None or plan.total <= gigabytes:
        return {"memory": plan.total, "memory_is_least": False}
    try:
        smaller = plan_memory(step, config, gigabytes)
    except RicError:
        words = f"the paper's step needs {plan.total:.1f} GiB, and no plan fits {gigabytes:g} GB"
        return {"memory": plan.total, "memory_is_least": False, "problem": words}
    return {"memory": smaller.total, "memory_is_least": False, "note": smaller.flags()}


def missing_weights(config: CommandConfig) -> Iterator[Weight]:
    """List the weights that a command loads and this machine does not have."""
    for model in models_of(config):
        weight = find_weight(model.name)
        if weight and is_present(weight, config.weights) is None:
            yield weight
