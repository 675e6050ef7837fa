"""What the parts of a recipe share: the run, who hears of it, the processes, the device, DATA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ric.device import pick_device
from ric.distributed import Ranks
from ric.progress import Silent
from ric.runs.samples import open_samples

if TYPE_CHECKING:
    import torch

    from ric.config import CommandConfig
    from ric.data.sample import Samples
    from ric.progress import Progress
    from ric.runs.run import RunDir


@dataclass(frozen=True)
class Work:
    """A run and what it works with.

    Attributes:
        run: What is written to.
        progress: Who hears of it.
        ranks: The processes that work together.
        device: Where this one computes.
        samples: DATA, opened once; `narrowed` gives one of its splits.
    """

    run: RunDir
    progress: Progress
    ranks: Ranks
    device: torch.device
    samples: Samples


def open_work(
    config: CommandConfig,
    run: RunDir,
    progress: Progress | None = None,
    *,
    need_instruction: bool = True,
) -> Work:
    """Choose the device, meet the other processes, and open DATA.

    Args:
        config: DATA, its split and limit, the device.
        run: Notes which data it is; gets a failure row per row that is no sample.
        progress: Who hears of it; None: nobody.
        need_instruction: Whether a row without an instruction is a failure.

    Raises:
        RicError: there is no such DATA, it cannot be read, or a resumed run began with other data.
    """
    device, progress = pick_device(config.device), progress or Silent()
    ranks = Ranks(device, progress.note)
    samples = open_samples(config, run, need_instruction=need_instruction)
    return Work(run, progress, ranks, device, samples)
