"""The GPU memory of `ric train-unet` at the paper's sizes: the tables of docs/training.md.

    python benchmarks/memory.py [GB …]

For each size of card: the plan that `--memory` picks for the paper's preset, and with one setting
changed. All of it is counted, in seconds, without a GPU.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ric.config import TrainUnetConfig
from ric.errors import RicError
from ric.memory.plan import plan_as_set, plan_memory
from ric.memory.step import Step, count_step
from ric.settings import resolve_config

if TYPE_CHECKING:
    from ric.memory.plan import MemoryPlan

CARDS = (12.0, 24.0, 48.0, 80.0)  # GB
NOWHERE = Path("runs")
WAYS = {
    "the paper's": {},
    "`--loss-decoder madebyollin/taesd`": {"loss_decoder": "madebyollin/taesd"},
    "`--no-region-loss --no-global-loss`": {"region_loss": False, "global_loss": False},
    "`--lora-rank 16`": {"lora_rank": 16},
}


def counted(way: dict[str, object]) -> tuple[TrainUnetConfig, Step]:
    """Count a step of the paper's preset with some settings changed."""
    config = replace(resolve_config(TrainUnetConfig, {"data": "BryanW/HumanEdit"}), **way)
    return config, count_step(config, NOWHERE)


def row(gigabytes: float, name: str, config: TrainUnetConfig, step: Step) -> str:
    """Format the table's row for a card and a training."""
    try:
        plan = plan_memory(step, config, gigabytes)
    except RicError as error:
        least = str(error.message).rsplit("takes ", 1)[-1].split(", with")[0]
        return f"| {gigabytes:g} GB | {name} | does not fit: needs {least} | |"
    return f"| {gigabytes:g} GB | {name} | `{plan.flags()}` | {plan.total:.1f} |"


def parts(plan: MemoryPlan) -> str:
    """Format the rows of one plan's parts."""
    return "\n".join(f"| {name} | {size:.2f} |" for name, size in plan.gib.items())


def main() -> None:
    """Count and print."""
    cards = tuple(float(word) for word in sys.argv[1:]) or CARDS
    ways = {name: counted(way) for name, way in WAYS.items()}
    print("| card | training | what `--memory` picks | GiB |\n|---|---|---|---|")
    for gigabytes in cards:
        for name, (config, step) in ways.items():
            print(row(gigabytes, name, config, step))
    config, step = ways["the paper's"]
    print("\n| the paper's preset, unchanged | GiB |\n|---|---|")
    plan = plan_as_set(step, config)
    print(parts(plan))
    print(f"| together | {plan.total:.2f} |")


if __name__ == "__main__":
    main()
