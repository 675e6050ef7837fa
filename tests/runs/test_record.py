"""Which runs there are, which of them a reference names, and whose artifacts are taken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ric.errors import RicError
from ric.runs.record import find_artifact, find_run, list_runs
from ric.runs.run import open_run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def run_at(path: Path, started: str, ended: str | None = None, command: str = "train-unet") -> Path:
    """Write a finished run's record with the given times of one day."""
    path.mkdir(parents=True)
    record = {"schema": 1, "command": command, "config": {}, "status": "done"}
    record["started"] = f"2026-01-01T{started}:00+00:00"
    if ended:
        record["ended"] = f"2026-01-01T{ended}:00+00:00"
    (path / "run.json").write_text(json.dumps(record))
    return path


def test_runs_with_a_name_of_their_own_are_listed_among_the_numbered_ones_by_their_start(runs):
    last = run_at(runs / "00002-edit", "12:00")
    named = run_at(runs / "base-line", "11:00")
    same_second = run_at(runs / "a-name", "12:00")
    first = run_at(runs / "00001-edit", "10:00")
    (runs / "notes").mkdir()
    (runs / "notes.txt").touch()
    assert [path for path, _ in list_runs(runs)] == [first, named, last, same_second]


def test_the_latest_finished_run_may_have_a_name_of_its_own(runs):
    with open_run("train-unet", {}, runs_dir=runs, run=runs / "mine") as mine:
        pass
    assert find_run("@train-unet", runs) == mine.path
    assert [path for path, _ in list_runs(runs)] == [mine.path]


def test_the_latest_finished_run_is_the_one_that_ended_last(runs):
    long = run_at(runs / "00001-train-unet", "10:00", "18:00")
    run_at(runs / "00002-train-unet", "11:00", "12:00")
    assert find_run("@train-unet", runs) == long
    # a record without an end counts from its start
    without = run_at(runs / "00003-train-unet", "19:00")
    assert find_run("@train-unet", runs) == without
    assert find_run("2", runs) == runs / "00002-train-unet"


def test_of_two_that_ended_in_the_same_second_the_higher_number_is_the_latest(runs):
    run_at(runs / "00009-edit", "10:00", "12:00", "edit")
    tenth = run_at(runs / "00010-edit", "10:00", "12:00", "edit")
    assert find_run("@edit", runs) == tenth


def test_an_artifact_of_a_run_that_is_not_finished_is_not_taken(runs):
    with open_run("edit", {}, runs_dir=runs) as run:
        (run.path / "images").mkdir()
        with pytest.raises(RicError) as raised:
            find_artifact("1", "images", runs)
    assert raised.value.message == f"{run.path} is not finished (running): images may still change."
    assert raised.value.hint == "Wait for it, or repeat its command with --run to finish it."
    assert find_artifact("1", "images", runs) == run.path / "images"
