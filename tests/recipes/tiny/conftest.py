"""Drawn scenes and short settings for the trainings of the embedded family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ric.config import CommandConfig, as_dict
from ric.runs.open_run import open_run
from ric.settings import resolve_config

DATA = "scenes:40#5"


@pytest.fixture(scope="session")
def settings(tiny_family: Path) -> Callable[..., Any]:
    """A training's config: few steps of few pictures, float32."""

    def make(kind: type[CommandConfig], **changes: Any) -> Any:
        short = {"steps": 4, "batch_size": 4, "warmup_steps": 2, "measure_every": 4, "log_every": 1}
        base = {"data": DATA, "device": "cpu", "dtype": "fp32", **short}
        return resolve_config(kind, base | changes)

    return make


@pytest.fixture(scope="session")
def train() -> Callable[..., Path]:
    """Train in `folder` as the command does, or go on there; return the run's folder."""

    def call(recipe: Callable[..., Path], config: CommandConfig, folder: Path, progress=None):
        command = recipe.__name__.replace("train_", "tiny-")
        with open_run(command, as_dict(config), runs_dir=folder.parent, run=folder) as run:
            recipe(config, run, progress)
        return folder

    return call
