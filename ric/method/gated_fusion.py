"""Gated cross-attention fusion: a region borrows context from its image (Sec. 3.2.2, Fig. 4).

Choice 1, fusion runs on patch tokens in the joint space: the paper names CNN_r, CNN_f and an
attention without saying what their inputs are. Here e_r and e_f are CLIP's patch tokens, already in
the joint space, arranged on their square grid; CNN_r and CNN_f are two 3x3 convolutions with a GELU
between, `width` to `width`; the attention has 8 heads in the paper's preset; W_p maps to CLIP's
projection width. The region encoder takes the mean over region tokens, which makes them one
embedding.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ric.errors import RicError

# Shape letters: B batch, R region tokens, F full-image tokens, T either, D width, P projected
# width; H and W are the token grid's.


class GatedCrossAttentionFusion(nn.Module):
    """Fuses a region's tokens with its full image's (Sec. 3.2.2, Fig. 4, Eqs. 12-16)."""

    def __init__(self, width: int, num_heads: int, projection: int) -> None:
        """Build the module with PyTorch's default initialisation.

        Args:
            width: D, the tokens' width.
            num_heads: Heads of the attention; must divide `width`.
            projection: P, the width of the result.

        Raises:
            RicError: `num_heads` does not divide `width`.
        """
        super().__init__()
        if num_heads < 1 or width % num_heads:
            raise RicError(
                f"{num_heads} attention heads do not divide the token width {width}.",
                f"Choose a number of heads that divides {width}.",
            )
        self.width = width
        self.num_heads = num_heads
        self.projection = projection
        self.region_cnn = _two_convolutions(width)
        self.full_cnn = _two_convolutions(width)
        self.attention = nn.MultiheadAttention(width, num_heads, batch_first=True)
        self.gate = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, projection)

    def forward(self, region_tokens: Tensor, image_tokens: Tensor) -> Tensor:
        """Compute f_r for every region token (Eq. 16, before the mean).

        Args:
            region_tokens: e_r (B, R, D), row by row; R is a square number.
            image_tokens: e_f (B, F, D), row by row; F is a square number.

        Returns:
            f_r (B, R, P).

        Raises:
            RicError: R or F is not a square number.
        """
        region_BRD = _convolve(self.region_cnn, region_tokens)  # Eq. 12
        full_BFD = _convolve(self.full_cnn, image_tokens)  # Eq. 12
        context_BRD = self.attend(region_BRD, full_BFD)  # Eq. 13
        gate_BRD = torch.sigmoid(self.gate(region_BRD))  # Eq. 14
        fused_BRD = region_BRD + gate_BRD * context_BRD  # Eq. 15
        return self.project(self.norm(fused_BRD))  # Eq. 16

    def attend(self, region_BRD: Tensor, full_BFD: Tensor) -> Tensor:
        """Attend from the region's tokens to the full image's: h (B, R, D) (Eq. 13)."""
        # need_weights=False lets PyTorch use its fused attention
        return self.attention(region_BRD, full_BFD, full_BFD, need_weights=False)[0]


def _two_convolutions(width: int) -> nn.Sequential:
    """Build CNN_r or CNN_f: two 3x3 convolutions with a GELU between (choice 1)."""
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1), nn.GELU(), nn.Conv2d(width, width, 3, padding=1)
    )


def _convolve(cnn: nn.Module, tokens_BTD: Tensor) -> Tensor:
    """Arrange tokens on their square grid, convolve, and flatten the grid row by row."""
    tokens = tokens_BTD.shape[1]
    side = math.isqrt(tokens)
    if side * side != tokens:
        raise RicError(
            f"{tokens} tokens do not form a square grid.",
            "Give patch tokens of a square input, without the class token.",
        )
    grid_BDHW = tokens_BTD.transpose(1, 2).unflatten(2, (side, side))
    return cnn(grid_BDHW).flatten(2).transpose(1, 2)
