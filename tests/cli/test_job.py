"""One command over DATA, start to end: what it prints, where, and how it ends."""

from __future__ import annotations

import json
import re
import signal

import pytest

import ric.describers.from_dataset
from ric.interrupt import Interrupted
from ric.runs.record import read_record
from ric.runs.rows import read_rows
from ric_cli.job import DRAWN_ONLY

DESCRIBE = ("describe", "my edits", "--preset", "tiny")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def test_json_is_one_object_on_stdout_that_names_the_run(ric, data, tmp_path):
    said = ric(*DESCRIBE, "--json")
    # one sample has no paragraph
    assert said.code == 3
    assert json.loads(said.out) == {
        "command": "describe",
        "run": "runs/00001-describe",
        "status": "done",
        "result": "runs/00001-describe/descriptions.jsonl",
        "failures": 1,
        "unavailable": [],
    }
    rows = (tmp_path / "runs/00001-describe/descriptions.jsonl").read_text().splitlines()
    assert [json.loads(row)["scene_text"] for row in rows] == ["scene 0", "scene 2"]


def test_some_failed_samples_are_3_and_are_listed(ric, data, tmp_path):
    said = ric(*DESCRIBE)
    assert said.code == 3
    assert said.out == "runs/00001-describe/descriptions.jsonl\n"
    assert re.search(r"^  1, texts: ", said.err, re.MULTILINE)
    assert "1 failed; all are listed in runs/00001-describe/failures.jsonl" in said.err
    (row,) = (tmp_path / "runs/00001-describe/failures.jsonl").read_text().splitlines()
    assert json.loads(row)["id"] == "1"


def test_all_samples_done_is_0_and_the_next_step_can_be_pasted(ric, data):
    said = ric(*DESCRIBE, "--limit", "1")
    assert said.code == 0
    told = (
        "Next: ric fit-blip 'my edits' --descriptions runs/00001-describe --preset tiny --limit 1\n"
    )
    assert told in said.err


@pytest.mark.parametrize("photo", ["my edits/1.png", "my edits"])
def test_that_the_embedded_family_knows_no_photos_is_said_before_anything_is_made(
    ric, data, tiny_family, photo
):
    words = ("edit", photo, "make it night", "--preset", "tiny", "--steps", 2, "--limit", 1)
    words += ("--split", "all")
    said = ric(*words)
    assert said.code == 0, said.err
    assert said.err.splitlines()[0] == DRAWN_ONLY
    assert said.err.count(DRAWN_ONLY) == 1
    assert DRAWN_ONLY not in ric(*words, "--quiet").err


def test_of_drawn_scenes_and_where_none_of_it_is_loaded_nothing_is_said_of_it(
    ric, data, tiny_family
):
    few = ("--preset", "tiny", "--limit", 1)
    said = ric("edit", "scenes:40@64", *few, "--steps", 2)
    assert said.code == 0, said.err
    assert DRAWN_ONLY not in said.err
    assert DRAWN_ONLY not in ric(*DESCRIBE).err  # by the data's own texts


def test_totals_are_those_of_the_limit_and_the_split(ric, tiny_family):
    scenes, few = "scenes:60@64#5", ("--preset", "tiny", "--device", "cpu", "--limit", 2)
    said = ric("edit", scenes, *few, "--steps", 1)
    assert "editing: 2/2 images" in said.err
    said = ric("eval", "Mine=@edit", "--data", scenes, *few)
    assert said.code == 0, said.err
    assert "scoring: 2/2 samples" in said.err
    assert "describing: 2/2 samples" in ric("describe", scenes, *few, "--split", "test").err


WAITS = """
import signal


class Waits:
    def __init__(self, model, config, device):
        pass

    def describe(self, sample):
        signal.pause()
        return f"a picture, {sample.id}"
"""


def test_stop_after_keeps_what_is_done_says_so_and_has_its_own_exit_code(ric, data, tmp_path):
    (tmp_path / "waits.py").write_text(WAITS)
    words = (*DESCRIBE, "--describer", "waits.py:Waits")
    said = ric(*words, "--stop-after", "2s")
    assert said.code == 128 + signal.SIGALRM
    assert "--stop-after 2s is over.\n" in said.err
    assert "To continue, repeat the command with --run runs/00001-describe" in said.err
    run = tmp_path / "runs/00001-describe"
    assert read_record(run)["status"] == "interrupted"
    assert [row["id"] for row in read_rows(run, "descriptions")] == ["0"]
    said = ric(*words, "--run", run, "--stop-after", "1s")  # another time is no other setting
    assert said.code == 128 + signal.SIGALRM
    assert [row["id"] for row in read_rows(run, "descriptions")] == ["0", "1"]


def test_talk_goes_to_stderr_in_plain_characters(ric, data):
    said = ric(*DESCRIBE)
    assert re.search(r"describing: 3/3 samples, [\d.]+/s", said.err)
    assert not CONTROL.search(said.err)
    assert not CONTROL.search(said.out)


def test_quiet_says_nothing_but_the_result(ric, data):
    said = ric(*DESCRIBE, "--limit", "1", "--quiet")
    assert said.err == ""
    assert said.out == "runs/00001-describe/descriptions.jsonl\n"


def test_a_finished_run_says_so_and_does_nothing(ric, data, tmp_path):
    ric(*DESCRIBE, "--limit", "1", "--run", "mine")
    before = (tmp_path / "mine/run.json").read_bytes()
    said = ric(*DESCRIBE, "--limit", "1", "--run", "mine")
    assert said.code == 0
    assert said.out == "mine\n"
    assert "mine is already finished; nothing was left to do.\n" in said.err
    assert (tmp_path / "mine/run.json").read_bytes() == before
    said = ric(*DESCRIBE, "--limit", "1", "--run", "mine", "--json")
    assert json.loads(said.out)["status"] == "done"
    said = ric(*DESCRIBE, "--limit", "1", "--run", "mine", "--quiet")
    assert (said.out, said.err) == ("mine\n", "")


def test_other_settings_on_a_run_are_1_and_listed(ric, data):
    ric(*DESCRIBE, "--limit", "1", "--run", "mine")
    said = ric(*DESCRIBE, "--limit", "2", "--run", "mine")
    assert said.code == 1
    assert "mine was started with other settings: limit: 1 there, 2 now." in said.err


def test_an_interrupted_command_says_how_to_go_on_and_does(ric, data, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        described = ric_describer()
        plain = described.answer

        def stop_at_2(self: object, requests, between_steps):
            for request, answer in plain(self, requests, between_steps):
                if request.sample.id == "2":
                    raise Interrupted(2)
                yield request, answer

        patched.setattr(described, "answer", stop_at_2)
        said = ric(*DESCRIBE)
    assert said.code == 130
    assert said.err.endswith(
        "Finished work is kept. To continue, repeat the command with --run runs/00001-describe\n"
        "Stopped: interrupted by SIGINT.\n"
    )
    path = tmp_path / "runs/00001-describe"
    assert read_record(path)["status"] == "interrupted"
    said = ric(*DESCRIBE, "--run", "runs/00001-describe", "--json")
    assert (said.code, json.loads(said.out)["failures"]) == (3, 1)
    rows = [json.loads(row) for row in (path / "descriptions.jsonl").read_text().splitlines()]
    assert sorted(row["id"] for row in rows) == ["0", "2"]


def ric_describer() -> type:
    """The describer that `--preset tiny` uses."""
    module = ric.describers.from_dataset
    return next(
        thing
        for thing in vars(module).values()
        if isinstance(thing, type) and thing.__module__ == module.__name__
    )


@pytest.mark.parametrize("command", ["describe", "fit-clip", "fit-blip", "train-unet", "edit"])
def test_a_dry_run_shows_settings_data_models_and_cost_and_makes_no_run(
    ric, data, tmp_path, command
):
    said = ric(command, data, "--preset", "tiny", "--split", "all", "--dry-run", "--json")
    assert said.code == 0
    plan = json.loads(said.out)
    assert plan.keys() == {"changed", "settings", "data", "models", "cost", "problems"}
    # `all` is what describe does without --split
    assert plan["changed"] == ["data", "preset", *(["split"] if command != "describe" else [])]
    assert plan["problems"] == []
    assert plan["settings"]["preset"] == "tiny"
    assert plan["data"] == {"samples": 3, "split": "all"}
    assert not (tmp_path / "runs").exists()
    lines = ric(command, data, "--preset", "tiny", "--dry-run").out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [
        "settings:", "settings as usual:", "data:", "models:", "cost:", "problems:",
    ]  # fmt: skip
    assert lines[:3] == ["settings:", f"  data: {data}", "  preset: tiny"]
    assert lines[3] == "settings as usual:"
    assert lines[-1] == "  none"


def test_a_dry_run_of_what_would_fail_shows_the_plan_and_why_and_is_1(ric, data, tmp_path):
    said = ric("eval", "nothing", "--data", data, "--preset", "tiny", "--dry-run")
    assert said.code == 1
    assert said.out.endswith(
        "problems:\n  1: No run and no folder of images at 'nothing'. See: ric runs ls\n"
    )
    said = ric("fit-clip", "nowhere", "--preset", "tiny", "--dry-run", "--json")
    assert said.code == 1
    plan = json.loads(said.out)
    assert plan["data"]["samples"] == "unknown"
    (problem,) = plan["problems"]
    assert problem.startswith("No data at 'nowhere'.")
    assert not (tmp_path / "runs").exists()
