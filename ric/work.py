"""What the parts of a recipe share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from ric.distributed import Ranks
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
    """

    run: RunDir
    progress: Progress
    ranks: Ranks
    device: torch.device
