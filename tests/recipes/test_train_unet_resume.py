"""Stopping `ric train-unet` in every way there is: the run that goes on equals the whole one."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ric.config import TrainUnetConfig
from ric.inputs import training_set as module
from ric.interrupt import Interrupted, stop_after
from ric.progress import Silent
from ric.recipes.train_unet import train_unet
from ric.runs.checkpoints import complete_checkpoints
from ric.runs.record import status_of

STEPS = 12
SETTINGS = {"batch_size": 2, "steps": STEPS, "checkpoint_every": 3, "balance": 0.5}


class Child:
    """`ric train-unet` with its default number formats, as a process of its own."""

    def __init__(self, data: Path, run: Path, *, threads: int) -> None:
        flags = [f"--{key.replace('_', '-')}={value}" for key, value in SETTINGS.items()]
        command = [
            *(sys.executable, "-m", "ric_cli", "train-unet", str(data), "--preset", "tiny"),
            *("--device", "cpu", "--run", str(run), *flags),
        ]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        self.metrics = run / "metrics.jsonl"
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def wait_for_step(self, step: int) -> None:
        """Wait until metrics.jsonl holds a whole row of this step."""
        deadline = time.monotonic() + 600
        while time.monotonic() < deadline and self.process.poll() is None:
            lines = self.metrics.read_text().splitlines() if self.metrics.is_file() else []
            if any(line.endswith("}") and json.loads(line)["step"] >= step for line in lines):
                return
            time.sleep(0.002)
        raise AssertionError(f"no step {step}: {self.end()[1]}")

    def end(self) -> tuple[int, str]:
        """Wait for its end; return its exit code and what it said."""
        try:
            output, _ = self.process.communicate(timeout=600)
        finally:
            self.process.kill()
        return self.process.returncode, output


def last_state(run: Path) -> dict:
    last = complete_checkpoints(run / "checkpoints")[-1]
    return json.loads((last / "state.json").read_text())


def exported(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "pipeline" / "unet" / "diffusion_pytorch_model.safetensors")


def assert_same_weights(run: Path, other: Path) -> None:
    ours, theirs = exported(run), exported(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_run_that_was_asked_to_stop_and_then_killed_ends_as_the_whole_one_to_the_bit(
    edits, tiny, follow, tmp_path, metrics_of, record_of
):
    run = tmp_path / "run"
    # asked to stop: it finishes its step, writes a checkpoint and says 143
    child = Child(edits, run, threads=1)
    child.wait_for_step(1)
    child.process.send_signal(signal.SIGTERM)
    code, said = child.end()
    assert code == 143, said
    assert "interrupted by SIGTERM" in said
    assert record_of(run)["status"] == "interrupted"
    stopped = metrics_of(run)[-1]["step"]
    assert 1 <= stopped < STEPS - 3
    state = last_state(run)
    assert state["step"] == stopped
    assert state["threads"] == 1

    # resumed on a machine of more threads, and killed at any step, checkpoints being 3 apart
    killed = random.randint(stopped + 1, STEPS - 2)
    child = Child(edits, run, threads=2)
    child.wait_for_step(killed)
    child.process.kill()
    assert child.end()[0] == -signal.SIGKILL
    assert status_of(record_of(run)) == "killed"
    assert last_state(run)["threads"] == 1

    # ended in this process, as its command would
    config = tiny(TrainUnetConfig, edits, **SETTINGS, dtype="auto")
    torch.set_num_threads(2)
    follow(train_unet, config, run)
    assert record_of(run)["status"] == "done"
    assert last_state(run)["threads"] == 1

    torch.set_num_threads(1)
    whole = follow(train_unet, config, tmp_path / "whole")
    rows = metrics_of(run)
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1)), (stopped, killed)
    assert {"loss", "loss_noise", "loss_region", "loss_global", "grad_norm"} <= rows[0].keys()
    assert {"grad_norm_noise", "grad_norm_region", "cos_region", "cos_scene"} <= rows[0].keys()
    assert rows == metrics_of(whole), (stopped, killed)
    assert record_of(run)["config"] == record_of(whole)["config"]
    assert_same_weights(run, whole)


class StopSoon(Silent):
    """A progress that lets the time of --stop-after pass once so many steps were taken."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def stage(self, name, total=None, done=0, unit="steps"):
        return nullcontext(self if name == "training" else Silent())

    def advance(self, count: int = 1, **values: float) -> None:
        self.left -= count
        if count and self.left == 0:
            stop_after(1e-3)
            signal.pause()


def test_at_the_time_to_stop_after_a_checkpoint_is_written_and_the_run_goes_on_to_the_bit(
    edits, tiny, follow, tmp_path, metrics_of
):
    config = tiny(TrainUnetConfig, edits, **SETTINGS)
    with pytest.raises(Interrupted) as stopped:
        follow(train_unet, config, tmp_path / "run", StopSoon(4))
    assert stopped.value.exit_code == 128 + signal.SIGALRM
    assert last_state(tmp_path / "run")["step"] == 4
    run = follow(train_unet, config, tmp_path / "run")
    whole = follow(train_unet, config, tmp_path / "whole")
    assert metrics_of(run) == metrics_of(whole)
    assert_same_weights(run, whole)


def test_ctrl_c_in_this_process_resumes_to_the_bit_with_another_log_and_checkpoint_rhythm(
    edits, tiny, follow, stop_after, tmp_path, metrics_of, record_of
):
    config = tiny(TrainUnetConfig, edits, **SETTINGS | {"steps": 5, "log_every": 2})
    whole = follow(train_unet, config, tmp_path / "whole")
    with pytest.raises(Interrupted) as stopped:
        follow(train_unet, config, tmp_path / "run", stop_after("training", 2))
    assert stopped.value.exit_code == 130
    assert last_state(tmp_path / "run")["step"] == 2
    assert not (tmp_path / "run" / "pipeline").exists()
    run = follow(train_unet, config, tmp_path / "run")
    assert [row["step"] for row in metrics_of(run)] == [2, 4, 5]
    assert metrics_of(run) == metrics_of(whole)
    assert_same_weights(run, whole)


def test_a_stop_during_the_last_step_leaves_only_the_export_to_be_done(
    edits, tiny, follow, stop_after, tmp_path, metrics_of
):
    config = tiny(TrainUnetConfig, edits, batch_size=2, steps=2, region_loss=False)
    with pytest.raises(Interrupted):
        follow(train_unet, config, tmp_path / "run", stop_after("training", 2))
    before = metrics_of(tmp_path / "run")
    run = follow(train_unet, config, tmp_path / "run")
    assert metrics_of(run) == before
    assert (run / "pipeline" / "model_index.json").is_file()


def test_the_number_of_threads_is_taken_over_before_anything_is_encoded(
    edits, tiny, follow, stop_after, tmp_path, monkeypatch
):
    config = tiny(TrainUnetConfig, edits, batch_size=2, steps=2, region_loss=False)
    torch.set_num_threads(1)
    with pytest.raises(Interrupted):
        follow(train_unet, config, tmp_path / "run", stop_after("training", 1))
    torch.set_num_threads(2)
    seen, encode_once = [], module.encode_once

    def watched(*given, **named):
        seen.append(torch.get_num_threads())
        return encode_once(*given, **named)

    monkeypatch.setattr(module, "encode_once", watched)
    follow(train_unet, config, tmp_path / "run")
    assert seen == [1]
    assert last_state(tmp_path / "run")["threads"] == 1


def test_what_a_killed_process_left_half_written_is_no_checkpoint_and_goes(
    edits, tiny, follow, stop_after, tmp_path, metrics_of
):
    config = tiny(TrainUnetConfig, edits, batch_size=2, steps=3, region_loss=False)
    whole = follow(train_unet, config, tmp_path / "whole")
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        follow(train_unet, config, run, stop_after("training", 1))
    half = run / "checkpoints" / ".step-000002.1"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    cut = run / "checkpoints" / "step-000002"
    cut.mkdir()
    (cut / "model.safetensors").write_bytes(b"half")
    follow(train_unet, config, run)
    assert not half.exists()
    assert metrics_of(run) == metrics_of(whole)
    assert_same_weights(run, whole)
