"""`ric verify`: it finds ric equal to the libraries, and says so where it is not."""

from __future__ import annotations

import json
import shutil

import benchmark_folders as made
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel

from ric.editors.instruct_pix2pix import InstructPix2Pix
from ric.errors import RicError
from ric.metrics.inception import InceptionFeatures
from ric.metrics.lpips_distance import LpipsDistance
from ric.recipes.verify import CHECKS, Asked, verify
from ric.weights.table import find_weight


@pytest.fixture(scope="module")
def nothing_cached(tmp_path_factory):
    """Caches without any weight."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_HOME", "TORCH_HOME"):
            patch.setenv(name, str(tmp_path_factory.mktemp("empty")))
        for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="module")
def weights(tmp_path_factory, inception_weights, alexnet_weights, nothing_cached) -> Asked:
    """Random weights under the published files' names."""
    folder = tmp_path_factory.mktemp("weights")
    shutil.copy(inception_weights, folder / find_weight("inception-2015-12-05").file_name)
    shutil.copy(alexnet_weights, folder / find_weight("lpips-alex").file_name)
    return Asked(preset="tiny", weights=str(folder))


def test_an_edit_by_the_embedded_pipeline_equals_diffusers_and_a_changed_one_does_not(
    nothing_cached, monkeypatch
):
    (outcome,) = verify(Asked(preset="tiny"), ("edit-ip2p",))
    assert (outcome.result, outcome.skipped) == ("equal", "")

    def mirrored(self, requests, *rest):
        return [Image.fromarray(np.asarray(request.image)[:, ::-1]) for request in requests]

    monkeypatch.setattr(InstructPix2Pix, "edit", mirrored)
    (outcome,) = verify(Asked(preset="tiny"), ("edit-ip2p",))
    assert outcome.result == "differs"


@pytest.mark.parametrize("name", [pytest.param("clean-fid", marks=pytest.mark.slow), "lpips"])
def test_a_score_equals_the_librarys_and_one_of_blurred_pictures_does_not(
    weights, monkeypatch, name
):
    (outcome,) = verify(weights, (name,))
    assert outcome.result == "equal", outcome
    assert float(outcome.compared[0].theirs) > 0.001
    if name == "lpips":
        right = LpipsDistance.distances
        wrong = lambda self, edited, reference: right(self, edited, reference) * 1.001  # noqa: E731
        monkeypatch.setattr(LpipsDistance, "distances", wrong)
    else:
        read = InceptionFeatures.prepare
        small = lambda self, image: read(self, image.resize((99, 99)))  # noqa: E731
        monkeypatch.setattr(InceptionFeatures, "prepare", small)
    (outcome,) = verify(weights, (name,))
    assert outcome.result == "differs"


@pytest.mark.slow  # a root of a general matrix of 2048 x 2048
def test_fid_and_is_equal_torch_fidelitys(weights):
    (outcome,) = verify(weights, ("torch-fidelity",))
    assert (outcome.result, len(outcome.compared)) == ("equal", 2), outcome


def test_without_weights_a_check_is_skipped_and_with_broken_ones_it_fails(nothing_cached, tmp_path):
    outcomes = verify(Asked(weights=str(tmp_path)))
    assert [one.result for one in outcomes] == ["skipped"] * len(CHECKS)
    assert outcomes[0].skipped == (
        "timbrooks/instruct-pix2pix is not on this machine: ric weights get"
        " timbrooks/instruct-pix2pix"
    )
    torch.save({"features.0.weight": torch.zeros(2)}, tmp_path / "alexnet-owt-7be5be79.pth")
    (outcome,) = verify(Asked(weights=str(tmp_path)), ("lpips",))
    assert outcome.failed
    assert "alexnet-owt-7be5be79.pth" in outcome.problem
    with pytest.raises(RicError, match="No check 'lpip'") as refused:
        verify(Asked(), ("lpip",))
    assert refused.value.hint.startswith("Did you mean lpips? ")


def test_magicbrush_s_oracle_is_the_mean_cosine_of_each_target_with_its_local_description(
    nothing_cached, clip_folder, tmp_path
):
    shutil.copytree(clip_folder, tmp_path / "openai" / "clip-vit-base-patch32")
    data = made.magicbrush(tmp_path / "test")
    asked = Asked(weights=str(tmp_path), magicbrush=str(data))
    (outcome,) = verify(asked, ("magicbrush-oracle",))
    assert outcome.result == "differs"  # three drawn scenes in a small CLIP

    model, told = CLIPModel.from_pretrained(clip_folder).eval(), {}
    tokenizer = AutoTokenizer.from_pretrained(clip_folder)
    processor = CLIPImageProcessor.from_pretrained(clip_folder)
    for of_one in json.loads((data / "local_descriptions.json").read_text()).values():
        told |= of_one
    cosine = {}
    for name in ("30-output1.png", "30-output2.png", "139-output1.png"):
        picture = Image.open(data / "images" / name.split("-")[0] / name).convert("RGB")
        with torch.no_grad():
            seen = model(
                **processor(picture, return_tensors="pt"),
                **tokenizer(told[name], return_tensors="pt"),
            )
        cosine[name] = torch.cosine_similarity(seen.image_embeds, seen.text_embeds).item()
    every, final = (float(one.ours) for one in outcome.compared)
    assert every == pytest.approx(np.mean([*cosine.values()]), abs=2e-4)
    del cosine["30-output1.png"]
    assert final == pytest.approx(np.mean([*cosine.values()]), abs=2e-4)
    assert abs(every - final) > 1e-3

    (data / "local_descriptions.json").unlink()
    (outcome,) = verify(asked, ("magicbrush-oracle",))
    assert outcome.problem.startswith("3 of 3 turns lack")


@pytest.mark.hub
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_on_the_published_weights(check):
    (outcome,) = verify(Asked(), (check.name,))
    if outcome.skipped:
        pytest.skip("the weights of this check are not on this machine")
    assert outcome.result == "equal", outcome
