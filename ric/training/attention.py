"""Attention that is trained on a CPU: in float32, under bf16 autocast too.

The backward pass of PyTorch's fused CPU attention is up to nine times slower in bfloat16 than in
float32 (docs/speed.md), and less exact. Only attention changes; its output is still bfloat16.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional
from torch.nn.functional import scaled_dot_product_attention

from ric.method.losses import at_least_float32

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from torch import Tensor


def trained_attention(device: torch.device) -> AbstractContextManager[None]:
    """Return the context for training's forward and backward passes; it does nothing on a GPU.

    Run the backward pass inside it too: checkpointed blocks are recomputed there.
    """
    return attending_by(_attend) if device.type == "cpu" else nullcontext()


@contextmanager
def attending_by(attend: Callable[..., Tensor]) -> Iterator[None]:
    """Replace `scaled_dot_product_attention` for all callers while the block runs.

    diffusers, transformers and `nn.MultiheadAttention` share no setting for it.
    """
    usual = functional.scaled_dot_product_attention
    functional.scaled_dot_product_attention = attend
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = usual


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    *others: Any,
    **named: Any,
) -> Tensor:
    if not any(one.requires_grad for one in (query, key, value)):
        return scaled_dot_product_attention(query, key, value, attn_mask, *others, **named)
    if attn_mask is not None and attn_mask.is_floating_point():
        attn_mask = at_least_float32(attn_mask)
    dtype = value.dtype
    query, key, value = (at_least_float32(one) for one in (query, key, value))
    with torch.autocast(value.device.type, enabled=False):
        attended = scaled_dot_product_attention(query, key, value, attn_mask, *others, **named)
    return attended.to(dtype)
