"""`ric runs`: what was run, from what, and how it ended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ric.runs.open_run import open_run
from ric.runs.rows import read_rows


@pytest.fixture
def three_runs(tmp_path: Path) -> list[Path]:
    """A finished one, one made from it that failed, and one whose process is gone."""
    runs = tmp_path / "runs"
    with open_run("describe", {"data": "[old] photos"}, runs_dir=runs) as first:
        first.note(data={"name": "[old] photos"})
    second = open_run("edit", {}, runs_dir=runs)
    second.add_parent(first.path)
    with pytest.raises(ValueError, match="bad"), second:
        raise ValueError("a [bad] value")
    third = open_run("eval", {}, runs_dir=runs)
    gone = {"host": third.record["process"]["host"], "pid": 2**22 + 1}
    third.note(process=gone, status="running")
    third.claims.leave()
    return [first.path, second.path, third.path]


def test_ls_lists_all_runs_with_status_data_and_parents(ric, three_runs):
    said = ric("runs", "ls")
    assert said.code == 0
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in said.out.splitlines()]
    rows = {row[0]: (row[1], row[3], row[4]) for row in cells if row}
    assert rows == {
        "00001-describe": ("done", "[old] photos", ""),
        "00002-edit": ("failed", "", "00001-describe"),
        "00003-eval": ("killed", "", ""),
    }


def test_ls_as_json_is_one_object(ric, three_runs):
    listed = json.loads(ric("runs", "ls", "--json").out)["runs"]
    assert [(row["command"], row["status"]) for row in listed] == [
        ("describe", "done"), ("edit", "failed"), ("eval", "killed"),
    ]  # fmt: skip
    assert listed[1]["parents"] == ["runs/00001-describe"]
    assert listed[0]["data"] == "[old] photos"


def test_ls_of_an_empty_folder_says_so_on_stderr(ric):
    said = ric("runs", "ls", "--runs-dir", "none")
    assert (said.code, said.out, said.err) == (0, "", "No runs in none.\n")
    assert json.loads(ric("runs", "ls", "--runs-dir", "none", "--json").out) == {"runs": []}


@pytest.mark.parametrize("reference", ["2", "00002", "runs/00002-edit"])
def test_show_tells_how_a_run_was_made_and_why_it_failed(ric, three_runs, reference):
    said = ric("runs", "show", reference)
    assert said.code == 0
    rows = dict(line.split(maxsplit=1) for line in said.out.splitlines() if len(line.split()) > 1)
    rows = {key: value.strip() for key, value in rows.items()}
    assert rows["status"] == "failed"
    assert rows["error"] == "a [bad] value"
    assert rows["parents"] == "runs/00001-describe"


def test_show_as_json_is_the_record_with_the_present_status(ric, three_runs):
    shown = json.loads(ric("runs", "show", "3", "--json").out)
    assert (shown["run"], shown["command"], shown["status"]) == (
        "runs/00003-eval", "eval", "killed",
    )  # fmt: skip
    assert shown["environment"]["python"]
    assert json.loads(ric("runs", "show", "@describe", "--json").out)["run"].endswith("-describe")


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("nowhere", "No run at 'nowhere'."),
        ("9", "No run 9 in runs."),
        ("@fit-clip", "No finished run of `ric fit-clip` in runs."),
    ],
)
def test_show_of_no_run_is_1_and_names_the_next_step(ric, three_runs, reference, words):
    said = ric("runs", "show", reference)
    assert said.code == 1
    assert said.err == f"Error: {words}\nHint: List the runs: ric runs ls\n"


def test_one_bad_run_is_told_on_stderr_and_the_others_are_listed(ric, three_runs):
    bad = three_runs[1] / "run.json"
    bad.write_text('{"schema": 1, "command": 7}')
    said = ric("runs", "ls")
    assert said.code == 0
    assert "00001-describe" in said.out
    assert "00003-eval" in said.out
    assert said.err == "runs/00002-edit/run.json cannot be read: it is not a run record.\n"


def test_join_makes_one_run_of_the_shards_and_names_it(ric, data):
    described = ("describe", "my edits", "--preset", "tiny", "--shard")
    made = [ric(*described, f"{n}/2", "--run", f"shard-{n}", "--json") for n in (1, 2)]
    assert [said.code for said in made] in ([0, 1], [1, 0])  # all that one of them has fails
    said = ric("runs", "join", "shard-1", "shard-2")
    assert (said.code, said.out) == (0, "runs/00001-describe\n")
    failed = [row["id"] for row in read_rows(Path("runs/00001-describe"), "failures")]
    assert failed == ["1"]
    shown = json.loads(ric("runs", "show", "1", "--json").out)
    assert (shown["status"], shown["config"]["shard"]) == ("done", None)
    assert shown["shards"] == ["../../shard-1", "../../shard-2"]
    joined = json.loads(ric("runs", "join", "shard-1", "shard-2", "--run", "j", "--json").out)
    assert joined == {"run": "j", "shards": ["shard-1", "shard-2"]}


def test_join_says_in_a_line_what_is_no_shard(ric, data):
    said = ric("runs", "join", "nowhere", "elsewhere")
    assert (said.code, said.err.splitlines()[0]) == (1, "Error: No run at 'nowhere'.")
