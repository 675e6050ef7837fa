"""`--track`: rows of metrics.jsonl reach a tracker that accelerate knows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from accelerate import tracking
from accelerate.tracking import GeneralTracker, on_main_process, register_tracker_class

from ric.config import FitClipConfig
from ric.errors import RicError
from ric.recipes.fit_clip import fit_clip
from ric.runs.open_run import open_run
from ric.training.tracking import tracked


class LinesTracker(GeneralTracker):
    """Writes what it is told as JSON lines."""

    name = "lines"
    requires_logging_directory = True

    def __init__(self, run_name: str, logging_dir: Path) -> None:
        super().__init__()
        self.run_name, self.folder = run_name, Path(logging_dir)

    @on_main_process
    def start(self) -> None:
        self.folder.mkdir()
        self._write("start", self.run_name)

    @property
    def tracker(self) -> Path:
        return self.folder

    @on_main_process
    def store_init_configuration(self, values: dict) -> None:
        self._write("settings", values)

    @on_main_process
    def log(self, values: dict, step: int | None = None, **more: object) -> None:
        self._write("row", {"step": step, **values})

    @on_main_process
    def finish(self) -> None:
        self._write("finish", None)

    def _write(self, what: str, value: object) -> None:
        with (self.folder / "lines.jsonl").open("a") as stream:
            stream.write(json.dumps([what, value]) + "\n")


@pytest.fixture
def _lines(monkeypatch):
    monkeypatch.setattr(tracking, "LOGGER_TYPE_TO_CLASS", dict(tracking.LOGGER_TYPE_TO_CLASS))
    monkeypatch.setattr("ric.training.tracking.LOGGER_TYPE_TO_CLASS", tracking.LOGGER_TYPE_TO_CLASS)
    register_tracker_class(LinesTracker)


@pytest.mark.usefixtures("_lines")
def test_a_tracker_sees_the_settings_and_every_row_and_is_finished(
    tiny, edits, follow, tmp_path, metrics_of
):
    config = tiny(FitClipConfig, edits, fusion_epochs=2, joint_epochs=0, track="lines")
    run = follow(fit_clip, config, tmp_path / "run")
    lines = [json.loads(text) for text in (run / "tracker/lines.jsonl").read_text().splitlines()]
    assert [what for what, _ in lines[:2]] == ["start", "settings"]
    assert lines[0][1] == "ric-fit-clip"
    assert lines[1][1]["fusion_epochs"] == 2
    assert lines[-1] == ["finish", None]
    shown = [value for what, value in lines if what == "row"]
    for row in shown:
        row.pop("images_per_second", None)
    assert shown == [
        {key: value for key, value in row.items() if key != "phase"} for row in metrics_of(run)
    ]


def test_a_tracker_that_accelerate_does_not_know_is_refused(tmp_path):
    with (
        open_run("fit-clip", {}, runs_dir=tmp_path) as run,
        pytest.raises(RicError, match="accelerate has no tracker 'abacus'"),
        tracked("abacus", run),
    ):
        pass


def test_a_tracker_that_is_not_installed_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr("ric.training.tracking.get_available_trackers", list)
    with (
        open_run("fit-clip", {}, runs_dir=tmp_path) as run,
        pytest.raises(RicError, match="'tensorboard' is not installed") as raised,
        tracked("tensorboard", run),
    ):
        pass
    assert raised.value.hint == "pip install tensorboard"
