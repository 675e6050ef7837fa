from __future__ import annotations

import math

import pytest
import torch

from ric.method.losses import (
    Negative,
    cosine,
    global_loss,
    noise_loss,
    region_loss,
    same_text_mask,
    symmetric_contrastive_loss,
)

ALIGNMENTS = pytest.mark.parametrize("loss", [region_loss, global_loss])


@ALIGNMENTS
def test_alignment_by_hand_on_two_pairs(loss):
    visual = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    text = torch.tensor([[4.0, 3.0], [-2.0, 0.0]])
    # cos = 24/25 and -1
    assert loss(visual, text).item() == pytest.approx(((1 - 24 / 25) + 2) / 2)


@ALIGNMENTS
def test_alignment_ignores_the_length_of_the_embeddings(loss, draw):
    visual, text = torch.randn(2, 4, 6, generator=draw, dtype=torch.float64)
    torch.testing.assert_close(loss(visual * 9, text / 7), loss(visual, text))


@ALIGNMENTS
def test_the_kept_are_divided_by_the_whole_batch(loss, draw):
    visual, text = torch.randn(2, 4, 6, generator=draw, dtype=torch.float64)
    kept = torch.tensor([True, False, True, False])
    expected = sum(1 - (visual[i] @ text[i]) / (visual[i].norm() * text[i].norm()) for i in (0, 2))
    torch.testing.assert_close(loss(visual, text, kept=kept), expected / 4)
    torch.testing.assert_close(loss(visual, text, kept=kept.double(), batch_size=16), expected / 16)


@ALIGNMENTS
def test_micro_batches_add_up_to_the_batch(loss, draw):
    visual, text = torch.randn(2, 6, 5, generator=draw, dtype=torch.float64)
    kept = torch.tensor([True, False, True, True, False, True])
    whole = loss(visual, text, kept=kept)
    parts = [
        loss(visual[rows], text[rows], kept=kept[rows], batch_size=6)
        for rows in (slice(0, 2), slice(2, 3), slice(3, 6))
    ]
    torch.testing.assert_close(sum(parts), whole)


@ALIGNMENTS
def test_weights_scale_each_sample(loss, draw):
    visual, text = torch.randn(2, 3, 5, generator=draw, dtype=torch.float64)
    weights = torch.tensor([0.5, 0.0, 2.0])
    distances = 1 - cosine(visual, text)
    expected = (0.5 * distances[0] + 2 * distances[2]) / 3
    torch.testing.assert_close(loss(visual, text, weights=weights), expected)


@ALIGNMENTS
def test_a_dropped_sample_may_hold_anything(loss):
    visual = torch.ones(2, 3).requires_grad_()
    text = torch.tensor([[1.0, 0.0, 0.0], [math.nan] * 3])
    value = loss(visual, text, kept=torch.tensor([True, False]))
    assert value.item() == pytest.approx((1 - 3**-0.5) / 2)


@ALIGNMENTS
def test_half_precision_embeddings_are_reduced_in_float32(loss, draw):
    visual, text = torch.randn(2, 4, 6, generator=draw).bfloat16()
    value = loss(visual, text)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(visual.float(), text.float()))


def test_the_noise_term_is_a_mean_over_elements_and_adds_up(draw):
    prediction, target = torch.randn(2, 4, 3, 2, 2, generator=draw, dtype=torch.float64)
    expected = sum(d**2 for d in (prediction - target).flatten()) / 48
    torch.testing.assert_close(noise_loss(prediction, target), expected)
    parts = [noise_loss(prediction[r], target[r], batch_size=4) for r in (slice(1), slice(1, 4))]
    torch.testing.assert_close(sum(parts), expected)
    assert noise_loss(prediction.bfloat16(), target.bfloat16()).dtype == torch.float32


def test_the_noise_term_as_printed_is_a_squared_norm_averaged_over_samples(draw):
    prediction, target = torch.randn(2, 4, 3, 2, 2, generator=draw, dtype=torch.float64)
    norms = [(prediction[i] - target[i]).norm() ** 2 for i in range(4)]
    found = noise_loss(prediction, target, reduction="sum")
    torch.testing.assert_close(found, sum(norms) / 4)
    half = noise_loss(prediction[:2], target[:2], batch_size=4, reduction="sum")
    torch.testing.assert_close(half, sum(norms[:2]) / 4)


@ALIGNMENTS
def test_a_cosine_above_its_ceiling_costs_nothing_and_pulls_at_nothing(loss, draw):
    visual, text = torch.randn(2, 3, 6, generator=draw, dtype=torch.float64)
    visual.requires_grad_()
    cosines = torch.stack(
        [v @ t / (v.norm() * t.norm()) for v, t in zip(visual, text, strict=True)]
    )
    cosines = cosines.detach()
    ceiling = cosines + torch.tensor([0.2, 0.0, -0.2])
    value = loss(visual, text, ceiling=ceiling)
    torch.testing.assert_close(value, torch.tensor(0.2 / 3, dtype=torch.float64))
    (pull,) = torch.autograd.grad(value, visual)
    (free,) = torch.autograd.grad(loss(visual, text), visual)
    torch.testing.assert_close(pull[0], free[0])
    assert not pull[1:].any()


def written_out(visual, text, tau, same_text=None, source=None):
    """Eq. 11, term by term; a pair's source is one more picture for its own text."""
    z = [row / row.norm() for row in visual]
    t = [row / row.norm() for row in text]
    count = len(z)

    def negatives(i):
        return [j for j in range(count) if j == i or same_text is None or not same_text[i][j]]

    total = 0.0
    for i in range(count):
        positive = torch.exp(z[i] @ t[i] / tau)
        total += -torch.log(positive / sum(torch.exp(z[i] @ t[j] / tau) for j in negatives(i)))
        pictures = [z[j] for j in negatives(i)]
        if source is not None:
            pictures.append(source[i] / source[i].norm())
        total += -torch.log(positive / sum(torch.exp(t[i] @ picture / tau) for picture in pictures))
    return total / (2 * count)


@pytest.fixture
def pairs(draw):
    return torch.randn(2, 5, 6, generator=draw, dtype=torch.float64)


def test_the_contrastive_loss_is_the_double_sum_written_out(pairs):
    visual, text = pairs
    got = symmetric_contrastive_loss(visual, text, 0.07)
    torch.testing.assert_close(got, written_out(visual, text, 0.07))


def test_a_source_joins_the_sum_of_its_own_text_alone(pairs, draw):
    visual, text = pairs
    source = torch.randn(5, 6, generator=draw, dtype=torch.float64)
    same_text = same_text_mask(["a", "b", "a", "c", "d"])
    got = symmetric_contrastive_loss(
        visual, text, 0.07, same_text=same_text, negative=Negative(3 * source)
    )
    torch.testing.assert_close(got, written_out(visual, text, 0.07, same_text, source))
    # as near to the text as the target: half of what is left is lost to it
    alone = symmetric_contrastive_loss(visual[:1], text[:1], 0.07, negative=Negative(visual[:1]))
    assert alone.item() == pytest.approx(math.log(2) / 2)


def test_a_negative_that_does_not_count_is_as_if_it_were_not_there(pairs, draw):
    visual, text = pairs
    negative = torch.randn(5, 6, generator=draw, dtype=torch.float64)
    none, some = torch.zeros(5, dtype=torch.bool), torch.tensor([True, False, True, True, False])
    loss = symmetric_contrastive_loss
    torch.testing.assert_close(
        loss(visual, text, 0.07, negative=Negative(negative, none)), loss(visual, text, 0.07)
    )
    # one that is opposite to its text adds exp(-1 / tau) to a sum of about 5 exp(0)
    far = torch.where(some[:, None], negative, -text)
    torch.testing.assert_close(
        loss(visual, text, 0.07, negative=Negative(negative, some)),
        loss(visual, text, 0.07, negative=Negative(far)),
        rtol=1e-5, atol=0,
    )  # fmt: skip


def test_a_wrong_text_joins_the_sum_of_its_own_picture_alone(pairs, draw):
    visual, text = pairs
    wrong = torch.randn(5, 6, generator=draw, dtype=torch.float64)
    same_text = same_text_mask(["a", "b", "a", "c", "d"])
    got = symmetric_contrastive_loss(
        visual, text, 0.07, same_text=same_text, wrong_text=Negative(3 * wrong)
    )
    # the roles of pictures and texts exchanged, it is a wrong picture
    torch.testing.assert_close(got, written_out(text, visual, 0.07, same_text, wrong))


def test_the_contrastive_loss_is_symmetric(pairs):
    visual, text = pairs
    torch.testing.assert_close(
        symmetric_contrastive_loss(visual, text, 0.1), symmetric_contrastive_loss(text, visual, 0.1)
    )


def test_the_order_of_pairs_does_not_matter(pairs):
    visual, text = pairs
    order = torch.tensor([3, 0, 4, 2, 1])
    torch.testing.assert_close(
        symmetric_contrastive_loss(visual[order], text[order], 0.1),
        symmetric_contrastive_loss(visual, text, 0.1),
    )


def test_matching_pairs_give_less_than_mismatched_ones():
    embeddings = torch.eye(4)
    matched = symmetric_contrastive_loss(embeddings, embeddings, 0.07)
    assert matched < 1e-4
    assert symmetric_contrastive_loss(embeddings, embeddings.roll(1, 0), 0.07) > 10


def test_the_contrastive_gradient_is_the_finite_difference_also_of_tau(pairs):
    visual, text = (tensor.clone().requires_grad_() for tensor in pairs)
    tau = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(symmetric_contrastive_loss, (visual, text, tau))


def test_pairs_with_the_same_text_are_no_negatives_of_each_other(pairs):
    visual, text = pairs.clone()
    text[3] = text[1]
    same = torch.zeros(5, 5, dtype=torch.bool)
    same[1, 3] = same[3, 1] = True
    expected = written_out(visual, text, 0.07, same.tolist())
    torch.testing.assert_close(
        symmetric_contrastive_loss(visual, text, 0.07, same_text=same), expected
    )
    # a diagonal of True, as a comparison of texts gives it, keeps the positives
    torch.testing.assert_close(
        symmetric_contrastive_loss(visual, text, 0.07, same_text=same | torch.eye(5).bool()),
        expected,
    )
    assert expected < symmetric_contrastive_loss(visual, text, 0.07)


def test_a_batch_of_one_text_teaches_nothing_and_breaks_nothing(pairs):
    visual, _ = pairs.clone()
    visual.requires_grad_()
    text = visual.detach()[:1].expand(5, -1)
    loss = symmetric_contrastive_loss(visual, text, 0.07, same_text=torch.ones(5, 5).bool())
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(visual.grad, torch.zeros_like(visual))


def test_autocast_does_not_coarsen_the_contrastive_loss(pairs):
    visual, text = pairs.float()
    plain = symmetric_contrastive_loss(visual, text, 0.07)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(symmetric_contrastive_loss(visual, text, 0.07), plain)


def test_pairs_of_the_same_text_are_marked():
    mask = same_text_mask(["a ball", "a dog", "a ball", "a cat"])
    expected = torch.eye(4, dtype=torch.bool)
    expected[0, 2] = expected[2, 0] = True
    assert torch.equal(mask, expected)
