"""No setting is recorded in a run and then looked at by nothing; DATA is opened once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import fields

import pytest

from ric.config import (
    CommandConfig,
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

FEW = {"batch_size": 4, "log_every": 1, "checkpoint_every": 9, "keep_checkpoints": 1}
RUNS: dict[type[CommandConfig], tuple[Callable[..., object], *tuple[dict[str, object], ...]]] = {
    DescribeConfig: (
        describe,
        {"describer": "chat", "model": "tiny", "max_new_tokens": 2, "split": "val"},
    ),
    FitClipConfig: (fit_clip, {"fusion_epochs": 1, "joint_epochs": 1, **FEW}),
    FitBlipConfig: (fit_blip, {"epochs": 1, **FEW}),
    TrainUnetConfig: (train_unet, {"steps": 1, "show_every": 1, **FEW}),
    EditConfig: (
        edit,
        {"steps": 1, "split": "val"},
        {"steps": 1, "skip": 0, "split": "val", "editor": "ddpm-inversion", "source_caption": "x"}
        | {"target_caption": "y"},
        {"steps": 1, "split": "val", "editor": "cds", "source_caption": "x", "target_caption": "y"},
    ),
    EvalConfig: (evaluate, {"split": "val"}),
}
# read before a recipe begins, or in a case that is not this one and has its own tests
ELSEWHERE = {
    CommandConfig: {"preset"},  # laid over the defaults
    DescribeConfig: {"seed"},  # greedy decoding draws nothing; a describer of one's own may
    TrainUnetConfig: {"allow_missing_text"},  # where texts are missing
    EvalConfig: {
        "dtype", "fid", "lpips_net",  # refused where they would change nothing, as here
        "layout",  # read by the command line
        "target", "mask", "texts",  # with a source
        "partial",  # where outputs are missing
    },
}  # fmt: skip
NOT_READING = {"dataclasses", "ric.config", "ric.settings", __name__}  # they copy and compare


@contextmanager
def reads_of(kind: type[CommandConfig], seen: set[str]):
    """Collect the fields of a config that something reads for its own use."""
    own = {field.name for field in fields(kind)}

    def read(self: CommandConfig, name: str) -> object:
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if name in own and caller not in NOT_READING:
            seen.add(name)
        return object.__getattribute__(self, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "__getattribute__", read, raising=False)
        yield


@pytest.mark.parametrize("kind", RUNS, ids=lambda kind: kind.__name__)
def test_a_recipe_reads_every_setting_of_its_command_and_opens_data_once(
    kind, tiny, edits, trained_on, follow, tmp_path, monkeypatch
):
    recipe, first, *more = RUNS[kind]
    if kind in (EditConfig, EvalConfig):
        # by a model that was trained on other pictures, with which DATA is compared
        model = {"unet": str(trained_on(["another"]))}
    if kind is EvalConfig:
        config = tiny(EditConfig, edits, **RUNS[EditConfig][1], **model)
        first = {**first, "edits": (f"Mine={follow(edit, config, tmp_path / 'edited')}",)}
    if kind is EditConfig:
        first = {**first, **model}
    seen: set[str] = set()
    opened, load = [], sample.load_samples

    def counted(*given, **named):
        opened.append(given)
        return load(*given, **named)

    monkeypatch.setattr(sample, "load_samples", counted)
    for number, settings in enumerate((first, *more), 1):
        config = tiny(kind, edits, **settings)
        with reads_of(kind, seen):
            follow(recipe, config, tmp_path / f"run-{number}")
        assert len(opened) == number
    own = {field.name for field in fields(kind)}
    known = ELSEWHERE[CommandConfig] | ELSEWHERE.get(kind, set())
    assert ", ".join(sorted(own - seen - known)) == ""
