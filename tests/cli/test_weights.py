"""`ric weights`: the table, getting, checking and converting, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ric.weights import WEIGHTS, size_in_words

CLIP = "openai/clip-vit-base-patch16"


@pytest.fixture(autouse=True)
def empty_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No weight is on this machine, and no network is asked."""
    for name in ("HF_HOME", "XDG_CACHE_HOME", "TORCH_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def clip_here(tmp_path: Path) -> Path:
    """CLIP as a folder of `--weights DIR`."""
    folder = tmp_path / "weights" / CLIP.replace("/", "--")
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "clip"}')
    save_file({"a": torch.zeros(4)}, folder / "model.safetensors")
    return folder


def test_ls_names_id_licence_and_whether_it_is_here(ric, clip_here):
    said = ric("weights", "ls", "--for", "fit-clip", "--weights", "weights")
    assert said.code == 0
    (row,) = [line for line in said.out.splitlines() if CLIP in line]
    assert "present" in row
    assert "missing" in next(line for line in ric("weights", "ls").out.splitlines() if CLIP in line)


def test_for_reproduce_the_weights_are_those_of_the_paper_s_tables_and_their_sizes_are_summed(ric):
    said = ric("weights", "ls", "--for", "reproduce", "--json")
    ids = {row["id"] for row in json.loads(said.out)["weights"]}
    assert ids == {
        "deepseek-ai/deepseek-vl2-tiny", CLIP, "Salesforce/blip-itm-base-coco",
        "timbrooks/instruct-pix2pix", "vinesmsuic/magicbrush-jul7", "facebook/sam-vit-huge",
        "CompVis/stable-diffusion-v1-4", "openai/clip-vit-base-patch32", "facebook/dino-vits16",
        "inception-2015-12-05", "lpips-alex", "lpips-squeeze",
    }  # fmt: skip
    sizes = [weight.size_bytes for weight in WEIGHTS if weight.id in ids]
    told = ric("weights", "ls", "--for", "reproduce").out
    total = size_in_words(sum(sizes))
    assert f"{len(ids)} weights, {total}: {total} of them missing." in told
    assert "BryanW/HumanEdit: 16.4 GB, downloaded by the first command." in told


def test_ls_shortens_commits_and_no_branch(ric, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    words = ric("weights", "ls").out.split()
    for weight in WEIGHTS:
        is_commit = len(weight.revision) == 40
        assert not weight.revision or weight.revision[: 8 if is_commit else None] in words
        assert not (is_commit and weight.revision in words)
    assert "refs/pr/5" in words
    assert "refs/pr/32" in words


def test_ls_says_which_weights_come_from_a_branch_and_not_from_a_commit(ric):
    told = ric("weights", "ls").out.splitlines()[-1]
    assert told.startswith("Fetched from a branch, whose commit is not known: ")
    named = told.partition(": ")[2].partition(". ")[0].split(", ")
    rows = json.loads(ric("weights", "ls", "--json").out)["weights"]
    assert named == [row["id"] for row in rows if row["revision"][:4] in ("main", "refs")]
    assert "branch" not in ric("weights", "ls", "--for", "fit-clip").out


def test_ls_as_json_is_one_object(ric, clip_here):
    rows = json.loads(ric("weights", "ls", "--weights", "weights", "--json").out)["weights"]
    here = {row["id"]: row["place"] for row in rows if row["present"]}
    assert here[CLIP] == str(Path("weights") / clip_here.name)
    assert all(row["licence"] and row["size"] and row["commands"] for row in rows if row["runs"])


def test_a_model_that_this_version_does_not_run_is_marked_and_not_fetched(ric):
    larger = ["deepseek-ai/deepseek-vl2-small", "deepseek-ai/deepseek-vl2"]
    rows = json.loads(ric("weights", "ls", "--for", "describe", "--json").out)["weights"]
    assert [row["id"] for row in rows if not row["runs"]] == larger
    lines = ric("weights", "ls", "--for", "describe").out.splitlines()
    marked = [line for line in lines if "not run by this version" in line]
    assert [name in line for name, line in zip(larger, marked, strict=True)] == [True, True]
    assert "not run" not in ric("weights", "ls", "--for", "edit").out
    said = ric("weights", "get", larger[0])
    assert said.code == 1
    assert "only DeepSeek-VL2-Tiny is run" in said.err


def test_an_unknown_command_lists_the_known_ones(ric):
    for verb in ("ls", "get", "check"):
        said = ric("weights", verb, "--for", "paint")
        assert said.code == 1
        assert "No weight is needed by 'paint'." in said.err
        assert (
            "Try one of: describe, edit, eval, fit-blip, fit-clip, train-unet, reproduce."
            in said.err
        )


def test_get_prints_where_a_weight_lies(ric, clip_here):
    place = str(Path("weights") / clip_here.name)
    assert ric("weights", "get", CLIP, "--weights", "weights").out == f"{place}\n"
    said = ric("weights", "get", CLIP, "--weights", "weights", "--json")
    assert json.loads(said.out) == {"places": {CLIP: place}}


def test_get_of_what_ships_with_ric_says_so(ric):
    said = ric("weights", "get", "tiny")
    assert (said.code, said.out) == (0, "")
    assert said.err == "tiny comes with ric: there is nothing to get.\n"


def test_get_of_what_cannot_be_had_is_1(ric):
    said = ric("weights", "get", CLIP)
    assert (said.code, said.out) == (1, "")
    assert f"{CLIP} (about 602 MB) is not on this machine" in said.err
    said = ric("weights", "get", "org/unknown")
    assert "No weight 'org/unknown' in the table." in said.err
    assert "ric weights ls; get any other by: hf download org/unknown" in said.err


def test_check_calls_a_whole_weight_whole(ric, clip_here):
    said = ric("weights", "check", "--weights", "weights")
    assert (said.code, said.out) == (0, f"{CLIP}: whole\n")
    said = ric("weights", "check", "--weights", "weights", "--json")
    assert json.loads(said.out) == {"problems": {CLIP: []}}


def test_check_of_nothing_says_so(ric):
    said = ric("weights", "check")
    assert (said.code, said.out) == (0, "")
    assert said.err == "None of these weights is on this machine.\n"


def test_check_names_a_broken_weight_and_is_1(ric, clip_here):
    file = clip_here / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    said = ric("weights", "check", "--weights", "weights", "--json")
    problems = json.loads(said.out)["problems"]
    assert said.code == 1
    assert "model.safetensors" in problems[CLIP][0]
    assert f"1 of 1 weights are broken: {CLIP}." in said.err


def test_convert_keeps_the_tensors_of_a_pickle(ric, tmp_path):
    torch.save({"state_dict": {"w": torch.arange(3.0)}, "epoch": 7}, tmp_path / "model.ckpt")
    said = ric("weights", "convert", "model.ckpt", "model.safetensors", "--json")
    assert said.code == 0, said.err
    told = json.loads(said.out)
    assert (told["file"], told["tensors"]) == ("model.safetensors", 1)
    (tensor,) = load_file(tmp_path / "model.safetensors").values()
    assert torch.equal(tensor, torch.arange(3.0))
    said = ric("weights", "convert", "model.ckpt", "again.safetensors")
    assert said.out == "again.safetensors\n"
    assert "1 tensors kept" in said.err


def test_convert_makes_a_folder_that_can_be_loaded_of_one_of_pickles(ric, tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old/config.json").write_text("{}")
    torch.save({"w": torch.arange(3.0)}, tmp_path / "old/pytorch_model.bin")
    said = ric("weights", "convert", "old", "new")
    assert (said.code, said.out) == (0, "new\n")
    assert torch.equal(load_file(tmp_path / "new/model.safetensors")["w"], torch.arange(3.0))
    assert sorted(file.name for file in (tmp_path / "old").iterdir()) == [
        "config.json",
        "pytorch_model.bin",
    ]
    assert "new already exists" in ric("weights", "convert", "old", "new").err
    assert "holds nothing to convert" in ric("weights", "convert", "new", "newer").err
