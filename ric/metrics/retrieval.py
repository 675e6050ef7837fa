"""Retrieval: how well pictures find their texts among others, and texts their pictures."""

from __future__ import annotations

import torch
from torch import Tensor


def rank_of_right(scores: Tensor, same: Tensor) -> Tensor:
    """Return the rank of each row's best right answer, from 1: (N,), whole numbers.

    Args:
        scores: (N, N), of each query with each answer.
        same: (N, N) bool, True where an answer is right. A wrong one that scores as well as the
            right one ranks before it.
    """
    right = scores.masked_fill(~same, float("-inf")).amax(dim=1)
    return 1 + (~(scores < right[:, None]) & ~same).sum(dim=1)  # `not <` counts NaN against it


@torch.no_grad()
def retrieval(visual: Tensor, text: Tensor, same_text: Tensor) -> dict[str, float]:
    """Measure how well pictures find their texts and texts their pictures.

    Args:
        visual: (N, D) embeddings.
        text: (N, D) embeddings, row i belongs to picture i.
        same_text: (N, N) bool, True where two rows carry the same text, the diagonal included:
            finding an identical text counts as found.

    Returns:
        `i2t_recall_at_1`, `i2t_recall_at_5`, `i2t_median_rank` and the same for `t2i`. Ranks start
        at 1; a wrong answer that scores as well as the right one ranks before it.
    """
    visual = torch.nn.functional.normalize(visual.float(), dim=-1)
    text = torch.nn.functional.normalize(text.float(), dim=-1)
    scores = (visual @ text.T).cpu()
    same = same_text.cpu()
    figures = {}
    for name, score in (("i2t", scores), ("t2i", scores.T)):
        rank = rank_of_right(score, same).float()
        figures[f"{name}_recall_at_1"] = (rank <= 1).float().mean().item()
        figures[f"{name}_recall_at_5"] = (rank <= 5).float().mean().item()
        figures[f"{name}_median_rank"] = rank.quantile(0.5).item()
    return figures


@torch.no_grad()
def share_above(visual: Tensor, text: Tensor, negative: Tensor, counts: Tensor) -> float:
    """Return the share of texts to which their picture is nearer than its own negative.

    Args:
        visual: (N, D) embeddings of the pictures.
        text: (N, D), of their texts.
        negative: (N, D), of each picture's negative, such as its source.
        counts: (N,) bool, at least one True: those that are counted.
    """
    near, far = (
        torch.nn.functional.cosine_similarity(one.float(), text.float())[counts]
        for one in (visual, negative)
    )
    return (near > far).float().mean().item()
