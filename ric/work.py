"""The state that the parts of a recipe share: run, progress, processes, device, DATA."""

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
        run: The run to write to.
        progress: The listener.
        ranks: The processes that work together.
        device: This process's device.
        samples: DATA, opened once; `narrowed` returns one of its splits.
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
    """Choose the device, join the other processes, and open DATA.

    Args:
        config: DATA, its split and limit, the device.
        run: Records the data; gets a failure row for each row that is not a sample.
        progress: The listener; None: no output.
        need_instruction: Whether a row without an instruction is a failure.

    Raises:
        RicError: there is no such DATA or device, DATA cannot be read, the other processes do not
            join, or a resumed run began with other data.
    """
    device, progress = pick_device(config.device), progress or Silent()
    ranks = Ranks(device, progress.note)
    samples = open_samples(config, run, need_instruction=need_instruction)
    return Work(run, progress, ranks, device, samples)
