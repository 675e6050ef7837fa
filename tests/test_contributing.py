"""CONTRIBUTING.md: its files and commands do what its sections say, from outside the package."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ric.data.sample import load_samples
from ric_cli.main import main

PAGE = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
SECTIONS = {
    text.partition("\n")[0]: text.partition("\n")[2].strip() for text in PAGE.split("\n## ")[1:]
}
SCENES = "scenes:60@64#5"


@pytest.fixture
def follow(tmp_path, monkeypatch, tiny_family):
    """Do what a section says in an empty folder: write its file, type its commands."""
    monkeypatch.chdir(tmp_path)

    def typed(section: str) -> Path:
        code, commands = re.findall(r"```(?:python)?\n(.*?)```", SECTIONS[section], re.DOTALL)
        Path(code.partition("\n")[0].removeprefix("# ")).write_text(code)
        for line in commands.splitlines():
            program, *words = shlex.split(line)
            if program == "python":
                runpy.run_path(words[0])
                continue
            assert program == "ric"
            monkeypatch.setattr(sys, "argv", ["ric", *words, "--quiet"])
            with pytest.raises(SystemExit) as left:
                main()
            assert not left.value.code, line
        return tmp_path

    return typed


def rows_of(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def two_of_test():
    return list(load_samples(SCENES).narrowed("test", 2))


def test_a_section_is_at_most_thirty_lines_of_prose_and_code_and_all_are_tested():
    assert list(SECTIONS) == [
        "An editor", "A describer", "A metric", "A loss term", "A data set",
    ]  # fmt: skip
    assert max(len(text.splitlines()) for text in SECTIONS.values()) <= 30


def test_the_editor_makes_pictures_half_as_bright(follow):
    run = follow("An editor") / "edited"
    rows = rows_of(run / "edits.jsonl")
    assert [row["brightness"] for row in rows] == [0.5, 0.5]
    for sample, row in zip(two_of_test(), rows, strict=True):
        source = np.asarray(sample.load_source(), dtype=float)
        made = np.asarray(Image.open(run / row["file_name"]), dtype=float)
        assert np.abs(made - source / 2).max() <= 1


def test_the_describer_writes_the_size_and_the_instruction(follow):
    rows = rows_of(follow("A describer") / "described" / "descriptions.jsonl")
    instructions = {sample.id: sample.instruction for sample in load_samples(SCENES)}
    assert len(rows) == 2
    for row in rows:
        wanted = f"A picture of 64 by 64 pixels, after: {instructions[row['id']]}"
        assert row["scene_text"] == wanted


def test_the_metric_is_the_mean_level_in_percent(follow):
    scores = json.loads((follow("A metric") / "scored" / "scores.json").read_text())
    levels = [np.asarray(sample.load_source()).mean() / 2.55 for sample in two_of_test()]
    (score,) = scores["editors"][0]["scores"].values()
    assert score["value"] == pytest.approx(np.mean(levels))
    assert score["direction"] == "down"


def test_the_loss_term_is_logged_with_its_gradient(follow):
    (row,) = rows_of(follow("A loss term") / "trained" / "metrics.jsonl")
    assert 0 < row["loss_bright"] < 2
    assert row["grad_norm_bright"] > 0


def test_the_data_set_is_read_by_the_names_of_its_columns(follow):
    rows = rows_of(follow("A data set") / "edits" / "edits.jsonl")
    assert [row["instruction"] for row in rows] == ["make it red"] * 2
