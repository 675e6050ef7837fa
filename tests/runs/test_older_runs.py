"""Runs that version 0.1.0 made are listed, read, taken as parents, and gone on with.

`fixtures/runs-0.1.0` holds what its six commands wrote on `scenes:60@64#5`, by an untrained family
and without weights, checkpoints and pictures of figures. `fixtures/fit-clip-0.1.0` and its two
siblings hold trainings of networks 16 numbers wide that were stopped half way, their bases, and
what 0.1.0 logged when it went on by itself.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from ric.config import (
    DescribeConfig,
    EditConfig,
    EvalConfig,
    FitBlipConfig,
    FitClipConfig,
    TrainUnetConfig,
    as_dict,
)
from ric.recipes.describe import describe
from ric.recipes.edit import edit
from ric.recipes.evaluate import evaluate
from ric.recipes.fit_blip import fit_blip
from ric.recipes.fit_clip import fit_clip
from ric.recipes.train_unet import train_unet
from ric.runs.open_run import open_run
from ric.runs.record import find_run, list_runs, parents_of, read_record
from ric.runs.rows import read_rows
from ric.runs.trained_on import trained_groups
from ric.settings import resolve_config
from ric_cli.main import main

MADE = Path(__file__).parents[1] / "fixtures" / "runs-0.1.0"
COMMANDS = ["describe", "fit-clip", "fit-blip", "train-unet", "edit", "eval"]
FEW = {"data": "scenes:60@64#5", "preset": "tiny", "device": "cpu", "limit": 3}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MADE, tmp_path / "runs"))


def interrupted(run: Path) -> Path:
    """Put a run back to before it was finished."""
    record = read_record(run) | {"status": "interrupted"}
    (run / "run.json").write_text(json.dumps(record))
    return run


def test_all_are_listed_and_shown(runs, monkeypatch, capsys):
    assert [record["command"] for _, record in list_runs(runs)] == COMMANDS
    for words in (["ls"], *(["show", str(number)] for number in range(1, 7))):
        monkeypatch.setattr(sys, "argv", ["ric", "runs", *words, "--runs-dir", str(runs)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code, words
        assert capsys.readouterr().out


def test_parents_and_what_was_trained_on_are_found(runs):
    trained = runs / "00004-train-unet"
    parents = parents_of(trained, read_record(trained))
    assert [path.name for path in parents] == ["00002-fit-clip", "00003-fit-blip"]
    listed = {row["group"] for row in read_rows(trained, "samples")}
    assert listed
    assert listed <= trained_groups(trained)
    assert find_run("@train-unet", runs) == trained


def test_a_description_that_was_left_is_written_and_the_others_stay(runs):
    run = interrupted(runs / "00001-describe")
    lines = (run / "descriptions.jsonl").read_text().splitlines()
    (run / "descriptions.jsonl").write_text("\n".join(lines[:2]) + "\n")
    config = resolve_config(
        DescribeConfig, FEW | {"dtype": "bf16", "split": "train", "describer": "dataset"}
    )
    with open_run("describe", as_dict(config), runs_dir=runs, run=run) as opened:
        describe(config, opened)
    again = [json.loads(line) for line in (run / "descriptions.jsonl").read_text().splitlines()]
    newer = [row for row in again if row.pop("what", None)]
    assert [row.pop("prompt", "") for row in newer] == [None] * (len(lines) - 2)
    assert sorted(again, key=lambda row: row["id"]) == sorted(
        map(json.loads, lines), key=lambda row: row["id"]
    )
    assert read_record(run)["status"] == "done"


def test_an_edit_that_was_left_is_made_and_the_others_stay(runs, tiny_family):
    run = interrupted(runs / "00005-edit")
    lines = (run / "edits.jsonl").read_text().splitlines()
    gone = json.loads(lines[-1])["id"]
    (run / "edits.jsonl").write_text("\n".join(lines[:-1]) + "\n")
    before = {path.name: path.read_bytes() for path in (run / "images").iterdir()}
    (run / "images" / f"{gone}.png").unlink()
    then = {"dtype": "bf16", "steps": 2, "guidance": 2.0, "image_guidance": 1.1}  # its defaults
    config = resolve_config(EditConfig, FEW | then)
    with open_run("edit", as_dict(config), runs_dir=runs, run=run) as opened:
        edit(config, opened)
    after = {path.name: path.read_bytes() for path in (run / "images").iterdir()}
    assert after.keys() == before.keys()
    assert all(after[name] == before[name] for name in before if name != f"{gone}.png")
    assert len((run / "edits.jsonl").read_text().splitlines()) == len(lines)


def test_edits_of_before_are_scored_as_they_were(runs, tiny_family, tmp_path):
    then = json.loads((runs / "00006-eval" / "scores.json").read_text())["editors"][0]["scores"]
    config = resolve_config(EvalConfig, FEW | {"edits": ("Ours=@edit",)})
    with open_run("eval", as_dict(config), runs_dir=runs) as run:
        now = {row.label: row for row in evaluate(config, run)}["Ours"]
    # those that need no network: the untrained family's numbers differ from one CPU to another
    for name in ("l1", "l2", "psnr_outside", "l1_inside", "region_error", "context_error"):
        assert now[name].value == pytest.approx(then[name]["value"], rel=1e-9), name


def test_a_scoring_that_was_left_ends_with_the_scores_of_before(runs, tiny_family):
    run = interrupted(runs / "00006-eval")
    then = json.loads((run / "scores.json").read_text())["editors"][0]["scores"]
    config = resolve_config(EvalConfig, FEW | {"edits": ("Ours=@edit",)})
    with open_run("eval", as_dict(config), runs_dir=runs, run=run) as opened:
        now = {row.label: row for row in evaluate(config, opened)}["Ours"]
    for name in ("l1", "l2", "psnr_outside", "region_error"):
        assert now[name].value == pytest.approx(then[name]["value"], rel=1e-9), name
    assert read_record(run)["status"] == "done"


# command: its config and recipe, what 0.1.0 was asked for, what it logged, what it made
STOPPED = {
    "fit-clip": (
        FitClipConfig,
        fit_clip,
        {"dtype": "bf16", "limit": 12, "clip": "clip", "num_heads": 2, "image_size": 64}
        | {"region_text": "instruction", "batch_size": 4, "fusion_epochs": 2, "joint_epochs": 2}
        | {"checkpoint_every": 1},
        {"steps": [6, 10, 12], "figures": ("loss", "grad_norm", "temperature")},
        # another CPU rounds bfloat16 products in another way, each to one in 256; steps add up
        {"rel": 1e-2, "made": "region_encoder/fusion.safetensors"},
    ),
    "fit-blip": (
        FitBlipConfig,
        fit_blip,
        {"dtype": "fp32", "limit": 12, "blip": "blip", "image_size": 32, "batch_size": 4}
        | {"epochs": 4, "max_text_tokens": 64, "checkpoint_every": 3, "log_every": 1},
        {"steps": [*range(1, 13)], "figures": ("loss", "grad_norm", "temperature")},
        {"rel": 1e-3, "made": "scene_encoder/blip/model.safetensors"},
    ),
    "train-unet": (
        TrainUnetConfig,
        train_unet,
        {"dtype": "fp32", "limit": 8, "base": "base", "region_clip": "region", "image_size": 32}
        | {"scene_blip": "scene", "steps": 6, "batch_size": 2, "region_text": "instruction"}
        | {"checkpoint_every": 2, "log_every": 1, "show_every": 0},
        {"steps": [*range(1, 7)], "figures": ("loss_noise", "loss_region", "loss_global")},
        {"rel": 1e-3, "made": "pipeline/unet/diffusion_pytorch_model.safetensors"},
    ),
}


@pytest.mark.parametrize("command", STOPPED)
def test_a_training_that_was_stopped_goes_on_as_it_would_have(command, tmp_path, monkeypatch):
    kind, recipe, settings, logged, result = STOPPED[command]
    shutil.copytree(MADE.with_name(f"{command}-0.1.0"), tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)  # its base is named by a relative path
    config = resolve_config(kind, {"data": "scenes:60@64#5", "device": "cpu", **settings})
    path = Path("run")
    with open_run(command, as_dict(config), runs_dir=tmp_path, run=path) as run:
        recipe(config, run)
    then, now = (
        {row["step"]: row for row in map(json.loads, file.read_text().splitlines())}
        for file in (tmp_path / "metrics_of_the_whole.jsonl", path / "metrics.jsonl")
    )
    assert [step for step in now if step] == logged["steps"]
    for step in logged["steps"]:
        for name in logged["figures"]:
            was = pytest.approx(then[step][name], rel=result["rel"])
            assert now[step][name] == was, (step, name)
    assert (path / result["made"]).is_file()
