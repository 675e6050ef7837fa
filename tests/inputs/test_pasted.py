"""Regions pasted into their sources, and judges that are fitted to tell them from targets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ric.config import FitBlipConfig, FitClipConfig
from ric.data.batches import to_unit
from ric.data.drawn_scenes import SceneStream
from ric.inputs.examples import Example, Needs, load_examples
from ric.inputs.pasted import pasted, surroundings_change
from ric.method.region_encoder import RegionEncoder
from ric.method.scene_encoder import SceneEncoder
from ric.recipes.fit_blip import fit_blip
from ric.recipes.fit_clip import fit_clip
from ric.recipes.scenes import make_scenes
from ric.runs.open_run import open_run
from ric.work import open_work


@pytest.fixture
def example() -> Example:
    source = torch.full((3, 32, 32), 200, dtype=torch.uint8)
    target = source.clone()
    target[:, 8:20, 10:18] = 30
    return Example("a", "a", "x", source, target, (10, 8, 18, 20), "a", "b")


def test_the_pasted_picture_is_the_target_in_the_box_and_the_source_around_it(example):
    shadow = example.target.clone()
    shadow[:, 20:28, 10:18] = 90
    item = replace(example, target=shadow)
    picture = pasted(item)
    assert torch.equal(picture[:, 8:20, 10:18], shadow[:, 8:20, 10:18])
    outside = torch.ones(32, 32, dtype=torch.bool)
    outside[8:20, 10:18] = False
    assert torch.equal(picture[:, outside], item.source[:, outside])
    assert surroundings_change(item)


def test_where_only_the_region_changed_the_pasted_picture_is_the_target_and_does_not_count(example):
    assert torch.equal(pasted(example), example.target)
    assert not surroundings_change(example)
    noisy = (example.target.short() + torch.randint(-8, 9, (3, 32, 32))).clamp(0, 255)
    assert not surroundings_change(replace(example, target=noisy.to(torch.uint8)))
    for lacking in (replace(example, box=None), replace(example, source=None)):
        assert torch.equal(pasted(lacking), lacking.target)
        assert not surroundings_change(lacking)


def eq_11(visual: Tensor, text: Tensor, negative: Tensor, counts: list[bool]) -> float:
    """Eq. 11 term by term, of texts that all differ, with further negatives of their own texts."""
    z, t, s = (rows / rows.norm(dim=1, keepdim=True) for rows in (visual, text, negative))
    near, own = (z @ t.T / 0.07).exp(), ((s * t).sum(dim=1) / 0.07).exp()
    total = 0.0
    for k in range(len(z)):
        total -= (near[k, k] / near[k].sum()).log().item()
        total -= (near[k, k] / (near[:, k].sum() + counts[k] * own[k])).log().item()
    return total / (2 * len(z))


@pytest.mark.parametrize("command", ["fit-clip", "fit-blip"])
def test_the_first_loss_counts_the_pasted_pictures_whose_surroundings_change(
    command, tiny, follow, tiny_family, tmp_path, metrics_of
):
    make_scenes(tmp_path / "scenes", SceneStream(count=30, size=64, seed=3), workers=1)
    kind, recipe, epochs = {
        "fit-clip": (FitClipConfig, fit_clip, {"fusion_epochs": 0, "joint_epochs": 1}),
        "fit-blip": (FitBlipConfig, fit_blip, {"epochs": 1}),
    }[command]
    settings = {"split": "all", "limit": 16, "batch_size": 16, "log_every": 1, **epochs}
    config: Any = tiny(kind, tmp_path / "scenes", **settings, pasted_negatives=True)
    rows = metrics_of(follow(recipe, config, tmp_path / "run"))
    with open_run(command, {}, runs_dir=tmp_path) as run:
        needs = Needs(64, region_text="region_text")
        items = load_examples(config, open_work(config, run), "all", needs)
    both = [
        to_unit(torch.stack([make(item) for item in items]))
        for make in (lambda item: item.target, pasted)
    ]
    with torch.no_grad():
        if command == "fit-clip":
            region = RegionEncoder.from_clip(tiny_family / "clip")
            boxes = [item.box for item in items]
            visual, negative = (region.encode_region(one, boxes) for one in both)
            text = region.encode_text([item.region_text for item in items])
        else:
            scene = SceneEncoder.from_blip(tiny_family / "scene_encoder" / "blip")
            visual, negative = (scene.encode_image(one) for one in both)
            text = scene.encode_text([item.scene_text for item in items])
    counts = [surroundings_change(item) for item in items]
    assert 0 < sum(counts) < len(counts)
    expected = eq_11(visual, text, negative, counts)
    assert rows[1]["loss"] == pytest.approx(expected, rel=1e-4)
    assert expected > eq_11(visual, text, negative, [False] * len(counts)) + 1e-3
    cosines = [torch.cosine_similarity(one, text)[counts] for one in (visual, negative)]
    share = (cosines[0] > cosines[1]).float().mean().item()
    assert rows[0]["all_above_pasted"] == pytest.approx(share)
