"""A command opens DATA once, however many of its splits it looks at, and how often."""

from __future__ import annotations

import pytest

from ric.config import (
    DescribeConfig,
    EditConfig,
    EvalConfig,
    FitBlipConfig,
    FitClipConfig,
    TrainUnetConfig,
)
from ric.data import sample
from ric.recipes.describe import describe
from ric.recipes.edit import edit
from ric.recipes.evaluate import evaluate
from ric.recipes.fit_blip import fit_blip
from ric.recipes.fit_clip import fit_clip
from ric.recipes.train_unet import train_unet

FEW = {"batch_size": 4}
COMMANDS = {
    "describe": (describe, DescribeConfig, {"limit": 1}),
    "edit": (edit, EditConfig, {"steps": 1, "split": "all", **FEW}),
    "fit-clip": (fit_clip, FitClipConfig, {"fusion_epochs": 1, "joint_epochs": 0, **FEW}),
    "fit-blip": (fit_blip, FitBlipConfig, {"epochs": 1, **FEW}),
    "train-unet": (train_unet, TrainUnetConfig, {"steps": 1, "show_every": 1, **FEW}),
    "eval": (evaluate, EvalConfig, {"split": "val"}),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_data_is_opened_once(command, tiny, edits, trained_on, follow, tmp_path, monkeypatch):
    recipe, kind, settings = COMMANDS[command]
    if kind in (EditConfig, EvalConfig):
        # by a model that was trained on other pictures, with which DATA is compared
        model = str(trained_on(["another"]))
    if kind is EvalConfig:
        made = follow(
            edit, tiny(EditConfig, edits, unet=model, steps=1, split="val"), tmp_path / "edited"
        )
        settings = {**settings, "edits": (f"Mine={made}",)}
    if kind is EditConfig:
        settings = {**settings, "unet": model}
    opened, load = [], sample.load_samples

    def counted(*given, **named):
        opened.append(given)
        return load(*given, **named)

    monkeypatch.setattr(sample, "load_samples", counted)
    follow(recipe, tiny(kind, edits, **settings), tmp_path / "run")
    assert len(opened) == 1
