"""Starting accelerate for a recipe that trains."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from ric.distributed import Ranks


def start_accelerator(device: torch.device, dtype: torch.dtype, ranks: Ranks) -> Accelerator:
    """Start accelerate on `device`, with bf16 autocast where `dtype` asks for it.

    Args:
        device: What is trained on.
        dtype: What the networks compute in.
        ranks: The processes that train together; where there are others, they stay met.
    """
    # accelerate keeps one state a process; a second recipe in this one may want another precision
    AcceleratorState._reset_state(reset_partial_state=ranks.count == 1)
    return Accelerator(
        mixed_precision="bf16" if dtype == torch.bfloat16 else "no", cpu=device.type == "cpu"
    )
