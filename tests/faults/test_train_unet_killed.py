"""`ric train-unet` killed again and again, also amid its checkpoints, ends as if it never was."""

from __future__ import annotations

import hashlib
import random
import signal
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file
from train_unet_child import Child

from ric.config import TrainUnetConfig
from ric.recipes.train_unet import train_unet
from ric.runs.record import status_of

STEPS = 60
SETTINGS = {"batch_size": 2, "steps": STEPS, "checkpoint_every": 1}
KILLS = ["writing"] * 12 + ["training"] * 6 + ["starting"] * 2
LEAST_WRITING = 5


def half_written(run: Path) -> list[Path]:
    return list((run / "checkpoints").glob(".step-*"))


def newest_checkpoint(run: Path) -> int:
    """Give the step of the newest checkpoint that bears its final name; 0 where there is none.

    It must be whole: every tensor of it can be read.
    """
    newest = max((run / "checkpoints").glob("step-*"), default=None)
    if newest is None:
        return 0
    groups = {name: load_file(newest / f"{name}.safetensors") for name in ("model", "average")}
    moments = load_file(newest / "moments.safetensors")
    assert groups["model"].keys() == groups["average"].keys()
    assert {f"{name}:exp_avg_sq" for name in groups["model"]} < moments.keys()
    return int(newest.name.removeprefix("step-"))


def rows_of(run: Path) -> int:
    """Count the whole rows of metrics.jsonl: one a step that was done, torn last one aside."""
    file = run / "metrics.jsonl"
    return sum(line.endswith("}\n") for line in file.open()) if file.is_file() else 0


def kill(child: Child, when: str, run: Path) -> None:
    """Kill a child while it starts, while it trains, or once it is seen to write a checkpoint."""
    if when == "starting":
        time.sleep(random.uniform(0, 2))
    else:
        least = random.randint(1, 2)
        child.wait_until(lambda: child.asked >= least)
        if when == "training":
            time.sleep(random.uniform(0, 0.4))
        else:
            child.wait_until(lambda: bool(half_written(run)))
    child.process.kill()


def sha256_of_unet(run: Path) -> str:
    file = run / "pipeline" / "unet" / "diffusion_pytorch_model.safetensors"
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.slow
def test_a_run_killed_at_twenty_random_moments_loads_no_half_checkpoint_and_repeats_no_more_steps(
    edits, tiny, follow, tmp_path, metrics_of, record_of, tally
):
    run, moments, amid_writing = tmp_path / "run", random.sample(KILLS, len(KILLS)), 0
    for number, when in enumerate(moments):
        done = newest_checkpoint(run)
        child = Child(edits, run, tmp_path / f"asked-{number}", **SETTINGS)
        kill(child, when, run)
        code, said = child.end()
        assert code == -signal.SIGKILL, said
        amid_writing += when != "starting" and bool(half_written(run))
        if when != "starting":
            assert not done or f"resuming after step {done} of {STEPS}" in said, said
            # each step asks once; it was killed in a step, or between two
            begun = child.asked
            assert begun - (rows_of(run) - done) in (0, 1), (moments, number)
            assert newest_checkpoint(run) - done in (begun - 1, begun)
            assert status_of(record_of(run)) == "killed"
    assert amid_writing >= LEAST_WRITING
    tally("kills", len(KILLS))
    tally("kills that left a checkpoint half-written", amid_writing)

    done = newest_checkpoint(run)
    child = Child(edits, run, tmp_path / "asked-at-last", **SETTINGS)
    code, said = child.end()
    assert code == 0, said
    assert f"resuming after step {done} of {STEPS}" in said
    assert child.asked == STEPS - done > 0
    assert half_written(run) == []

    config = tiny(TrainUnetConfig, edits, **SETTINGS, dtype="auto")
    whole = follow(train_unet, config, tmp_path / "whole")
    assert record_of(run)["config"] == record_of(whole)["config"]
    assert metrics_of(run) == metrics_of(whole)
    assert sha256_of_unet(run) == sha256_of_unet(whole)
