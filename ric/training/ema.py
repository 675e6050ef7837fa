"""The exponential moving average (EMA) of the trained weights (choice 8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


def start_ema(named: Mapping[str, Tensor], device: torch.device | None = None) -> dict[str, Tensor]:
    """Start an EMA with copies of the weights, by name: on their own device, or on another."""
    return {name: weight.detach().to(device, copy=True) for name, weight in named.items()}


@torch.no_grad()
def update_ema(
    ema: Mapping[str, Tensor], named: Mapping[str, Tensor], step: int, limit: float
) -> None:
    """Move the EMA towards the weights, in place: decay * ema + (1 - decay) * weights.

    Args:
        ema: From `start_ema`.
        named: The weights; if they are on another device than the EMA, each is copied there.
        step: The step the weights have just taken, counted from 0.
        limit: The decay's upper limit: it is min(limit, (1 + step) / (10 + step)).
    """
    decay = min(limit, (1 + step) / (10 + step))
    averaged = list(ema.values())
    weights = [named[name] for name in ema]
    if averaged[0].device == weights[0].device:
        torch._foreach_lerp_(averaged, weights, 1 - decay)
        return
    for mean, weight in zip(averaged, weights, strict=True):
        mean.lerp_(weight.to(mean.device), 1 - decay)
