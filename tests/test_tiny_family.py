"""The tiny family: real classes in their ordinary layout, the same on every machine, built once."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from transformers import CLIPModel, CLIPTokenizer

import ric.tiny_family
from ric.errors import RicError
from ric.models import locate_model
from ric.run_dir import open_run
from ric.tiny_family import build_tiny_family
from ric.tiny_family import tiny_family as family_on_disk

MEMBERS = {
    "region_clip", "scene_blip", "captioner", "pipeline", "text_to_image", "dino",
    "scene_classifier",
}  # fmt: skip


def fingerprints(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_it_has_all_members_as_safetensors_and_none_as_a_pickle(tiny_family):
    assert {path.name for path in tiny_family.iterdir()} == MEMBERS
    assert not [path for path in tiny_family.rglob("*") if path.suffix in (".bin", ".pt", ".ckpt")]
    for member in MEMBERS:
        assert list((tiny_family / member).rglob("*.safetensors")), member


def test_building_it_again_gives_the_same_bytes_and_leaves_the_random_state_alone(
    tiny_family, tmp_path
):
    before = torch.get_rng_state()
    again = build_tiny_family(tmp_path / "again")
    assert torch.equal(torch.get_rng_state(), before)
    assert fingerprints(again) == fingerprints(tiny_family)


def test_no_end_token_is_2_the_id_at_which_clip_pools_elsewhere(tiny_family):
    for place in ("region_clip", "pipeline/tokenizer", "text_to_image/tokenizer"):
        tokenizer = CLIPTokenizer.from_pretrained(tiny_family / place)
        assert tokenizer.eos_token_id != 2
        assert tokenizer.eos_token_id == max(tokenizer.get_vocab().values())
    config = json.loads((tiny_family / "clip" / "config.json").read_text())
    assert config["text_config"]["eos_token_id"] == tokenizer.eos_token_id


def test_its_clip_tells_texts_and_pictures_apart(tiny_family):
    model = CLIPModel.from_pretrained(tiny_family / "clip")
    tokenizer = CLIPTokenizer.from_pretrained(tiny_family / "clip")
    tokens = tokenizer(["a red ball", "a blue house"], return_tensors="pt", padding=True)
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randn(2, 3, 64, 64, generator=generator)
    with torch.no_grad():
        out = model(**tokens, pixel_values=pictures)
    assert out.text_embeds.shape == out.image_embeds.shape == (2, 64)
    assert not torch.allclose(out.text_embeds[0], out.text_embeds[1], atol=1e-3)
    assert not torch.allclose(out.image_embeds[0], out.image_embeds[1], atol=1e-3)


def test_it_is_built_once_and_found_again(tiny_family, monkeypatch, tmp_path):
    built = []

    def build(folder: Path) -> Path:
        built.append(folder)
        (folder / "region_clip").mkdir()
        return folder

    monkeypatch.setenv("RIC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(ric.tiny_family, "build_tiny_family", build)
    first = family_on_disk()
    assert family_on_disk() == first
    assert len(built) == 1
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [first.name]


def test_a_build_that_fails_leaves_nothing_that_looks_whole(monkeypatch, tmp_path):
    def fail(folder: Path) -> Path:
        (folder / "region_clip").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setenv("RIC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(ric.tiny_family, "build_tiny_family", fail)
    with pytest.raises(KeyboardInterrupt):
        family_on_disk()
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_that_cannot_be_written_names_the_variable(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("RIC_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(RicError, match="Cannot build the tiny model family in") as raised:
        family_on_disk()
    assert raised.value.hint == "Point RIC_CACHE_DIR at a folder that can be written."


# --- what a flag names -----------------------------------------------------------------------


def test_tiny_names_the_member_that_the_flag_means_and_the_run_notes_it(tiny_family, tmp_path):
    run = open_run("edit", {}, runs_dir=tmp_path)
    assert locate_model("tiny", run, tiny="pipeline").name == "pipeline"
    assert run.record["weights"] == {"pipeline": {"id": "tiny", "revision": None}}


def test_a_run_names_its_artifact_and_becomes_a_parent(tmp_path):
    with open_run("train-unet", {}, runs_dir=tmp_path) as trained:
        (trained.path / "pipeline").mkdir()
    run = open_run("edit", {}, runs_dir=tmp_path)
    place = locate_model("@train-unet", run, tiny="pipeline", artifact="pipeline")
    assert place == trained.path / "pipeline"
    assert run.record["parents"] == ["../00001-train-unet"]
