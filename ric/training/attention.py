"""Attention that is trained on a CPU: in float32, under bf16 autocast too.

PyTorch's fused attention for CPUs goes back up to nine times slower in bfloat16 than in float32
(docs/speed.md), and rounds more. Nothing else changes: what comes out is bfloat16 as before.
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
    """Open the context in which what is trained goes forward and backward; a GPU needs none.

    The backward pass belongs inside: blocks that are computed twice meet it there.
    """
    return attending_by(_attend) if device.type == "cpu" else nullcontext()


@contextmanager
def attending_by(attend: Callable[..., Tensor]) -> Iterator[None]:
    """Replace `scaled_dot_product_attention` for whoever calls it, while the block runs.

    diffusers, transformers and `nn.MultiheadAttention` have no place in common to set it.
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
