"""Cross-attention maps of a UNet, recorded while it runs."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from diffusers import UNet2DConditionModel
    from diffusers.models.attention_processor import Attention
    from torch import Tensor, nn

# Shape letters: G rows of a batch, N places of a layer, D its width, L text tokens, E text width.


def coarsest_cross_attention(unet: UNet2DConditionModel) -> tuple[list[Attention], int]:
    """Find the cross-attention of the coarsest level that has any in the down path.

    In Stable Diffusion its sides are a quarter of the latents': 16 x 16 places for 512 px.

    Returns:
        The level's modules in the down and the up path, none where the UNet has none; and how many
        times smaller than the latents its sides are.
    """
    of_levels = [_reading_text(block) for block in unet.down_blocks]
    level = max((index for index, found in enumerate(of_levels) if found), default=0)
    return of_levels[level] + _reading_text(unet.up_blocks[-1 - level]), 2**level


def _reading_text(block: nn.Module) -> list[Attention]:
    """List a block's cross-attention modules."""
    return [module for name, module in block.named_modules() if name.endswith(".attn2")]


@contextmanager
def recorded_attention(layers: Sequence[Attention]) -> Iterator[list[Tensor]]:
    """Collect the cross-attention of some modules while the block runs.

    Each call of a module adds its probabilities, averaged over the heads: (G, N, L), float32.
    """
    found: list[Tensor] = []
    usual = [layer.processor for layer in layers]
    for layer, processor in zip(layers, usual, strict=True):
        layer.set_processor(_Recording(processor, found))
    try:
        yield found
    finally:
        for layer, processor in zip(layers, usual, strict=True):
            layer.set_processor(processor)


class _Recording:
    """An attention processor that records the probabilities and leaves the result to another."""

    def __init__(self, usual: Callable[..., Tensor], found: list[Tensor]) -> None:
        self.usual, self.found = usual, found

    def __call__(
        self,
        attention: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        *given: Any,
        **named: Any,
    ) -> Tensor:
        self.found.append(probabilities(attention, hidden_states, encoder_hidden_states))
        return self.usual(attention, hidden_states, encoder_hidden_states, *given, **named)


def probabilities(attention: Attention, places: Tensor, text: Tensor) -> Tensor:
    """Return how much each place reads each token, averaged over the heads.

    Args:
        attention: A cross-attention module.
        places: Its input (G, N, D).
        text: (G, L, E).

    Returns:
        (G, N, L), float32; each place's sum over the tokens is 1.
    """
    if attention.norm_cross:
        text = attention.norm_encoder_hidden_states(text)
    query = attention.head_to_batch_dim(attention.to_q(places))
    key = attention.head_to_batch_dim(attention.to_k(text))
    of_heads = attention.get_attention_scores(query, key).float()
    return of_heads.unflatten(0, (len(places), attention.heads)).mean(1)
