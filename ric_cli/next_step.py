"""The command to type next, complete, so that it can be pasted."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from ric.addresses import redacted
from ric.config import (
    CommandConfig,
    DescribeConfig,
    EditConfig,
    EvalConfig,
    FitBlipConfig,
    FitClipConfig,
    TrainUnetConfig,
)

if TYPE_CHECKING:
    from pathlib import Path

    from ric.runs.run import RunDir

COMMANDS: dict[type[CommandConfig], str] = {
    FitClipConfig: "fit-clip",
    FitBlipConfig: "fit-blip",
    TrainUnetConfig: "train-unet",
    EditConfig: "edit",
    EvalConfig: "eval",
}

# which command reads a kind of described text, and by which flag
READ_BY: dict[str, tuple[type[CommandConfig], str]] = {
    "scene": (FitBlipConfig, "--descriptions"),
    "all": (FitBlipConfig, "--descriptions"),
    "region": (FitClipConfig, "--descriptions"),
    "explicit-instruction": (EditConfig, "--captions"),
}


def next_step(config: CommandConfig, run: RunDir, *, runs_dir: Path | None) -> str | None:
    """Return the command line that follows a finished run; None if nothing follows.

    Args:
        config: The run's settings; those that the next command needs too are carried over.
        run: The run.
        runs_dir: The value of --runs-dir; None if it was not typed.
    """
    kind: type[CommandConfig]
    if getattr(config, "shard", None) is not None:
        return None  # the other shards are to be made and joined first
    if isinstance(config, DescribeConfig):
        if config.what not in READ_BY:
            return None
        kind, flag = READ_BY[config.what]
        own = [config.data, flag, str(run.path)]
    elif isinstance(config, (FitClipConfig, FitBlipConfig)):
        kind, own = _after_a_judge(config, run)
    elif isinstance(config, TrainUnetConfig):
        kind, own = EditConfig, [config.data, "--unet", str(run.path)]
    elif isinstance(config, EvalConfig):
        return shlex.join(["ric", "report", str(run.path)])  # it reads all else from the run
    # photos have no fingerprint, and nothing to score them against
    elif isinstance(config, EditConfig) and run.record.get("data", {}).get("fingerprint"):
        kind, own = EvalConfig, [f"Mine={run.path}", "--data", config.data]
    else:
        return None
    own += _carried(config, kind)
    if runs_dir is not None:
        own += ["--runs-dir", str(runs_dir)]
    return shlex.join(["ric", COMMANDS[kind], *own])


def _after_a_judge(
    config: FitClipConfig | FitBlipConfig, run: RunDir
) -> tuple[type[CommandConfig], list[str]]:
    """Continue with train-unet if both judges are fitted on this data, else with the other fit."""
    is_clip = isinstance(config, FitClipConfig)
    other = _latest("fit-blip" if is_clip else "fit-clip", config, run.runs_dir)
    blip = config if isinstance(config, FitBlipConfig) else None
    descriptions = blip.descriptions if blip else _latest("describe", config, run.runs_dir)
    described = ["--descriptions", str(descriptions)] if descriptions else []
    if other is None and is_clip:
        return FitBlipConfig, [config.data, *described]
    if other is None:
        return FitClipConfig, [config.data]
    clip, scene = (run.path, other) if is_clip else (other, run.path)
    judges = ["--region-clip", str(clip), "--scene-blip", str(scene)]
    return TrainUnetConfig, [config.data, *described, *judges]


def _latest(command: str, config: CommandConfig, runs_dir: Path) -> Path | None:
    """Find the latest finished run of `command` with this data and preset."""
    from ric.runs.record import list_runs

    def is_alike(record: dict[str, Any]) -> bool:
        told = redacted({"data": config.data, "preset": config.preset})
        same = all(record["config"].get(key) == value for key, value in told.items())
        # older runs of describe have no `what`: they describe scenes
        fits = record["config"].get("what", "scene") in ("scene", "all")
        return record["command"] == command and record["status"] == "done" and same and fits

    alike = [path for path, record in list_runs(runs_dir) if is_alike(record)]
    return alike[-1] if alike else None


def _carried(config: CommandConfig, kind: type[CommandConfig]) -> list[str]:
    """List the flags that mean the same to the next command, `kind`, and are not its defaults."""
    words = ["--preset", config.preset] if config.preset != kind.preset else []
    if isinstance(config, TrainUnetConfig):
        # samples the model was not trained on are edited, if there are any
        if config.split in ("all", "test"):
            words += ["--split", config.split, "--allow-overlap"]
    elif config.split not in (type(config).split, kind.split):
        words += ["--split", config.split]
    for name in ("columns", "weights", "limit"):
        value = getattr(config, name)
        if value is not None:
            words += [f"--{name}", str(value)]
    if getattr(config, "allow_overlap", False):
        words.append("--allow-overlap")
    return words
