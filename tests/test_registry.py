"""Editors, describers and loss terms by name, and those that are added from outside the package."""

from __future__ import annotations

import json
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from ric.errors import RicError
from ric.registry import DESCRIBERS, EDITORS, LOSSES, load_part, needs_model
from ric_cli.main import main

TURNED = """
from PIL import ImageOps

class Turned:
    def __init__(self, model, config, device):
        assert model is None

    def edit(self, requests, between_steps=lambda: None):
        return [ImageOps.mirror(request.image) for request in requests]

    def describe(self):
        return {"turned": True}

class Brief:
    def __init__(self, model, config, device):
        pass

    def describe(self, sample):
        return f"A picture after: {sample.instruction}"

class Bright:
    def __init__(self, pipeline, decoder, config):
        assert pipeline.unet is not None
        self.most = config.image_size

    def __call__(self, pixels, batch):
        assert len(pixels) == len(batch.boxes)
        assert pixels.shape[-1] == self.most
        return 1 - pixels.mean(dim=(1, 2, 3))

class Hungry(Turned):
    needs_model = True

    def __init__(self, model, config, device):
        assert (model / "unet").is_dir()
"""


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    file = tmp_path / "my_parts.py"
    file.write_text(TURNED)
    return file


def ric(*words: object) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["ric", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("kind", "table"), [("editor", EDITORS), ("describer", DESCRIBERS), ("loss", LOSSES)]
)
def test_everything_in_the_tables_can_be_imported(kind, table):
    for name in table:
        assert callable(load_part(kind, name))


def test_an_editor_of_a_file_edits_a_data_set_and_is_scored(parts, tmp_path):
    few = ("--preset", "tiny", "--limit", 3, "--quiet")
    run = tmp_path / "edit"
    assert ric("edit", "scenes:60#5", "--editor", f"{parts}:Turned", *few, "--run", run) == 0
    rows = [json.loads(line) for line in (run / "edits.jsonl").read_text().splitlines()]
    assert len(rows) == 3
    assert all(row["turned"] and row["model"] is None for row in rows)
    record = json.loads((run / "run.json").read_text())
    assert "weights" not in record or "pipeline" not in record["weights"]
    scored = tmp_path / "eval"
    words = ("eval", f"Mine={run}", "--data", "scenes:60#5", *few, "--run", scored)
    assert ric(*words) == 0
    editors = json.loads((scored / "scores.json").read_text())["editors"]
    assert editors[0]["label"] == "Mine"


def test_a_describer_of_a_file_describes_a_data_set(parts, tmp_path):
    run = tmp_path / "describe"
    words = ("describe", "scenes:60#5", "--describer", f"{parts}:Brief", "--preset", "tiny")
    assert ric(*words, "--limit", 2, "--quiet", "--run", run) == 0
    rows = [json.loads(line) for line in (run / "descriptions.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    assert all(row["scene_text"].startswith("A picture after: ") for row in rows)


def test_a_loss_term_of_a_file_trains_a_unet_beside_the_papers_and_is_logged(parts, tmp_path):
    runs = {}
    for weight in (0, 5):
        runs[weight] = tmp_path / f"train-{weight}"
        words = ("train-unet", "scenes:60#5", "--preset", "tiny", "--limit", 4, "--batch-size", 2)
        terms = ("--loss", "outside=0.1", "--loss", f"{parts}:Bright={weight}")
        alone = ("--no-region-loss", "--no-global-loss", "--steps", 2, "--lr", "1e-3", "--quiet")
        assert ric(*words, *terms, *alone, "--run", runs[weight]) == 0
    first, weighed = (
        [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        for run in runs.values()
    )
    row = weighed[0]
    expected = row["loss_noise"] + 0.1 * row["loss_outside"] + 5 * row["loss_bright"]
    assert row["loss"] == pytest.approx(expected, rel=1e-5)
    assert row["grad_norm_bright"] > 0
    assert first[0]["loss_bright"] == row["loss_bright"]  # the same start
    assert first[1]["loss_bright"] != weighed[1]["loss_bright"]


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("outsde", "There is no loss 'outsde'"),
        ("outside=much", "--loss outside=much: its weight is not a number of 0 or more"),
        ("outside=-1", "--loss outside=-1: its weight is not a number of 0 or more"),
        ("my.py:Region", "there is a term 'region' already"),
    ],
)
def test_a_loss_term_that_cannot_be_is_told_by_the_dry_run(typed, message, capfd):
    words = ("train-unet", "scenes:60#5", "--preset", "tiny", "--loss", typed, "--dry-run")
    assert ric(*words) == 1
    assert message in " ".join("".join(capfd.readouterr()).split())


def test_one_that_wants_the_named_model_gets_it(parts, tmp_path):
    assert needs_model("editor", f"{parts}:Hungry")
    assert not needs_model("editor", f"{parts}:Turned")
    words = ("edit", "scenes:60#5", "--editor", f"{parts}:Hungry", "--preset", "tiny")
    assert ric(*words, "--limit", 1, "--quiet", "--run", tmp_path / "edit") == 0


def test_one_of_an_installed_module_is_found_by_its_place_and_by_its_entry_point(
    parts, monkeypatch
):
    monkeypatch.syspath_prepend(parts.parent)
    assert load_part("editor", "my_parts:Turned").__name__ == "Turned"

    def declared(group: str, name: str) -> list[EntryPoint]:
        there = {
            ("ric.editors", "turned"): "my_parts:Turned",
            ("ric.losses", "bright"): "my_parts:Bright",
        }
        value = there.get((group, name))
        return [EntryPoint(name, value, group)] if value else []

    monkeypatch.setattr("importlib.metadata.entry_points", declared)
    assert load_part("editor", "turned").__name__ == "Turned"
    assert load_part("loss", "bright").__name__ == "Bright"
    with pytest.raises(RicError, match="There is no describer 'turned'"):
        load_part("describer", "turned")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("zone-9", "There is no editor 'zone-9'"),
        ("nowhere.py:Mine", "cannot be imported: FileNotFoundError: there is no file nowhere.py"),
        ("no_such_package:Mine", "cannot be imported: ModuleNotFoundError"),
        ("json:Mine", "cannot be imported: AttributeError"),
    ],
)
def test_one_that_is_not_there_is_one_line_with_a_hint(name, message, capfd):
    assert ric("edit", "scenes:60#5", "--editor", name, "--preset", "tiny", "--limit", 1) == 1
    said = " ".join(capfd.readouterr().err.split())
    assert message in said
    assert "Traceback" not in said
    assert "NAME" in said or "Choose one of: ip2p" in said


def test_code_of_another_that_fails_is_one_line(tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("raise RuntimeError('no licence\\nsecond line')")
    with pytest.raises(RicError, match=r"RuntimeError: no licence$"):
        load_part("editor", f"{broken}:Mine")
