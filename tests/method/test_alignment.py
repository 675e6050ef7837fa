"""The rules by which judges see x0_hat, each against its formula or the property it is for."""

from __future__ import annotations

import pytest
import torch

from ric.method.alignment import (
    PIXEL_NOISE,
    AlignmentRules,
    augmented,
    flattened,
    gradient_near,
    restored,
)
from ric.method.denoising import add_noise, predict_clean


def test_restoring_is_eq_5_with_a_share_of_the_known_noise(draw):
    clean, noise, predicted = torch.randn(3, 2, 4, 8, 8, generator=draw, dtype=torch.float64)
    alpha_bar = torch.tensor([0.3, 0.005], dtype=torch.float64)
    noisy = add_noise(clean, noise, alpha_bar)
    expected = predict_clean(noisy, 0.7 * noise + 0.3 * predicted, alpha_bar)
    found = restored(predict_clean(noisy, predicted, alpha_bar), clean, 0.7)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("weight", "expected"), [("alpha-bar", [0.9, 0.2]), ("one-minus-alpha-bar", [0.1, 0.8])]
)
def test_weights_by_alpha_bar_are_divided_by_the_share_that_is_aligned(weight, expected):
    rules = AlignmentRules(below=500, weight=weight)
    found = rules.weights(torch.tensor([0.9, 0.2]), "epsilon", 1000)
    torch.testing.assert_close(found, 2 * torch.tensor(expected))
    assert rules.rows_below(torch.tensor([499, 500, 0])) == [0, 2]


def test_the_adversarial_step_has_the_length_asked_for_and_goes_uphill(draw):
    pixels = torch.rand(2, 3, 8, 8, generator=draw, dtype=torch.float64, requires_grad=True)
    towards = torch.randn(2, 3, 8, 8, generator=draw, dtype=torch.float64)

    def distance(seen: torch.Tensor) -> torch.Tensor:
        return (seen * towards).sum(dim=(1, 2, 3)).sin()

    moved = flattened(pixels, distance, 0.02)
    step = (moved - pixels).detach()
    torch.testing.assert_close(
        step.square().mean(dim=(1, 2, 3)).sqrt(), torch.full((2,), 0.02, dtype=torch.float64)
    )
    for row in range(2):
        (pull,) = torch.autograd.grad(distance(pixels)[row], pixels, retain_graph=True)
        along = torch.cosine_similarity(step[row].flatten(), pull[row].flatten(), dim=0)
        assert along.item() == pytest.approx(1)
    (through,) = torch.autograd.grad(moved.sum(), pixels)
    assert (through == 1).all()


def test_what_is_shifted_stays_whole_with_its_box(draw):
    pixels = torch.rand(3, 3, 64, 64, generator=draw)
    boxes = [(10, 20, 30, 40), (0, 60, 8, 64), None]
    shifts = torch.tensor([[1.0, -0.5], [1.0, -1.0], [-1.0, 1.0]])
    seen, moved = augmented(pixels, boxes, shifts, [1, 2, 3])
    assert moved[0] == (6, 22, 26, 42)
    # at the left and lower edge: it may move neither out to the left nor out below
    assert moved[1] == (0, 60, 8, 64)
    assert moved[2] is None
    for row in (0, 1):
        (x0, y0, x1, y1), (u0, v0, u1, v1) = boxes[row], moved[row]
        noise = seen[row, :, v0:v1, u0:u1] - pixels[row, :, y0:y1, x0:x1]
        assert noise.std().item() == pytest.approx(PIXEL_NOISE, rel=0.3)
    again, _ = augmented(pixels, boxes, shifts, [1, 2, 4])
    assert torch.equal(again[:2], seen[:2])
    assert not torch.equal(again[2], seen[2])


def test_the_gradient_ends_a_sixteenth_of_the_side_beyond_the_box():
    pixels = torch.zeros(2, 3, 32, 64, requires_grad=True)
    near = gradient_near(pixels, [(20, 10, 30, 20), (0, 0, 64, 3)])
    assert torch.equal(near, pixels)
    (pull,) = torch.autograd.grad(near.sum(), pixels)
    expected = torch.zeros(2, 3, 32, 64)
    expected[0, :, 8:22, 16:34] = 1
    expected[1, :, 0:5, :] = 1
    assert torch.equal(pull, expected)
