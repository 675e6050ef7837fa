"""Runs that version 0.1.0 made are listed, read, taken as parents, and gone on with.

`fixtures/runs-0.1.0` holds what its six commands wrote on `scenes:60@64#5`, by an untrained family
and without weights, checkpoints and pictures of figures. `fixtures/fit-clip-0.1.0` holds a fit of
a judge 16 numbers wide that was stopped after step 9 of 12, its base, and what 0.1.0 logged when
it went on by itself.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from ric.config import DescribeConfig, EditConfig, EvalConfig, FitClipConfig, as_dict
from ric.recipes.describe import describe
from ric.recipes.edit import edit
from ric.recipes.evaluate import evaluate
from ric.recipes.fit_clip import fit_clip
from ric.runs.open_run import open_run
from ric.runs.record import find_run, list_runs, parents_of, read_record
from ric.runs.rows import read_rows
from ric.runs.trained_on import trained_groups
from ric.settings import resolve_config
from ric_cli.main import main

MADE = Path(__file__).parents[1] / "fixtures" / "runs-0.1.0"
STOPPED = MADE.with_name("fit-clip-0.1.0")
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


def test_a_fit_that_was_stopped_goes_on_as_it_would_have(tmp_path, monkeypatch):
    shutil.copytree(STOPPED, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)  # its base is named by a relative path
    config = resolve_config(
        FitClipConfig,
        {"data": "scenes:60@64#5", "device": "cpu", "limit": 12, "clip": "clip", "num_heads": 2}
        | {"dtype": "bf16"}
        | {"image_size": 64, "region_text": "instruction", "batch_size": 4}
        | {"fusion_epochs": 2, "joint_epochs": 2, "checkpoint_every": 1},
    )
    path = Path("run")
    with open_run("fit-clip", as_dict(config), runs_dir=tmp_path, run=path) as run:
        fit_clip(config, run)
    then, now = (
        [json.loads(line) for line in file.read_text().splitlines()]
        for file in (tmp_path / "metrics_of_the_whole.jsonl", path / "metrics.jsonl")
    )
    assert [row["step"] for row in now] == [0, 6, 10, 12]
    for before, after in zip(then[1:], now[1:], strict=True):  # the first is a measurement
        for name in ("loss", "grad_norm", "temperature"):
            # another CPU rounds its products in another way, each to one in 256; steps add up
            assert after[name] == pytest.approx(before[name], rel=1e-2), name
    assert (path / "region_encoder" / "fusion.safetensors").is_file()
