"""What an edit becomes along a judge's gradient alone: the shipped region judge, on test scenes."""

from __future__ import annotations

from itertools import islice
from typing import NamedTuple

import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from ric.data.batches import to_unit
from ric.data.drawn_scenes import SceneStream
from ric.method.alignment import AlignmentRules
from ric.method.noised_batch import NoisedBatch
from ric.method.objective import RegionInContextObjective
from ric.method.region_box import grow_box, tightest_box
from ric.method.region_encoder import RegionEncoder
from ric.scenes.words import texts_of
from ric.weights.tiny_family import SHIPPED

SEED, SCENES = 3, 6
STEPS, LENGTH = 20, 0.03  # each step moves a sample's latents by this root mean square


class Scenes(NamedTuple):
    """Sources and targets as latents and pixels, and what the region judge reads."""

    sources: Tensor
    targets: Tensor
    shown_targets: Tensor
    shown_sources: Tensor
    outside: Tensor  # (B, 1, H, W), 1 outside both masks
    boxes: list[tuple[int, int, int, int]]
    texts: Tensor


@pytest.fixture(scope="module")
def objective():
    vae = AutoencoderKL.from_pretrained(SHIPPED / "pipeline" / "vae", torch_dtype=torch.float32)
    judge = RegionEncoder.from_pretrained(SHIPPED / "region_encoder")

    def make(rules: AlignmentRules | None = None) -> RegionInContextObjective:
        # alpha_bar 1: x0_hat is x_t itself, whatever the UNet says
        return RegionInContextObjective(
            vae, judge, None, "epsilon", torch.ones(1000), noise_weight=0, rules=rules
        )

    return make


@pytest.fixture(scope="module")
def scenes(objective) -> Scenes:
    made = objective()
    pictures, boxes, texts = [], [], []
    stream = SceneStream(count=400, seed=SEED)
    for sample in islice(stream.of_split("test"), SCENES):
        index = int(sample.id[-6:])
        edit, pair = stream.draw(index)
        pictures.append((pair.source, pair.target, pair.mask | pair.context_mask))
        boxes.append(grow_box(tightest_box(torch.from_numpy(pair.mask)), 64, 64))
        texts.append(texts_of(edit, SEED, index).region_text)
    sources, targets = (
        torch.stack([torch.from_numpy(one[k]).permute(2, 0, 1) for one in pictures]) for k in (0, 1)
    )
    masks = torch.stack([torch.from_numpy(one[2]) for one in pictures])
    with torch.no_grad():
        latents = [
            made.vae.encode(to_unit(some)).latent_dist.mode() * made.vae.config.scaling_factor
            for some in (sources, targets)
        ]
        embedded = made.region_encoder.encode_text(texts)
        shown = [decode(made, some) for some in latents]
    outside = (~masks).float()[:, None]
    return Scenes(*latents, shown[1], shown[0], outside, boxes, embedded)


def decode(objective: RegionInContextObjective, latents: Tensor) -> Tensor:
    scaled = latents / objective.vae.config.scaling_factor
    return objective.vae.decode(scaled).sample.clamp(-1, 1)


def batch_of(scenes: Scenes, latents: Tensor, ceilings: Tensor | None) -> NoisedBatch:
    count = len(latents)
    everywhere = torch.ones(count, dtype=torch.bool)
    return NoisedBatch(
        latents, scenes.targets, torch.zeros_like(latents), torch.zeros(count).long(),
        scenes.boxes, scenes.texts, None, everywhere, ~everywhere, region_ceilings=ceilings,
    )  # fmt: skip


def cosine_of(objective: RegionInContextObjective, scenes: Scenes, latents: Tensor) -> float:
    nothing = torch.zeros_like(latents)
    with torch.no_grad():
        losses = objective(nothing, batch_of(scenes, latents, None), len(latents))
    return losses.region_cosine.item()


def walk(
    objective: RegionInContextObjective,
    scenes: Scenes,
    latents: Tensor,
    ceilings: Tensor | None = None,
    steps: int = STEPS,
) -> Tensor:
    """Take steps of one length down the region loss; return the latents that they lead to."""
    for _ in range(steps):
        latents = latents.detach().requires_grad_()
        nothing = torch.zeros_like(latents)
        objective(nothing, batch_of(scenes, latents, ceilings), len(latents)).total.backward()
        pull = latents.grad
        size = pull.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
        latents = latents - LENGTH * torch.where(size > 0, pull / size.clamp(min=1e-12), 0)
    return latents.detach()


def drift(
    objective: RegionInContextObjective, scenes: Scenes, latents: Tensor, start: Tensor
) -> float:
    """Mean absolute change outside both masks, of a range of 1."""
    with torch.no_grad():
        change = (decode(objective, latents) - start).abs() / 2
    return ((change * scenes.outside).sum() / (3 * scenes.outside.sum())).item()


@pytest.fixture(scope="module")
def ceilings(objective, scenes) -> Tensor:
    """The cosine of each decoded target with its text."""
    made = objective()
    with torch.no_grad():
        seen = made.region_encoder.encode_region(scenes.shown_targets, scenes.boxes)
        return torch.cosine_similarity(seen, scenes.texts)


@pytest.fixture(scope="module")
def as_printed(objective, scenes) -> Tensor:
    """Where the judge's gradient alone leads from the sources."""
    return walk(objective(), scenes, scenes.sources)


def test_as_printed_the_judge_is_pleased_beyond_the_target(objective, scenes, ceilings, as_printed):
    made = objective()
    before, after = (cosine_of(made, scenes, some) for some in (scenes.sources, as_printed))
    assert before < ceilings.mean() < after


def test_box_and_hinge_keep_the_drift_outside_to_a_third(objective, scenes, ceilings, as_printed):
    remedied = objective(AlignmentRules(region_gradient="box"))
    end = walk(remedied, scenes, scenes.sources, ceilings)
    printed = drift(remedied, scenes, as_printed, scenes.shown_sources)
    kept = drift(remedied, scenes, end, scenes.shown_sources)
    assert kept <= printed / 3
    assert cosine_of(remedied, scenes, end) > cosine_of(remedied, scenes, scenes.sources)


def test_started_at_the_target_the_hinge_stays_there(objective, scenes, ceilings):
    made = objective()
    stayed = walk(made, scenes, scenes.targets, ceilings - 1e-4, steps=2)
    left = walk(made, scenes, scenes.targets, steps=2)
    assert torch.equal(stayed, scenes.targets)
    assert not torch.allclose(left, scenes.targets, atol=LENGTH / 2)
