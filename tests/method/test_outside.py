"""The term that holds the picture outside the edited region."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ric.method.alignment import AlignmentRules
from ric.method.noised_batch import NoisedBatch
from ric.method.objective import RegionInContextObjective, WeightedTerm
from ric.method.outside import Outside

BOXES = [(0, 0, 12, 20), (8, 8, 32, 32), None, (0, 0, 32, 32)]


@pytest.fixture
def batch(draw) -> NoisedBatch:
    noisy, clean, noise = (torch.randn(4, 4, 8, 8, generator=draw) for _ in range(3))
    none = torch.zeros(4, dtype=torch.bool)
    steps = torch.tensor([10, 100, 300, 500])
    return NoisedBatch(noisy, clean, noise, steps, BOXES, None, None, none, none)


def target_of(vae, batch: NoisedBatch) -> torch.Tensor:
    return vae.decode(batch.clean_latents / vae.config.scaling_factor).sample.clamp(-1, 1)


@torch.no_grad()
def test_it_is_the_mean_difference_outside_each_box_and_0_where_there_is_no_outside(
    vae, batch, draw
):
    pixels = torch.rand(4, 3, 32, 32, generator=draw) * 2 - 1
    found = Outside(vae)(pixels, batch)
    difference = (pixels - target_of(vae, batch)).abs().mean(dim=1)
    kept = [
        difference[row][mask]
        for row, box in enumerate(BOXES[:2])
        for mask in [torch.ones(32, 32, dtype=torch.bool)]
        if not mask[box[1] : box[3], box[0] : box[2]].fill_(False).any()
    ]
    assert found[:2].tolist() == pytest.approx([one.mean().item() for one in kept], rel=1e-5)
    assert found[2:].tolist() == [0, 0]


@torch.no_grad()
def test_what_is_inside_the_box_changes_nothing(vae, batch):
    pixels = target_of(vae, batch)
    pixels[0, :, :20, :12] = 1
    assert Outside(vae)(pixels, batch)[0] == 0
    pixels[0, :, 20, 0] += 0.5
    assert Outside(vae)(pixels, batch)[0] > 0


def test_beside_eq_10_it_is_divided_by_the_whole_batch_and_weighed(vae, batch, alphas_cumprod):
    prediction = batch.noise.clone().requires_grad_()
    alone = RegionInContextObjective(vae, None, None, "epsilon", alphas_cumprod)
    further = {"outside": WeightedTerm(2.0, Outside(vae))}
    both = RegionInContextObjective(vae, None, None, "epsilon", alphas_cumprod, further=further)
    losses = both(prediction, batch, batch_size=8)
    seen = []

    def watched(pixels: torch.Tensor, some: NoisedBatch) -> torch.Tensor:
        seen.append(Outside(vae)(pixels, some))
        return seen[0]

    both.further["outside"] = WeightedTerm(2.0, watched)
    again = both(prediction, batch, batch_size=8)
    assert again.further["outside"].item() == pytest.approx(seen[0].sum().item() / 8)
    plain = alone(prediction, batch, batch_size=8).total
    assert losses.total.item() == pytest.approx((plain + 2 * losses.further["outside"]).item())
    assert "loss_outside" in losses.parts()
    assert losses.gradient_norms()["grad_norm_outside"] > 0


def test_only_samples_below_the_step_are_judged_and_their_share_divides(vae, batch, alphas_cumprod):
    seen = []

    def watched(pixels: torch.Tensor, some: NoisedBatch) -> torch.Tensor:
        seen.append((len(pixels), some.timesteps.tolist(), some.boxes))
        return pixels.mean(dim=(1, 2, 3)) * 0 + 1

    further = {"one": WeightedTerm(1.0, watched)}
    objective = RegionInContextObjective(
        vae, None, None, "epsilon", alphas_cumprod, rules=AlignmentRules(below=250), further=further
    )
    losses = objective(batch.noise, batch, batch_size=4)
    assert seen == [(2, [10, 100], BOXES[:2])]
    assert losses.further["one"].item() == pytest.approx(2 / 4 / 0.25)
    late = replace(batch, timesteps=torch.full((4,), 900))
    assert objective(batch.noise, late, batch_size=4).further["one"] == 0
    assert len(seen) == 1
