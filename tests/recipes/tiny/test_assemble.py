"""Finished runs become a family: half precision, model cards, lineage."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from ric.config import TinyClassifierConfig, TinyPriorConfig
from ric.data.drawn_scenes import parse_scenes
from ric.errors import RicError
from ric.metrics.scene_net import SceneNet
from ric.recipes.tiny.assemble import assemble, halve, hours
from ric.recipes.tiny.classifier import train_classifier
from ric.recipes.tiny.prior import train_prior

DATA = "scenes:40#5"  # as conftest.py has it


@pytest.fixture(scope="module")
def classifier(settings, train, tmp_path_factory):
    config = settings(TinyClassifierConfig)
    return train(train_classifier, config, tmp_path_factory.mktemp("runs") / "classifier")


def test_weights_are_halved_and_counters_stay_whole_numbers(tmp_path):
    tensors = {"weight": torch.tensor([1.0, 1 / 3]), "count": torch.tensor(7)}
    save_file(tensors, tmp_path / "model.safetensors")
    halve(tmp_path / "model.safetensors")
    found = load_file(tmp_path / "model.safetensors")
    assert found["weight"].dtype == torch.float16
    assert torch.equal(found["weight"], tensors["weight"].half())
    assert torch.equal(found["count"], tensors["count"])


def test_a_number_too_large_for_half_precision_is_refused(tmp_path):
    save_file({"weight": torch.tensor([1e6])}, tmp_path / "model.safetensors")
    with pytest.raises(RicError, match=r"weight in .* does not fit into half precision"):
        halve(tmp_path / "model.safetensors")


def test_a_member_is_loaded_again_and_its_card_tells_how_it_was_made(classifier, tmp_path):
    scores = tmp_path / "scores.json"
    scores.write_text(json.dumps({"scene_classifier": {"success_of_exact_target": 0.97}}))
    family = assemble(tmp_path / "family", {"scene_classifier": classifier}, family_scores=scores)
    net = SceneNet(family / "scene_classifier")
    trained = load_file(classifier / "scene_classifier" / "model.safetensors")
    for name, weight in net.model.state_dict().items():
        torch.testing.assert_close(weight, trained[name].half().to(weight.dtype))
    card = (family / "scene_classifier" / "README.md").read_text()
    assert "by `ric tiny classifier`" in card
    trained_on = sum(1 for _ in parse_scenes(DATA).of_split("train"))
    assert f"- data: {trained_on} training samples" in card
    assert "- steps: 4, batch 4, " in card
    assert "| success_of_exact_target | 0.97 |" in card
    assert "| val_kind, on val |" in card


def test_a_family_is_replaced_as_a_whole_or_not_at_all(classifier, tmp_path):
    family = tmp_path / "family"
    (family / "old").mkdir(parents=True)
    with pytest.raises(RicError):
        assemble(family, {"clip": classifier})
    assert [path.name for path in family.iterdir()] == ["old"]
    assemble(family, {"scene_classifier": classifier})
    assert [path.name for path in family.iterdir()] == ["scene_classifier"]


def test_a_card_lists_all_runs_that_came_before_and_holds_no_path(
    settings, train, tiny_family, tmp_path
):
    first = train(train_prior, settings(TinyPriorConfig), tmp_path / "prior")
    second = train(train_prior, settings(TinyPriorConfig, base=str(first)), tmp_path / "editor-1")
    third = train(train_prior, settings(TinyPriorConfig, base=str(second)), tmp_path / "editor-2")
    rows = (third / "metrics.jsonl").read_text().splitlines()
    unknown = {**json.loads(rows[-1]), "val_context_at_999": None}  # it was not finite
    (third / "metrics.jsonl").write_text("\n".join([*rows[:-1], json.dumps(unknown)]) + "\n")
    family = assemble(tmp_path / "family", {"pipeline": third})
    card = (family / "pipeline" / "README.md").read_text()
    lines = [line for line in card.splitlines() if line.startswith("- made from: ")]
    assert [line.count("steps of `ric tiny prior`") for line in lines] == [1, 1]
    assert "val_loss, on val" in card
    assert "val_context_at_999" not in card
    for file in (family / "pipeline").rglob("*.json"):
        assert str(tmp_path) not in file.read_text()
        assert "_name_or_path" not in file.read_text()


def test_hours_add_up_over_the_logged_steps():
    rows = [
        {"step": 0},
        {"step": 10, "images_per_second": 4.0},
        {"step": 30, "images_per_second": 8.0},
    ]
    # 10 steps of 8 at 4 a second, 20 at 8
    assert hours(rows, {"batch_size": 8}) == pytest.approx((20 + 20) / 3600)
