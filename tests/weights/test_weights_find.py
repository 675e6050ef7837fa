"""Where pretrained weights are found on this machine, and which copy is taken."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import ric
from ric.weights import check_weights, find_weight, is_present, resolve_weights, revision_of
from ric.weights.find import hub_cache

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "fedcba9876543210fedcba9876543210fedcba98"
IP2P = "timbrooks/instruct-pix2pix"
CLIP = "openai/clip-vit-base-patch16"


def test_a_local_folder_is_taken_as_it_is(tmp_path, model_folder):
    folder = model_folder(tmp_path / "mine")
    assert resolve_weights(str(folder)) == folder


@pytest.mark.parametrize("layout", ["openai--clip-vit-base-patch16", CLIP, CLIP.split("/")[1]])
def test_the_weights_folder_is_read_in_three_layouts(tmp_path, layout, model_folder):
    folder = model_folder(tmp_path / "w" / layout)
    assert resolve_weights(CLIP, weights_dir=tmp_path / "w") == folder


def test_the_weights_folder_comes_before_the_hubs_cache(tmp_path, hub, model_folder, snapshot):
    model_folder(snapshot(hub, CLIP, COMMIT))
    folder = model_folder(tmp_path / "w" / CLIP)
    assert resolve_weights(CLIP, weights_dir=str(tmp_path / "w")) == folder


def test_the_hubs_cache_is_found_through_its_main_branch(hub, model_folder, snapshot):
    folder = model_folder(snapshot(hub, "someone/model", COMMIT))
    assert resolve_weights("someone/model") == folder
    assert is_present(find_weight(CLIP)) is None


def test_the_pinned_revision_comes_before_main(hub, model_folder, snapshot):
    model_folder(snapshot(hub, CLIP, COMMIT))
    pinned = model_folder(snapshot(hub, CLIP, find_weight(CLIP).revision, branch=None))
    assert resolve_weights(CLIP) == pinned


def test_a_pull_request_branch_is_found_where_the_hub_keeps_its_ref(hub, model_folder, snapshot):
    blip = find_weight("Salesforce/blip-itm-base-coco")
    folder = model_folder(snapshot(hub, blip.id, COMMIT, branch=blip.revision))
    assert resolve_weights(blip.id) == folder


def test_any_whole_snapshot_is_better_than_a_broken_main(hub, model_folder, snapshot):
    broken = snapshot(hub, CLIP, COMMIT)
    (broken / "config.json").write_text("{}")
    whole = model_folder(snapshot(hub, CLIP, OTHER, branch=None))
    assert resolve_weights(CLIP) == whole
    assert is_present(find_weight(CLIP)) == whole


def test_hf_home_moves_the_hubs_cache(tmp_path, monkeypatch, model_folder, snapshot):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    folder = model_folder(snapshot(tmp_path / "home" / "hub", CLIP, COMMIT))
    assert resolve_weights(CLIP) == folder


def test_a_single_file_is_found_in_torchs_cache_by_id_and_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    file = tmp_path / "torch/hub/checkpoints/weights-inception-2015-12-05-6726825d.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x")
    assert resolve_weights("inception-2015-12-05") == file
    assert resolve_weights(file.name) == file
    assert resolve_weights(str(file)) == file


def test_a_pipeline_needs_its_models_but_not_the_safety_checker(hub, pipeline_folder, snapshot):
    folder = pipeline_folder(snapshot(hub, IP2P, COMMIT))
    assert resolve_weights(IP2P) == folder
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    assert is_present(find_weight(IP2P)) is None


@pytest.mark.parametrize("ending", ["", "Fast", "Pil"])
def test_what_only_processes_pictures_has_no_weights(ending, hub, pipeline_folder, snapshot):
    folder = pipeline_folder(snapshot(hub, IP2P, COMMIT))
    index = json.loads((folder / "model_index.json").read_text())
    index["feature_extractor"][-1] = f"CLIPImageProcessor{ending}"
    (folder / "model_index.json").write_text(json.dumps(index))
    assert resolve_weights(IP2P) == folder


def test_half_precision_copies_do_not_make_a_pipeline_whole(hub, pipeline_folder, snapshot):
    pipeline_folder(snapshot(hub, IP2P, COMMIT), "diffusion_pytorch_model.fp16.safetensors")
    assert is_present(find_weight(IP2P)) is None


def test_a_sharded_model_needs_every_shard(hub, safetensors_bytes, model_folder, snapshot):
    folder = model_folder(snapshot(hub, CLIP, COMMIT), "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    assert is_present(find_weight(CLIP)) is None
    assert check_weights(folder) == [f"{folder / shards['b']}: is missing"]
    (folder / shards["b"]).write_bytes(safetensors_bytes())
    assert is_present(find_weight(CLIP)) == folder
    assert check_weights(folder) == []


def test_a_blob_that_was_deleted_does_not_count(hub, snapshot):
    folder = snapshot(hub, CLIP, COMMIT)
    (folder / "model.safetensors").symlink_to("../../blobs/gone")
    assert is_present(find_weight(CLIP)) is None


def test_the_embedded_family_is_always_present():
    assert is_present(find_weight("tiny")) == Path(ric.__file__).parent


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", ""])
def test_the_hubs_own_client_looks_in_the_same_cache(monkeypatch, variable):
    if variable:
        monkeypatch.setenv(variable, "$HOME/here")
    code = "from huggingface_hub.constants import HF_HUB_CACHE; print(HF_HUB_CACHE)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert str(hub_cache()) == done.stdout.strip()


def test_the_revision_of_a_snapshot_is_its_commit(hub, tmp_path, pipeline_folder, snapshot):
    folder = pipeline_folder(snapshot(hub, IP2P, COMMIT))
    assert revision_of(folder) == COMMIT
    assert revision_of(folder / "unet") == COMMIT
    assert revision_of(tmp_path / "snapshots" / "mine") is None
