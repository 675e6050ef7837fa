"""The embedded family as it is shipped: small, whole, in half precision, with honest cards."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import CLIPModel, CLIPTokenizer

from ric.config import EditConfig
from ric.data.drawn_scenes import SceneStream
from ric.method.region_encoder import RegionEncoder
from ric.method.scene_encoder import SceneEncoder
from ric.metrics.scene_labels import LABELS
from ric.metrics.scene_net import SceneNet
from ric.models.locate import locate
from ric.models.pipeline import load_pipeline
from ric.recipes.tiny import beginnings
from ric.recipes.tiny.assemble import MEMBERS
from ric.runs.open_run import open_run
from ric.weights.tiny_family import SHIPPED as FAMILY
from ric.weights.tiny_family import tiny_family as family_in_use

MEGABYTE = 1_000_000


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def weights() -> list[Path]:
    return sorted(FAMILY.rglob("*.safetensors"))


def test_it_has_all_members_as_safetensors_and_none_as_a_pickle():
    assert {path.name for path in FAMILY.iterdir()} == set(MEMBERS)
    assert not [path for path in FAMILY.rglob("*") if path.suffix in (".bin", ".pt", ".ckpt")]
    for member in MEMBERS:
        assert list((FAMILY / member).rglob("*.safetensors")), member


def test_it_takes_60_megabytes_at_most():
    assert size(FAMILY) <= 60 * MEGABYTE


def test_its_unets_have_between_3_9_and_12_5_million_parameters():
    for member, channels in (("pipeline", 8), ("text_to_image", 4)):
        unet = load_pipeline(FAMILY / member, torch.device("cpu")).unet
        assert 3.9e6 <= sum(p.numel() for p in unet.parameters()) <= 12.5e6
        assert unet.config.in_channels == channels


def test_it_is_stored_in_half_precision_and_used_as_float32():
    for file in weights():
        with safe_open(file, "pt") as tensors:
            kinds = {tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118
        assert "F32" not in kinds, file
    pipeline = load_pipeline(FAMILY / "pipeline", torch.device("cpu"))
    loaded = [
        pipeline.unet,
        pipeline.vae,
        pipeline.text_encoder,
        SceneNet(FAMILY / "scene_classifier").model,
        RegionEncoder.from_pretrained(FAMILY / "region_encoder"),
        SceneEncoder.from_pretrained(FAMILY / "scene_encoder"),
    ]
    for model in loaded:
        assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_every_card_tells_data_steps_hours_and_machine():
    for member in MEMBERS:
        card = (FAMILY / member / "README.md").read_text()
        for words in ("- data: ", "- steps: ", " hours on ", "drawn scenes"):
            assert words in card, (member, words)


def test_the_editors_card_names_the_prior_and_the_scores():
    card = (FAMILY / "pipeline" / "README.md").read_text()
    assert "sha256 of its UNet" in card
    for words in ("edit_success", "l1_gain", "psnr_preserved", "Identity (source)", "Ground truth"):
        assert words in card


def test_no_file_of_it_names_a_place_on_the_machine_that_made_it():
    for file in FAMILY.rglob("*"):
        if file.suffix in (".json", ".md", ".txt"):
            text = file.read_text()
            assert "/work/" not in text, file
            assert "/home/" not in text, file
            assert "/root/" not in text, file


def test_no_end_token_is_2_the_id_at_which_clip_pools_elsewhere():
    places = ("clip", "region_encoder/clip", "pipeline/tokenizer", "text_to_image/tokenizer")
    for place in places:
        tokenizer = CLIPTokenizer.from_pretrained(FAMILY / place)
        assert tokenizer.eos_token_id != 2
        assert tokenizer.eos_token_id == max(tokenizer.get_vocab().values())
    config = json.loads((FAMILY / "clip" / "config.json").read_text())
    assert (
        config["text_config"]["eos_token_id"]
        == CLIPTokenizer.from_pretrained(FAMILY / "clip").eos_token_id
    )


def test_the_words_of_scenes_are_one_token_each_and_others_are_spelled():
    tokenizer = CLIPTokenizer.from_pretrained(FAMILY / "pipeline" / "tokenizer")
    for word in ("purple", "pyramid", "cylinder", "shadow", "left"):
        assert len(tokenizer(word).input_ids) == 3, word
    ids = tokenizer("zebra").input_ids
    assert len(ids) > 3
    assert tokenizer.decode(ids, skip_special_tokens=True).strip() == "zebra"


def test_the_classifier_says_what_its_outputs_stand_for():
    assert tuple(SceneNet(FAMILY / "scene_classifier").labels) == LABELS


def test_a_beginning_is_the_same_every_time_and_leaves_the_random_state_alone(
    tmp_path, monkeypatch
):
    # words of fewer scenes: drawing their edits takes longest
    monkeypatch.setattr(beginnings, "SceneStream", lambda **_: SceneStream(count=50, seed=0))
    before = torch.get_rng_state()
    for name in ("one", "two"):
        beginnings.write_beginnings(tmp_path / name)
    assert torch.equal(torch.get_rng_state(), before)
    for file in sorted((tmp_path / "one").rglob("*")):
        if file.is_file():
            other = tmp_path / "two" / file.relative_to(tmp_path / "one")
            assert file.read_bytes() == other.read_bytes(), file


# --- what a flag names -----------------------------------------------------------------------


def test_without_the_variable_the_shipped_family_is_used(monkeypatch, tiny_family):
    assert family_in_use() == tiny_family == Path(os.environ["RIC_TINY_FAMILY"])
    monkeypatch.delenv("RIC_TINY_FAMILY")
    assert family_in_use() == FAMILY


def test_tiny_names_the_member_that_the_flag_means_and_the_run_notes_it(tiny_family, tmp_path):
    run = open_run("edit", {}, runs_dir=tmp_path)
    assert locate(EditConfig(unet="tiny"), "unet", run) == tiny_family / "pipeline"
    assert run.record["weights"] == {"pipeline": {"id": "tiny", "revision": None}}


def test_a_run_names_its_artifact_and_becomes_a_parent(tmp_path):
    with open_run("train-unet", {}, runs_dir=tmp_path) as trained:
        (trained.path / "pipeline").mkdir()
    run = open_run("edit", {}, runs_dir=tmp_path)
    place = locate(EditConfig(unet="@train-unet"), "unet", run)
    assert place == trained.path / "pipeline"
    assert run.record["parents"] == ["../00001-train-unet"]


@pytest.mark.parametrize("member", ["clip", "region_encoder/clip"])
def test_its_clips_tell_texts_and_pictures_apart(member):
    model = CLIPModel.from_pretrained(FAMILY / member, dtype=torch.float32)
    tokenizer = CLIPTokenizer.from_pretrained(FAMILY / member)
    tokens = tokenizer(["a red ball", "a blue house"], return_tensors="pt", padding=True)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        out = model(**tokens, pixel_values=torch.randn(2, 3, 64, 64, generator=generator))
    assert not torch.allclose(out.text_embeds[0], out.text_embeds[1], atol=1e-3)
    assert not torch.allclose(out.image_embeds[0], out.image_embeds[1], atol=1e-3)
