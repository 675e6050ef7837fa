"""The stand-in for Inception and LPIPS, against its ResNet called by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ResNetForImageClassification

from ric.errors import RicError
from ric.metrics.scene_net import SceneNet
from ric.scenes.settings import PLACES


@pytest.fixture(scope="module")
def folder(tiny_family):
    return tiny_family / "scene_classifier"


@pytest.fixture(scope="module")
def scene_net(folder) -> SceneNet:
    return SceneNet(folder)


@torch.no_grad()
def by_hand(folder, image: Image.Image):
    pixels = np.array(image.resize((64, 64), Image.Resampling.BICUBIC)) / 127.5 - 1
    model = ResNetForImageClassification.from_pretrained(folder, dtype=torch.float32)
    tensor = torch.from_numpy(pixels).float().permute(2, 0, 1)[None]
    return model(tensor, output_hidden_states=True)


def test_logits_are_the_models_called_by_hand(scene_net, folder, draw):
    theirs = by_hand(folder, draw(0)).logits
    torch.testing.assert_close(scene_net.logits([draw(0)]), theirs, atol=1e-5, rtol=0)


def test_is_is_fed_the_places_alone_for_its_labels_must_exclude_one_another(
    scene_net, folder, draw
):
    outputs = scene_net.set_features([draw(0)])
    assert scene_net.labels[: len(PLACES)] == [f"place: {place}" for place in PLACES]
    theirs = by_hand(folder, draw(0)).logits[:, : len(PLACES)]
    torch.testing.assert_close(outputs.logits, theirs, atol=1e-5, rtol=0)


def test_in_dinos_place_it_gives_pooled_features_of_length_1(scene_net, folder, draw):
    theirs = by_hand(folder, draw(0)).hidden_states[-1].mean(dim=(2, 3))
    ours = scene_net.image_embeddings([draw(0)])
    torch.testing.assert_close(ours, theirs / theirs.norm(), atol=1e-5, rtol=0)


def test_features_are_the_mean_of_the_last_stage(scene_net, folder, draw):
    theirs = by_hand(folder, draw(0)).hidden_states[-1].mean(dim=(2, 3))
    outputs = scene_net.set_features([draw(0)])
    torch.testing.assert_close(outputs.features, theirs, atol=1e-5, rtol=0)


def test_distance_is_the_formula_written_out(scene_net, folder, draw):
    total = 0.0
    stages = (by_hand(folder, draw(seed)).hidden_states for seed in (0, 1))
    for a, b in zip(*stages, strict=True):
        _, _, height, width = a.shape
        for y in range(height):
            for x in range(width):
                ours = a[0, :, y, x] / a[0, :, y, x].norm().clamp_min(1e-12)
                theirs = b[0, :, y, x] / b[0, :, y, x].norm().clamp_min(1e-12)
                total += ((ours - theirs) ** 2).sum().item() / (height * width)
    assert scene_net.distances([draw(0)], [draw(1)]).item() == pytest.approx(total, rel=1e-4)
    assert total > 0.01


def test_a_picture_is_at_no_distance_from_itself(scene_net, draw):
    assert scene_net.distances([draw(0)], [draw(0).copy()]).item() == pytest.approx(0, abs=1e-9)


def test_its_scores_carry_its_name(scene_net):
    assert scene_net.kind == scene_net.marker == "scene-net"


def test_a_folder_of_another_model_is_refused(tiny_family):
    with pytest.raises(RicError, match="ResNetForImageClassification"):
        SceneNet(tiny_family / "dino")


@pytest.mark.parametrize("label", [None, 3, 1.5, ["kind: ball"]])
def test_a_label_that_is_no_text_is_one_line(tiny_family, tmp_path, label):
    folder = Path(shutil.copytree(tiny_family / "scene_classifier", tmp_path / "net"))
    config = json.loads((folder / "config.json").read_text())
    config["id2label"]["3"] = label
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(RicError, match=r"labels in id2label|Cannot load"):
        SceneNet(folder)
