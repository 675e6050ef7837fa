"""Recall among a fixed number of candidates, so that figures on sets of any size are comparable."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import torch

from ric.method.losses import same_text_mask
from ric.metrics.retrieval import retrieval, share_above

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

Item = TypeVar("Item")
AMONG = 64  # candidates


@torch.no_grad()
def retrieval_among(
    items: Sequence[Item],
    embed: Callable[[Sequence[Item]], tuple[Tensor, ...]],
    text_of: Callable[[Item], str],
    among: int = AMONG,
) -> dict[str, float]:
    """Measure `retrieval` within groups of `among` items, and return the means over groups.

    Args:
        items: Fewer than `among` form one group; items after the last full group are not used.
        embed: Returns visual and text embeddings of items, and maybe their sources', (N, D) each.
        text_of: Returns an item's text.
        among: How many pictures and texts are searched.
    """
    among = min(among, len(items))
    groups = [items[start : start + among] for start in range(0, len(items) - among + 1, among)]
    found = []
    for group in groups:
        visual, text, *source = embed(group)
        same_text = same_text_mask([text_of(item) for item in group])
        found.append(retrieval(visual, text, same_text))
        if source:
            every = torch.ones(len(text), dtype=torch.bool, device=text.device)
            found[-1]["above_source"] = share_above(visual, text, source[0], every)
    return {key: sum(one[key] for one in found) / len(found) for key in found[0]}
