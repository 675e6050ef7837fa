"""The examples for Slurm, as they stand, on a cluster of two nodes on the loopback.

Without one, the training's script runs as a process beside a scontrol that notes what is
put back into the queue.
"""

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


def write_tool(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, tiny_family) -> Iterator[Cluster]:
    """Whose jobs find `ric` as it is here."""
    with started_cluster(tmp_path_factory.mktemp("slurm")) as found:
        found.environment |= with_tools(found.top / "bin", f'exec {sys.executable} -m ric_cli "$@"')
        yield found


def with_tools(tools: Path, ric: str) -> dict[str, str]:
    """Return the variables with which `ric` is a script, of the sources as they are here."""
    write_tool(tools, "ric", ric)
    sources = os.pathsep.join([str(SLURM.parents[1]), os.environ.get("PYTHONPATH", "")])
    return {"PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": sources}


def submit(cluster: Cluster, script: str, folder: Path, *words: object) -> str:
    """Give a job to the cluster; return its number."""
    options = ("--parsable", "--chdir", folder, "--output", folder / "%x-%a.log")
    return cluster.call("sbatch", *options, SLURM / script, *words)


def rows(run: Path) -> dict[str, dict]:
    lines = (run / "edits.jsonl").read_text().splitlines()
    return {row["id"]: row for row in map(json.loads, lines)}


def rows_so_far(run: Path) -> list[str]:
    return [line for file in run.glob("edits-*.jsonl") for line in file.read_text().splitlines()]


def alone(cluster: Cluster, *words: object) -> None:
    subprocess.run(["ric", *map(str, words)], env=cluster.environment, check=True)


@pytest.mark.slow
def test_an_array_of_which_a_task_is_killed_and_requeued_makes_the_run_of_one_process(
    cluster, tmp_path
):
    words = (*SCENES, "--split", "all", "--limit", "24", "--steps", "2", "--batch-size", "2")
    shared, whole = tmp_path / "runs/edited", tmp_path / "whole"
    job = submit(cluster, "array.sbatch", tmp_path, "runs/edited", *words)
    cluster.wait_until(lambda: rows_so_far(shared))
    cluster.kill(f"{job}_1")
    cluster.wait_until(lambda: cluster.state_of(f"{job}_1") == "FAILED")
    assert len(rows_so_far(shared)) < 24
    cluster.call("scontrol", "requeue", f"{job}_1")
    cluster.call("scontrol", "update", f"JobId={job}_1", "StartTime=now")
    # one that finds only what the killed one had begun ends before that one is back
    cluster.wait_until(lambda: set(cluster.state_of(job).split()) <= {"COMPLETED", "FAILED"})
    assert cluster.state_of(f"{job}_1") == "COMPLETED"
    assert "Restarts=1" in cluster.call("scontrol", "show", "job", f"{job}_1")
    alone(cluster, "edit", *words, "--run", whole)
    assert json.loads((shared / "run.json").read_text())["status"] == "done"
    assert rows(shared) == rows(whole)
    assert len((shared / "edits.jsonl").read_text().splitlines()) == len(rows(whole)) == 24
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


# --- without a cluster ---------------------------------------------------------------------------


class Queue:
    """Slices of a training as processes; what they put back into the queue is noted.

    Args:
        top: The folder of the tools and the notes.
        ric: What `ric` is, a shell script.
    """

    def __init__(self, top: Path, ric: str) -> None:
        self._notes = top / "requeued.txt"
        write_tool(top / "bin", "scontrol", f'echo "$@" >> {self._notes}')
        tools = with_tools(top / "bin", ric)
        self._environment = os.environ | tools | {"SLURM_JOB_ID": "7"}

    def slice(self, run: Path, *words: object, **variables: str) -> tuple[int, str]:
        """Run one; return its exit code and what it said."""
        script = ["bash", str(SLURM / "train.sbatch"), str(run), *map(str, words)]
        done = subprocess.run(
            script, env=self._environment | variables, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        return done.returncode, done.stdout

    @property
    def requeued(self) -> list[str]:
        return self._notes.read_text().splitlines() if self._notes.is_file() else []


# a training that has a checkpoint or not, and ends with a code
ENDS = (
    'for run; do :; done; [ -z "$SAVED" ] || mkdir -p "$run/checkpoints/step-000004"; exit "$CODE"'
)


@pytest.mark.parametrize(
    ("code", "saved", "again"),
    [(142, True, True), (138, True, True), (142, False, False), (138, False, False),
     (0, True, False), (1, True, False), (3, True, False), (143, True, False)],
)  # fmt: skip
def test_only_a_slice_that_was_over_and_has_a_checkpoint_goes_back_into_the_queue(
    code, saved, again, tmp_path
):
    queue = Queue(tmp_path, ENDS)
    told = {"CODE": str(code), "SAVED": "yes" if saved else ""}
    ended, said = queue.slice(tmp_path / "run", "DATA", **told)
    assert ended == code
    assert queue.requeued == (["requeue 7"] if again else [])
    assert ("Back into the queue after step-000004\n" in said) is again


# `ric` whose seconds of --stop-after are steps that it logs: a slice's share of a run is then the
# same on every machine
IN_STEPS = """
import os, signal, sys, threading, time
from pathlib import Path
import ric_cli.job
from ric_cli.main import main

def stop_after(count):
    file = Path(sys.argv[-1]) / "metrics.jsonl"
    logged = lambda: file.read_bytes().count(b"\\n") if file.exists() else 0
    last = logged() + count
    def wait():
        while logged() < last:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGALRM)
    threading.Thread(target=wait, daemon=True).start()

ric_cli.job.stop_after = stop_after
main()
"""


@pytest.mark.slow
def test_a_training_in_slices_of_stop_after_ends_with_the_weights_of_one_slice(
    tmp_path, tiny_family
):
    (tmp_path / "in_steps.py").write_text(IN_STEPS)
    queue = Queue(tmp_path, f'exec {sys.executable} {tmp_path}/in_steps.py "$@"')
    run, whole, words = tmp_path / "run", tmp_path / "whole", (*TRAINED, "--steps", "60")
    slices, code = [0], 142
    while code == 142:
        code, said = queue.slice(run, *words, "--log-every", "1", "--stop-after", "20s")
        assert code in (0, 142), said
        assert slices[-1] == 0 or f"resuming after step {slices[-1]} of 60" in said
        slices.append(steps_of(run)[-1])
        assert slices[-1] > slices[-2]
        assert len(queue.requeued) == len(slices) - 1 - (code == 0)
    assert len(slices) > 2
    code, said = queue.slice(whole, *words, "--log-every", "1")
    assert code == 0, said
    assert steps_of(run) == steps_of(whole) == list(range(1, 61))
    assert unet_of(run) == unet_of(whole)
