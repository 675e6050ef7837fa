"""`ric demo` as it is typed; the chain itself is stood in for, but in the slow test."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from PIL import Image

import ric.recipes.demo
from ric.recipes.demo import Demo
from ric.report.edit_sheet import BELOW, HEADING, SIDE
from ric.runs.open_run import open_run
from ric.scoring.scores import THE_SIX, Score, Scores


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A demo that says one command and has scored one editor."""

    def quick(folder: Path, progress: object, *, limit: int | None, say) -> Demo:
        say("ric describe 'my data'")
        with open_run("eval", {"split": "test"}, runs_dir=folder / "runs") as run:
            run.note(data={"name": "data", "fingerprint": "abc"})
        scores = tuple(Score(key=key, value=0.5, n=4, definition="x") for key in THE_SIX)
        rows = [Scores(label="Ours", scores=scores, samples=4)]
        return Demo(rows, folder / "edits.png", run, folder / "report" / "index.html")

    monkeypatch.setattr(ric.recipes.demo, "demo", quick)


def test_it_shows_each_command_the_table_and_what_it_is_worth(ric, quick):
    said = ric("demo")
    assert said.code == 0
    assert "$ ric describe 'my data'\n" in said.err
    assert "CLIP-I" in said.out
    assert "The embedded family (tiny) has only seen drawn scenes" in said.err
    assert "demo/edits.png" in said.err
    assert said.out.endswith("\ndemo/report/index.html\n")


def test_quiet_prints_nothing_but_the_table_and_the_page(ric, quick):
    said = ric("demo", "here", "--quiet")
    assert (said.code, said.err) == (0, "")
    assert "CLIP-I" in said.out
    assert said.out.endswith("\nhere/report/index.html\n")


def test_json_is_one_object_that_names_the_run_the_picture_and_the_page(ric, quick):
    said = ric("demo", "--json", "--quiet")
    assert json.loads(said.out) == {
        "command": "demo", "run": "demo/runs/00001-eval", "picture": "demo/edits.png",
        "page": "demo/report/index.html",
    }  # fmt: skip
    assert said.err == ""


def test_every_editor_edits_the_same_scenes_and_stands_in_one_table_and_on_one_sheet(ric):
    said = ric("demo", "here", "--editors", "--limit", 2)
    assert said.code == 0, said.err
    shown = [shlex.split(line[2:]) for line in said.err.splitlines() if line.startswith("$ ")]
    editors = ["ip2p", "magicbrush", "zone", "ddpm-inversion", "cds"]
    edits = [words for words in shown if words[1] == "edit"]
    assert [next(w for w in words if w.startswith("--editor=")) for words in edits] == [
        f"--editor={name}" for name in editors
    ]
    runs = [Path(f"here/runs/{number:05}-edit") for number in range(1, 6)]
    done = [
        {json.loads(line)["id"] for file in run.glob("*s.jsonl") for line in file.open()}
        for run in runs
    ]
    assert len(done[0]) == 2
    assert all(ids == done[0] for ids in done)  # each of them edited, or a failure of ZONE's
    scores = json.loads(Path("here/runs/00006-eval/scores.json").read_text())["editors"]
    with_edits = [
        name for name, run in zip(editors, runs, strict=True) if any(run.glob("images/*.png"))
    ]
    assert [row["label"] for row in scores] == [*with_edits, "Identity (source)", "Ground truth"]
    assert set(editors) - set(with_edits) <= {"zone"}
    sheet = Image.open("here/editors.png")
    assert sheet.size == (7 * 132 - 4, HEADING + 2 * (SIDE + BELOW))
    page = Path("here/report/index.html").read_text()
    assert all(f'<th scope="row">{name}</th>' in page for name in with_edits)
    again = ric(*shown[-2][1:], "--run", "again")
    assert json.loads(Path("again/scores.json").read_text())["editors"] == scores, again.err


@pytest.mark.slow
def test_the_whole_chain_runs_and_the_commands_it_shows_can_be_pasted(ric, tiny_family):
    said = ric("demo", "my demo")
    assert said.code == 0, said.err
    shown = [shlex.split(line[2:]) for line in said.err.splitlines() if line.startswith("$ ")]
    assert [words[1] for words in shown] == [
        "scenes", "describe", "fit-clip", "fit-blip", "train-unet", "edit", "eval", "report",
    ]  # fmt: skip
    assert all("my demo/runs" in words for words in shown[1:])
    assert Path("my demo/runs/00005-edit/sheet.png").is_file()
    assert said.out.endswith("\nmy demo/report/index.html\n")
    assert "00004-train-unet" in Path("my demo/report/index.html").read_text()
    again = ric(*shown[1][1:], "--run", "again")
    assert again.code == 0, again.err
