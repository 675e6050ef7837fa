"""Drawing an answer's tokens from a seed of its own, whatever else is in its batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from transformers import LogitsProcessor, TopPLogitsWarper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

TEMPERATURE, TOP_P = 0.7, 0.9


class SeededNoise(LogitsProcessor):
    """Add Gumbel noise to logits, so that the largest is a draw from their softmax.

    The maximum of log p_i + g_i, with independent standard Gumbel g_i, is i with probability p_i.
    Each row's noise comes from a generator of its own: a draw depends on the row's seed and logits
    alone. p is at temperature 0.7, of the likeliest tokens that make up 0.9.

    Args:
        seeds: One for each row; None: a row is left as it is, and its largest logit is the
            likeliest token.
    """

    def __init__(self, seeds: Sequence[int | None]) -> None:
        """Seed the generators."""
        self.generators = [
            None if seed is None else torch.Generator().manual_seed(seed) for seed in seeds
        ]
        self.top_p = TopPLogitsWarper(TOP_P)

    def __call__(self, tokens: Tensor | None, logits_BV: Tensor) -> Tensor:
        """Return the logits (B, V), in float32, with noise; `tokens` (B, T) are not looked at."""
        noisy = logits_BV.float().clone()
        for row, generator in enumerate(self.generators):
            if generator is None:
                continue
            scaled = self.top_p(None, noisy[row : row + 1] / TEMPERATURE)
            # drawn on the CPU: the same on every device
            uniform = torch.rand(scaled.shape, generator=generator, dtype=torch.float64)
            gumbel = -torch.log(-torch.log(uniform.clamp(1e-300, 1 - 1e-16)))
            noisy[row] = scaled[0] + gumbel[0].to(scaled)
        return noisy
