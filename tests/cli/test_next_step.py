"""The command that is suggested next: it can be pasted, and it works on what was just made."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from ric.config import (
    CommandConfig,
    DescribeConfig,
    EditConfig,
    EvalConfig,
    FitBlipConfig,
    FitClipConfig,
    TrainUnetConfig,
    as_dict,
)
from ric.runs.open_run import open_run
from ric.runs.run import RunDir
from ric.settings import resolve_config
from ric_cli.next_step import COMMANDS, next_step

Next = Callable[..., "str | None"]


def finished(kind: type[CommandConfig], **flags: object) -> tuple[CommandConfig, RunDir]:
    """A finished run of a command in ./runs, which made nothing."""
    config = resolve_config(kind, {"data": "my edits", **flags})
    command = ({**COMMANDS, DescribeConfig: "describe"})[kind]
    with open_run(command, as_dict(config), runs_dir=Path("runs")) as run:
        run.note(data={"name": config.data, "fingerprint": "abc"})
    return config, run


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def told(kind: type[CommandConfig], runs_dir: Path | None = None, **flags: object) -> str | None:
    return next_step(*finished(kind, **flags), runs_dir=runs_dir)


def test_a_description_is_followed_by_the_scene_judge():
    assert told(DescribeConfig) == ("ric fit-blip 'my edits' --descriptions runs/00001-describe")
    assert told(DescribeConfig, what="region") == (
        "ric fit-clip 'my edits' --descriptions runs/00002-describe"
    )
    assert told(DescribeConfig, what="source-caption") is None
    assert told(DescribeConfig, what="explicit-instruction") == (
        "ric edit 'my edits' --captions runs/00004-describe"
    )
    # of these the first alone describes scenes
    assert told(FitClipConfig) == "ric fit-blip 'my edits' --descriptions runs/00001-describe"


def test_a_judge_is_followed_by_the_other_judge_until_both_are_there():
    assert told(FitClipConfig) == "ric fit-blip 'my edits'"
    assert told(FitBlipConfig, descriptions="7") == (
        "ric train-unet 'my edits' --descriptions 7 --region-clip runs/00001-fit-clip "
        "--scene-blip runs/00002-fit-blip"
    )
    assert told(FitClipConfig) == (
        "ric train-unet 'my edits' --region-clip runs/00003-fit-clip "
        "--scene-blip runs/00002-fit-blip"
    )


def test_a_judge_of_other_data_or_another_preset_is_not_taken():
    finished(FitClipConfig, data="others")
    finished(FitClipConfig, preset="tiny")
    assert told(FitBlipConfig) == "ric fit-clip 'my edits'"


def test_the_region_judge_hands_on_the_descriptions_that_are_there():
    finished(DescribeConfig)
    assert told(FitClipConfig) == "ric fit-blip 'my edits' --descriptions runs/00001-describe"


def test_training_is_followed_by_edits_of_what_was_not_trained_on():
    assert told(TrainUnetConfig) == "ric edit 'my edits' --unet runs/00001-train-unet"
    assert told(TrainUnetConfig, split="val") == "ric edit 'my edits' --unet runs/00002-train-unet"
    assert told(TrainUnetConfig, split="all") == (
        "ric edit 'my edits' --unet runs/00003-train-unet --split all --allow-overlap"
    )


def test_edits_of_a_dataset_are_followed_by_their_scores_on_that_data():
    assert told(EditConfig, split="all", limit=3, allow_overlap=True) == (
        "ric eval Mine=runs/00001-edit --data 'my edits' --split all --limit 3 --allow-overlap"
    )


def test_edits_of_photos_are_followed_by_nothing_and_scores_by_a_page():
    config, run = finished(EditConfig, instruction="make it night")
    run.note(data={"name": config.data, "fingerprint": None})
    assert next_step(config, run, runs_dir=None) is None
    assert told(EvalConfig) == "ric report runs/00002-eval"


def test_what_the_next_command_needs_too_is_carried_over():
    flags = {"preset": "tiny", "columns": "source=a b", "weights": "my weights", "limit": 9}
    assert told(DescribeConfig, Path("my runs"), **flags, split="val") == (
        "ric fit-blip 'my edits' --descriptions runs/00001-describe --preset tiny --split val "
        "--columns 'source=a b' --weights 'my weights' --limit 9 --runs-dir 'my runs'"
    )


def test_a_split_is_carried_only_where_the_next_command_would_take_another():
    assert "--split" not in str(told(DescribeConfig, split="all"))
    assert "--split" not in str(told(DescribeConfig, split="train"))
    assert "--split" not in str(told(FitClipConfig))
    assert "--split all" in str(told(FitClipConfig, split="all"))
    assert "--split" not in str(told(EditConfig))


def test_a_runs_folder_that_was_typed_is_carried_and_one_of_the_environment_is_not(
    ric, data, monkeypatch
):
    words = ("describe", data, "--preset", "tiny", "--limit", "1")
    assert ric(*words, "--runs-dir", "my runs").err.endswith(" --runs-dir 'my runs'\n")
    monkeypatch.setenv("RIC_RUNS_DIR", "elsewhere")
    last = ric(*words).err.splitlines()[-1]
    assert "--descriptions elsewhere/00001-describe" in last
    assert "--runs-dir" not in last


def test_after_photos_are_edited_no_scoring_is_suggested(ric, data, tiny_family):
    Image.new("RGB", (32, 32)).save("photo.png")
    tiny = ("--preset", "tiny", "--steps", "1", "--image-size", "32")
    said = ric("edit", "photo.png", "make it night", *tiny)
    assert said.code == 0
    assert "Next:" not in said.err
    said = ric("edit", data, "", *tiny, "--split", "all")
    assert said.code == 0
    (line,) = [line for line in said.err.splitlines() if line.startswith("Next: ")]
    assert line == (
        f"Next: ric eval Mine=runs/00002-edit --data '{data}' --preset tiny --split all"
    )
    # an empty instruction is none: each sample keeps its own
    rows = Path("runs/00002-edit/edits.jsonl").read_text().splitlines()
    assert {json.loads(row)["instruction"] for row in rows} == {"make it red"}
