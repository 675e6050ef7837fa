"""How far two sets of gradients lie apart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor


def relative_distances(
    ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]
) -> dict[str, float]:
    """Give each gradient's distance from its twin, as a share of the length of all of theirs."""
    assert ours.keys() == theirs.keys()
    length = torch.linalg.vector_norm(torch.cat([one.flatten() for one in theirs.values()]))
    assert length > 0
    return {
        name: (torch.linalg.vector_norm(ours[name] - one) / length).item()
        for name, one in theirs.items()
    }


def first_moments(run: Path, step: int) -> dict[str, Tensor]:
    """Read AdamW's first moments: after one step, a tenth of the clipped gradient."""
    moments = load_file(run / "checkpoints" / f"step-{step:06d}" / "moments.safetensors")
    return {name: value for name, value in moments.items() if name.endswith("exp_avg")}
