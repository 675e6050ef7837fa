"""Editors and describers by name, and those that are added from outside the package."""

from __future__ import annotations

import json
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from ric.errors import RicError
from ric.registry import DESCRIBERS, EDITORS, load_part, needs_model
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


@pytest.mark.parametrize("kind", ["editor", "describer"])
def test_everything_in_the_tables_can_be_imported(kind):
    for name in {"editor": EDITORS, "describer": DESCRIBERS}[kind]:
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
        there = {("ric.editors", "turned"): "my_parts:Turned"}
        value = there.get((group, name))
        return [EntryPoint(name, value, group)] if value else []

    monkeypatch.setattr("importlib.metadata.entry_points", declared)
    assert load_part("editor", "turned").__name__ == "Turned"
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
