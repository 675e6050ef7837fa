"""Starting accelerate for a recipe that trains."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from ric.errors import RicError


def start_accelerator(device: torch.device, dtype: torch.dtype) -> Accelerator:
    """Start accelerate on `device`, with bf16 autocast where `dtype` asks for it.

    Raises:
        RicError: the command was launched as several processes.
    """
    # accelerate keeps one state a process; a second recipe in this one may want another precision
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(
        mixed_precision="bf16" if dtype == torch.bfloat16 else "no", cpu=device.type == "cpu"
    )
    if accelerator.num_processes > 1:
        raise RicError(
            f"This was launched as {accelerator.num_processes} processes; "
            "training runs in one process so far.",
            "Start it without a launcher: ric train-unet …",
        )
    return accelerator
