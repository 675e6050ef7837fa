"""Flags and settings agree: every field has its flag, and what is not typed is left to the file."""

from __future__ import annotations

import dataclasses
import inspect
import json
import signal

import pytest

from ric.config import (
    TINY,
    DescribeConfig,
    EditConfig,
    EvalConfig,
    FitBlipConfig,
    FitClipConfig,
    TrainUnetConfig,
)
from ric_cli.describe import describe
from ric_cli.edit import edit
from ric_cli.evaluate import evaluate
from ric_cli.fit_blip import fit_blip
from ric_cli.fit_clip import fit_clip
from ric_cli.options import seconds_of, with_common_options
from ric_cli.train_unet import train_unet

COMMANDS = {
    describe: DescribeConfig, fit_clip: FitClipConfig, fit_blip: FitBlipConfig,
    train_unet: TrainUnetConfig, edit: EditConfig, evaluate: EvalConfig,
}  # fmt: skip
EVERY = pytest.mark.parametrize(
    ("command", "kind"), COMMANDS.items(), ids=[kind.__name__ for kind in COMMANDS.values()]
)
# Flags that say how a command is run, and so are no settings of what it makes.
HOW = {"ctx", "config", "run", "runs_dir", "stop_after", "dry_run", "json", "quiet"}
MORE_HOW = {"show", "engine", "ray_address", "workers"}  # of some commands


@EVERY
def test_every_flag_is_a_setting_and_has_its_default(command, kind):
    fields = {field.name: field.default for field in dataclasses.fields(kind)}
    for name, parameter in inspect.signature(command).parameters.items():
        if name in HOW | MORE_HOW:
            continue
        assert name in fields
        if parameter.default is not inspect.Parameter.empty:
            assert parameter.default == fields[name], name


@EVERY
def test_every_command_has_the_common_options_and_its_own_words(command, kind):
    names = list(inspect.signature(command).parameters)
    assert {"preset", "split", "seed", "device", "dtype", "weights", "limit", *HOW} <= set(names)
    assert len(names) == len(set(names))
    assert command.__doc__


def settings(ric, *words: object) -> dict:
    said = ric("edit", "photo.png", "make it night", *words, "--dry-run", "--json")
    assert said.code == 0, said.err
    return json.loads(said.out)["settings"]


@pytest.fixture
def photo(data, tmp_path):
    (data / "0.png").rename(tmp_path / "photo.png")


def test_what_is_typed_wins_over_the_file_and_the_file_over_the_preset(ric, photo, tmp_path):
    (tmp_path / "mine.yaml").write_text("preset: tiny\nsteps: 7\nguidance: 3\nseed: 5\n")
    found = settings(ric, "--config", "mine.yaml", "--seed", "6")
    assert (found["preset"], found["unet"], found["image_size"]) == ("tiny", "tiny", 64)
    assert (found["steps"], found["guidance"], found["seed"]) == (7, 3.0, 6)


def test_a_flag_typed_with_its_default_value_still_wins(ric, photo, tmp_path):
    (tmp_path / "mine.yaml").write_text("preset: tiny\n")
    assert settings(ric, "--config", "mine.yaml")["steps"] == TINY[EditConfig]["steps"]
    assert settings(ric, "--config", "mine.yaml", "--steps", "100")["steps"] == 100


@pytest.mark.parametrize(
    ("text", "seconds"), [("3h50m", 13_800), ("90s", 90), ("1d", 86_400), ("1d2h3m4s", 93_784)]
)
def test_a_time_to_stop_after_is_read_in_its_units(text, seconds):
    assert seconds_of(text) == seconds


NO_TIMES = ("", "0s", "90", "3h 50m", "50m3h", "-1h", "1.5h", "\u0663h", "9" * 5000, "9999d")


@pytest.mark.parametrize("text", NO_TIMES)
def test_what_is_no_time_to_stop_after_is_1_in_a_line(ric, data, text):
    said = ric("describe", data, "--preset", "tiny", "--stop-after", text)
    assert said.code == 1
    assert "--stop-after is '" in said.err
    assert "Write it as 3h50m, 90s or 1d." in said.err


def test_a_time_to_stop_after_is_no_setting_of_a_run_and_a_dry_run_waits_for_none(ric, data):
    said = ric("describe", data, "--preset", "tiny", "--stop-after", "9h", "--dry-run", "--json")
    assert "stop_after" not in json.loads(said.out)["settings"]
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_a_runs_settings_can_be_used_again(ric, photo, tmp_path):
    before = settings(ric, "--preset", "tiny", "--steps", "4", "--seed", "9")
    record = {"schema": 1, "command": "edit", "config": before}
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert settings(ric, "--config", "run.json") == before


def test_a_file_that_does_not_fit_is_1_and_names_the_key(ric, photo, tmp_path):
    (tmp_path / "mine.yaml").write_text("stepz: 7\n")
    said = ric("edit", "photo.png", "x", "--config", "mine.yaml")
    assert said.code == 1
    assert "The config file sets 'stepz', which EditConfig does not have." in said.err


def test_the_runs_folder_may_come_from_the_environment(ric, data, tmp_path, monkeypatch):
    monkeypatch.setenv("RIC_RUNS_DIR", str(tmp_path / "elsewhere"))
    said = ric("describe", data, "--preset", "tiny", "--limit", "1", "--json")
    assert json.loads(said.out)["run"] == str(tmp_path / "elsewhere" / "00001-describe")


def test_an_option_of_a_command_may_not_be_missing_from_what_it_is_called_with():
    @with_common_options(EditConfig)
    def command(ctx: str = "", guidance: float = 1.0) -> None:
        """Record the call."""
        called.append((ctx, guidance))

    called: list = []
    defaults = {name: p.default for name, p in inspect.signature(command).parameters.items()}
    command(**(defaults | {"ctx": "context", "guidance": 2.0}))
    assert called == [("context", 2.0)]
