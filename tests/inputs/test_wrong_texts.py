"""Texts that name a wrong attribute, and judges that learn to tell them from the right ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ric.config import FitBlipConfig, FitClipConfig
from ric.data.batches import to_unit
from ric.data.drawn_scenes import SceneStream
from ric.inputs.examples import Needs, load_examples
from ric.inputs.wrong_texts import ATTRIBUTES, wrong_text
from ric.method.region_encoder import RegionEncoder
from ric.method.scene_encoder import SceneEncoder
from ric.recipes.fit_blip import fit_blip
from ric.recipes.fit_clip import fit_clip
from ric.recipes.scenes import make_scenes
from ric.runs.open_run import open_run
from ric.work import open_work


@pytest.mark.parametrize(
    "text",
    [
        "A small red ball to the left of two glossy cubes.",
        "Red!",
        "the reddish ball behind the blackboard, before a WHITE wall",
    ],
)
def test_one_attribute_is_replaced_by_another_of_its_kind_and_nothing_else(text):
    rows = {word: row for row in ATTRIBUTES for word in row}
    seen = set()
    for number in range(60):
        wrong = wrong_text(text, 0, f"sample-{number}")
        was, now = text.split(), wrong.split()
        ((old, new),) = ((a, b) for a, b in zip(was, now, strict=True) if a != b)
        old, new = (word.strip("!.,").lower() for word in (old, new))
        assert new in rows[old]
        seen.add(old)
        assert wrong[0].isupper() == text[0].isupper()
    named = {word for word in (one.strip("!.,").lower() for one in text.split()) if word in rows}
    assert seen == named


def test_a_wrong_text_is_a_function_of_seed_and_name():
    text = "a small red ball"
    many = [wrong_text(text, 0, f"{n}") for n in range(40)]
    assert many == [wrong_text(text, 0, f"{n}") for n in range(40)]
    assert many != [wrong_text(text, 1, f"{n}") for n in range(40)]
    assert len(set(many)) > 5


@pytest.mark.parametrize("text", ["", "a ball", "redo the background", "twofold", "\n"])
def test_a_text_without_an_attribute_has_no_wrong_one(text):
    assert wrong_text(text, 0, "a") is None


@pytest.mark.parametrize("command", ["fit-clip", "fit-blip"])
def test_the_first_loss_counts_the_wrong_texts_beside_each_picture(
    command, tiny, follow, tiny_family, tmp_path, metrics_of
):
    make_scenes(tmp_path / "scenes", SceneStream(count=20, size=64, seed=3), workers=1)
    kind, recipe, epochs = {
        "fit-clip": (FitClipConfig, fit_clip, {"fusion_epochs": 0, "joint_epochs": 1}),
        "fit-blip": (FitBlipConfig, fit_blip, {"epochs": 1}),
    }[command]
    settings = {"split": "all", "limit": 12, "batch_size": 12, "log_every": 1, **epochs}
    config: Any = tiny(kind, tmp_path / "scenes", **settings, attribute_negatives=True)
    rows = metrics_of(follow(recipe, config, tmp_path / "run"))
    with open_run(command, {}, runs_dir=tmp_path) as run:
        needs = Needs(64, region_text="region_text")
        items = load_examples(config, open_work(config, run), "all", needs)
    pictures = to_unit(torch.stack([item.target for item in items]))
    with torch.no_grad():
        if command == "fit-clip":
            texts = [item.region_text for item in items]
            region = RegionEncoder.from_clip(tiny_family / "clip")
            visual = region.encode_region(pictures, [item.box for item in items])
            encode = region.encode_text
        else:
            texts = [item.scene_text for item in items]
            scene = SceneEncoder.from_blip(tiny_family / "scene_encoder" / "blip")
            visual, encode = scene.encode_image(pictures), scene.encode_text
        wrongs = [
            wrong_text(text, config.seed, item.id) for text, item in zip(texts, items, strict=True)
        ]
        text, wrong = encode(texts), encode([one or "" for one in wrongs])
    z, t, w = (one / one.norm(dim=1, keepdim=True) for one in (visual, text, wrong))
    near, own = (z @ t.T / 0.07).exp(), ((z * w).sum(dim=1) / 0.07).exp()
    total = plain = 0.0
    for k, one in enumerate(wrongs):
        of_text = (near[k, k] / near[:, k].sum()).log().item()
        total -= of_text + (near[k, k] / (near[k].sum() + (one is not None) * own[k])).log().item()
        plain -= of_text + (near[k, k] / near[k].sum()).log().item()
    assert rows[1]["loss"] == pytest.approx(total / (2 * len(items)), rel=1e-4)
    assert total > plain + 1e-2
    has_one = torch.tensor([one is not None for one in wrongs])
    closer = (z * t).sum(dim=1) > (z * w).sum(dim=1)
    assert rows[0]["all_above_wrong_text"] == pytest.approx(closer[has_one].float().mean().item())
