"""Which runs there are, which of them a reference names, and whose artifacts are taken."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ric.errors import RicError
from ric.runs.open_run import open_run
from ric.runs.record import (
    LARGEST,
    find_artifact,
    find_run,
    list_runs,
    parents_of,
    read_record,
    status_of,
)


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


# --- run.json of any shape -------------------------------------------------------------------

ANYTHING = [None, True, 7, -1.5, "words", "\ud800", [], ["x"], [[]], {}, {"a": 1}, {"name": []}]
KEYS = (
    "schema", "command", "status", "config", "started", "ended", "argv", "parents", "resolved",
    "data", "process", "environment", "weights", "unavailable", "memory_plan", "error",
)  # fmt: skip


@pytest.fixture
def odd(runs: Path) -> Path:
    """A folder of runs with a good one, and one to be spoilt."""
    run_at(runs / "00001-edit", "10:00", command="edit")
    return run_at(runs / "00002-edit", "11:00", command="edit")


@pytest.mark.parametrize("key", KEYS)
def test_whatever_stands_at_a_key_of_run_json_runs_are_listed_found_and_shown(odd, runs, key):
    record = json.loads((odd / "run.json").read_text())
    for value in ANYTHING:
        (odd / "run.json").write_text(json.dumps({**record, key: value}))
        told: list[RicError] = []
        listed = list_runs(runs, told.append)
        assert "00001-edit" in {path.name for path, _ in listed}
        assert len(listed) + len(told) == 2, value
        assert all(str(odd / "run.json") in error.message or "newer" in error.message
                   for error in told)  # fmt: skip
        for path, read in listed:
            assert status_of(read, path)
            assert isinstance(parents_of(path, read), list)
        assert find_run("1", runs) == runs / "00001-edit"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"schema": 1e400}',
        b'{"schema": NaN}',
        b'{"schema": ' + b"9" * 5000 + b"}",
        b" " * (LARGEST + 1),
    ],
)
def test_a_run_json_of_any_content_is_one_line_and_hides_no_other_run(odd, runs, content):
    (odd / "run.json").write_bytes(content)
    told: list[RicError] = []
    assert [path.name for path, _ in list_runs(runs, told.append)] == ["00001-edit"]
    (error,) = told
    assert error.message == f"{odd / 'run.json'} cannot be read: it is not a run record."


def test_a_run_json_that_is_a_pipe_or_a_folder_is_not_waited_for(odd, runs):
    (odd / "run.json").unlink()
    os.mkfifo(odd / "run.json")
    with pytest.raises(RicError, match=r"is not a run: it has no run\.json"):
        read_record(odd)
    (odd / "run.json").unlink()
    (odd / "run.json").mkdir()
    assert [path.name for path, _ in list_runs(runs)] == ["00001-edit"]


def test_a_process_of_any_shape_in_a_run_that_says_running_is_nobody(odd):
    record = json.loads((odd / "run.json").read_text()) | {"status": "running"}
    for process in ({}, {"pid": 0}, {"pid": -1}, {"pid": 10**40}, {"host": [], "pid": 1}):
        assert status_of({**record, "process": process}, odd) == "killed"
