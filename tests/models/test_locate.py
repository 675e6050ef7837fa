"""Where the model that a flag names lies, and that a resumed run keeps to it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ric.config import TrainUnetConfig
from ric.errors import RicError
from ric.models import locate as location
from ric.runs.open_run import open_run
from ric.runs.run import RunDir


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def fitted(runs: Path) -> Path:
    with open_run("fit-clip", {}, runs_dir=runs) as run:
        (run.path / "region_encoder").mkdir()
    return run.path


def locate(run: RunDir, name: str = "@fit-clip") -> Path:
    return location.locate(TrainUnetConfig(region_clip=name), "region_clip", run)


def test_a_resumed_run_keeps_the_fit_it_began_with_when_a_newer_one_is_finished(runs):
    first = fitted(runs)
    run = open_run("train-unet", {}, runs_dir=runs)
    assert locate(run) == first / "region_encoder"
    with pytest.raises(KeyboardInterrupt), run:
        raise KeyboardInterrupt
    newer = fitted(runs)
    with open_run("train-unet", {}, runs_dir=runs, run=run.path) as again:
        assert locate(again) == first / "region_encoder"
    assert again.record["parents"] == ["../00001-fit-clip"]
    with open_run("train-unet", {}, runs_dir=runs) as fresh:
        assert locate(fresh) == newer / "region_encoder"


def test_a_fit_that_is_gone_is_named_and_no_newer_one_is_taken(runs):
    first = fitted(runs)
    run = open_run("train-unet", {}, runs_dir=runs)
    locate(run)
    fitted(runs)
    shutil.rmtree(first)
    with pytest.raises(RicError, match=r"00001-fit-clip, which .* used for '@fit-clip' .* is gone"):
        locate(run)


def test_a_model_of_a_run_that_is_still_at_work_is_not_taken(runs):
    with open_run("fit-clip", {}, runs_dir=runs) as other:
        (other.path / "region_encoder").mkdir()
        run = open_run("train-unet", {}, runs_dir=runs)
        with pytest.raises(RicError, match=r"is not finished \(running\)"):
            locate(run, "1")
