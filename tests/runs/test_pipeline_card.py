"""A pipeline's card says what the hub asks for: licence, base and data set, where they have ids."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import ModelCardData

from ric.runs.artifacts import pipeline_card
from ric.runs.open_run import open_run
from ric.runs.run import RunDir


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return open_run("train-unet", {"split": "train", "lr": 1e-4}, runs_dir=tmp_path / "runs")


def head(run: RunDir, base: str, data: str) -> ModelCardData:
    run.record["data"] = {"name": data, "fingerprint": "0123456789abcdef0123"}
    return ModelCard(pipeline_card(run, base)).data


def test_the_papers_base_and_data_are_named_as_the_hub_names_them(run):
    card = head(run, "timbrooks/instruct-pix2pix", "BryanW/HumanEdit")
    assert card.base_model == "timbrooks/instruct-pix2pix"
    assert card.datasets == ["BryanW/HumanEdit"]
    assert card.license == "creativeml-openrail-m"
    assert card.library_name == "diffusers"
    assert card.pipeline_tag == "image-to-image"


@pytest.mark.parametrize("base", ["runs/00004-train-unet", "4", "@train-unet", "/models/mine: v2"])
def test_a_base_of_this_machine_is_no_model_of_the_hub_and_has_a_licence_of_its_own(
    run, base, tmp_path, monkeypatch
):
    (tmp_path / "runs/00004-train-unet").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    card = head(run, base, "scenes:160@64")
    assert card.base_model is None
    assert card.datasets is None
    assert (card.license, card.license_name) == ("other", "that-of-the-base")
    named = {"runs/00004-train-unet": "00004-train-unet", "/models/mine: v2": "mine: v2"}
    assert f"from {named.get(base, base)};" in pipeline_card(run, base)


def test_an_unlisted_base_of_the_hub_keeps_its_id(run):
    card = head(run, "someone/their-editor", "./edits")
    assert card.base_model == "someone/their-editor"
    assert card.license == "other"
    assert card.datasets is None


def test_what_comes_of_the_embedded_family_is_as_free_as_it(run):
    assert head(run, "tiny", "scenes:160").license == "apache-2.0"
    assert "- licence: Apache-2.0, as ric's own" in pipeline_card(run, "tiny")
