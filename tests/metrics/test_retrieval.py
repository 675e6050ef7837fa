"""Recall and rank of texts among texts and of pictures among pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ric.method.losses import same_text_mask
from ric.metrics.retrieval import retrieval, share_above


def ranks_by_hand(queries, answers, texts) -> list[int]:
    """Sort by score with wrong answers first among equals; where does a right one come?"""
    ranks = []
    for i, query in enumerate(queries):
        scored = []
        for j, answer in enumerate(answers):
            cosine = np.dot(query, answer) / np.linalg.norm(query) / np.linalg.norm(answer)
            scored.append((-round(float(cosine), 6), texts[i] == texts[j]))
        wrong_before, best = 0, min(score for score, right in scored if right)
        for score, right in scored:
            wrong_before += not right and score <= best
        ranks.append(1 + wrong_before)
    return ranks


def test_the_share_above_is_of_texts_nearer_to_their_picture_than_to_its_negative():
    text = torch.tensor([[1.0, 0.0]] * 4)
    visual = torch.tensor([[1.0, 0.1], [5.0, 5.0], [1.0, 1.0], [0.0, 1.0]])
    source = torch.tensor([[9.0, 2.0], [0.5, 0.4], [1.0, 1.5], [0.0, 3.0]])
    # nearer by angle in the first and third, not in the second; in the fourth both are equal
    assert share_above(visual, text, source, torch.ones(4, dtype=torch.bool)) == 0.5
    assert share_above(visual, text, source, torch.tensor([True, False, True, False])) == 1


def test_retrieval_figures_are_those_of_a_written_out_loop():
    generator = torch.Generator().manual_seed(0)
    text = torch.randn(40, 3, generator=generator)
    visual = 2 * text + 1.5 * torch.randn(40, 3, generator=generator)
    texts = [f"text {n % 33}" for n in range(40)]  # 7 texts stand twice
    figures = retrieval(visual, text, same_text_mask(texts))
    for name, queries, answers in (("i2t", visual, text), ("t2i", text, visual)):
        ranks = np.array(ranks_by_hand(queries.numpy(), answers.numpy(), texts))
        assert len(set(ranks)) > 1
        assert figures[f"{name}_recall_at_1"] == pytest.approx((ranks <= 1).mean())
        assert figures[f"{name}_recall_at_5"] == pytest.approx((ranks <= 5).mean())
        assert figures[f"{name}_median_rank"] == pytest.approx(np.median(ranks))


def test_a_tie_with_a_wrong_answer_is_no_hit():
    same = torch.ones(6, 2)
    figures = retrieval(same, same, same_text_mask("abcdef"))
    assert figures["i2t_recall_at_1"] == figures["t2i_recall_at_1"] == 0
    assert figures["i2t_recall_at_5"] == 0
    assert figures["i2t_median_rank"] == 6


def test_finding_an_identical_text_is_a_hit():
    visual = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    text = torch.tensor([[0.9, 0.1], [1.0, 0.0], [0.0, 1.0]])
    assert retrieval(visual, text, same_text_mask(["a", "b", "c"]))[
        "i2t_recall_at_1"
    ] == pytest.approx(1 / 3)
    assert retrieval(visual, text, same_text_mask(["a", "a", "c"]))["i2t_recall_at_1"] == 1


def test_embeddings_that_are_not_numbers_find_nothing():
    broken = torch.full((4, 2), torch.nan)
    figures = retrieval(broken, torch.eye(4)[:, :2], same_text_mask("abcd"))
    assert figures["i2t_recall_at_1"] == figures["t2i_recall_at_1"] == 0


def test_the_median_of_an_even_number_of_ranks_lies_between_the_middle_two():
    # both pictures are nearest to the first text: ranks 1 and 2
    figures = retrieval(torch.tensor([[1.0, 0.0], [1.0, 0.1]]), torch.eye(2), same_text_mask("ab"))
    assert figures["i2t_median_rank"] == 1.5
