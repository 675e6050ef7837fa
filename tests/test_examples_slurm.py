"""The examples for Slurm, as they stand, on a cluster of two nodes on the loopback."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_cluster import Cluster, started_cluster

SLURM = Path(__file__).parents[1] / "examples" / "slurm"
SCENES = ("scenes:60@64#5", "--preset", "tiny", "--device", "cpu")
TRAINED = (*SCENES, "--limit", "8", "--batch-size", "2", "--checkpoint-every", "9")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, tiny_family) -> Iterator[Cluster]:
    """Whose jobs find `ric` as it is here."""
    with started_cluster(tmp_path_factory.mktemp("slurm")) as found:
        tools = found.top / "bin"
        tools.mkdir()
        (tools / "ric").write_text(f'#!/bin/sh\nexec {sys.executable} -m ric_cli "$@"\n')
        (tools / "ric").chmod(0o755)
        sources = os.pathsep.join([str(SLURM.parents[1]), os.environ.get("PYTHONPATH", "")])
        found.environment |= {"PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": sources}
        yield found


def submit(cluster: Cluster, script: str, folder: Path, *words: object) -> str:
    """Give a job to the cluster; return its number."""
    options = ("--parsable", "--chdir", folder, "--output", folder / "%x-%a.log")
    return cluster.call("sbatch", *options, SLURM / script, *words)


def rows(run: Path) -> dict[str, dict]:
    lines = (run / "edits.jsonl").read_text().splitlines()
    return {row["id"]: row for row in map(json.loads, lines)}


def alone(cluster: Cluster, *words: object) -> None:
    subprocess.run(["ric", *map(str, words)], env=cluster.environment, check=True)


@pytest.mark.slow
def test_the_tasks_of_an_array_share_one_run_which_is_that_of_one_process(cluster, tmp_path):
    words = (*SCENES, "--split", "all", "--limit", "24", "--steps", "2", "--batch-size", "2")
    job = submit(cluster, "array.sbatch", tmp_path, "runs/edited", *words)
    cluster.wait_until(lambda: set(cluster.state_of(job).split()) == {"COMPLETED"})
    shared, whole = tmp_path / "runs/edited", tmp_path / "whole"
    alone(cluster, "edit", *words, "--run", whole)
    assert json.loads((shared / "run.json").read_text())["status"] == "done"
    assert rows(shared) == rows(whole)
    assert len(rows(shared)) == 24
    for name in rows(whole):
        picture = f"images/{name}.png"
        assert (shared / picture).read_bytes() == (whole / picture).read_bytes()
    assert len(list(tmp_path.glob("ric-edit-*.log"))) == 4


def steps_of(run: Path) -> list[int]:
    file = run / "metrics.jsonl"
    lines = file.read_text().splitlines() if file.is_file() else []
    return [json.loads(line)["step"] for line in lines if line.endswith("}")]


def unet_of(run: Path) -> str:
    file = run / "pipeline/unet/diffusion_pytorch_model.safetensors"
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.slow
def test_a_signalled_training_goes_back_into_the_queue_and_on_to_the_same_weights(
    cluster, tmp_path
):
    run, words = tmp_path / "runs/trained", (*TRAINED, "--steps", "60", "--log-every", "1")
    job = submit(cluster, "train.sbatch", tmp_path, "runs/trained", *words)
    cluster.wait_until(lambda: steps_of(run))
    cluster.call("scancel", "--signal=USR1", "--batch", job)
    cluster.wait_until(lambda: cluster.state_of(job) == "PENDING")
    stopped = steps_of(run)[-1]
    (checkpoint,) = (run / "checkpoints").iterdir()
    assert checkpoint.name == f"step-{stopped:06d}"
    # it would wait two minutes
    cluster.call("scontrol", "update", f"JobId={job}", "StartTime=now")
    cluster.wait_until(lambda: cluster.state_of(job) == "COMPLETED")
    (log,) = tmp_path.glob("ric-train-*.log")
    said = log.read_text()
    assert "interrupted by SIGUSR1" in said
    assert f"Back into the queue after {checkpoint.name}\n" in said
    assert f"resuming after step {stopped} of 60" in said
    whole = tmp_path / "whole"
    alone(cluster, "train-unet", *words, "--run", whole)
    assert steps_of(run) == steps_of(whole) == list(range(1, 61))
    assert unet_of(run) == unet_of(whole)


@pytest.mark.slow
def test_a_slice_that_is_over_before_it_has_begun_is_not_repeated_for_ever(cluster, tmp_path):
    words = (*TRAINED, "--stop-after", "1s")
    job = submit(cluster, "train.sbatch", tmp_path, "runs/trained", *words)
    cluster.wait_until(lambda: cluster.state_of(job) == "FAILED")
    assert "ExitCode=142:0" in cluster.call("scontrol", "show", "job", job)


@pytest.mark.slow
def test_a_cancelled_training_writes_a_checkpoint_and_stays_cancelled(cluster, tmp_path):
    run, words = tmp_path / "runs/trained", (*TRAINED, "--steps", "9999", "--log-every", "1")
    job = submit(cluster, "train.sbatch", tmp_path, "runs/trained", *words)
    cluster.wait_until(lambda: steps_of(run))
    cluster.call("scancel", "--full", job)
    cluster.wait_until(lambda: cluster.state_of(job) == "CANCELLED")
    cluster.wait_until(lambda: json.loads((run / "run.json").read_text())["status"] != "running")
    (checkpoint,) = (run / "checkpoints").iterdir()
    assert checkpoint.name == f"step-{steps_of(run)[-1]:06d}"
