"""`--engine ray`: the command's processes on the nodes of a Ray cluster.

Each worker is a Ray task that runs this command once more, on one GPU or, where the cluster has
none, one CPU. The processes share the run as those that are started by hand (docs/clusters.md):
each takes batches that no other has taken. Ray decides where they run, queues those for which there
is no room yet, and starts one again elsewhere when its node is lost. What a lost process had begun
is left to whoever comes after it: at the end this process does what remains, and closes the run.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ric.errors import RicError
from ric.extras import require_extra
from ric.interrupt import stop_between_steps
from ric.runs.claims import HEARTBEAT_TIMEOUT, Claims
from ric.runs.finished import LISTED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ric.progress import Progress

SOME_FAILED = 3  # a process's exit code: done, but for some samples
RESTARTS = 3  # of one worker whose node or process is lost
POLL = 1.0  # seconds
GRACE = 120.0  # seconds that a stopped process has to finish its batch


class Cluster(NamedTuple):
    """Where the processes run.

    Attributes:
        address: As `ray.init` takes it; None: that of RAY_ADDRESS, or a cluster of this machine
            alone, made for this command.
        workers: How many processes; None: as many as there are GPUs, or else CPUs.
    """

    address: str | None
    workers: int | None


class Ended(NamedTuple):
    """The end of a process.

    Attributes:
        exit_code: Its exit code.
        said: What it wrote to stderr, from the end.
    """

    exit_code: int
    said: str


def work_on_ray(words: list[str], run: Path, cluster: Cluster, progress: Progress) -> None:
    """Run the typed command on a cluster, many times at once, all on one run.

    Args:
        words: The command as it was typed, without `ric`.
        run: The run's folder, on a disk that all nodes share.
        cluster: Where, and how many.
        progress: Shows how many rows there are.

    Raises:
        RicError: Ray is not installed, there is no such cluster, or no worker could do its work.
        Interrupted: a stop was requested; the workers have stopped, too, and their work is kept.
    """
    require_extra("ray", "--engine ray")
    # the last of an option that is given twice counts
    words = [*words, "--engine", "local", "--run", str(run.resolve()), "--quiet"]
    with _connected(cluster) as ray, stop_between_steps() as stop:
        needs = {"num_gpus": 1} if ray.cluster_resources().get("GPU") else {"num_cpus": 1}
        (kind,) = (name.removeprefix("num_")[:-1].upper() for name in needs)
        count = cluster.workers or max(1, int(ray.cluster_resources().get(kind, 0)))
        task = ray.remote(_process).options(
            max_retries=RESTARTS, scheduling_strategy="SPREAD", **needs
        )
        todo = [task.remote(words, os.getcwd()) for _ in range(count)]
        progress.note(f"{count} workers on Ray, a {kind} each")
        finished = _BatchCount(run) if words[0] == "eval" else _RowCount(run)
        with progress.stage("working", unit=finished.unit) as stage:
            while len(ray.wait(todo, num_returns=count, timeout=POLL)[0]) < count and not stop:
                stage.advance(finished.more())
        if stop:
            for one in todo:
                ray.cancel(one)
            ray.wait(todo, num_returns=count, timeout=GRACE)
            stop.raise_if_set()
        _refuse_if_all_failed([_ended(ray, one) for one in todo], progress)
    _wait_for_the_lost(run)


@contextmanager
def _connected(cluster: Cluster) -> Iterator[Any]:
    """Connect to the cluster; yields the module `ray`."""
    import ray

    # a signal stops this command, and with it the workers, and no other
    try:
        ray.init(cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise RicError(
            f"No Ray cluster at {cluster.address or os.environ.get('RAY_ADDRESS')!r}:"
            f" {str(error).splitlines()[0]}",
            "Start one (ray start --head), or omit --ray-address to use this machine alone.",
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _process(words: list[str], folder: str) -> Ended:
    """Run one process to its end, on the node where Ray has put it; a cancelled one is stopped."""
    if not Path(folder).is_dir():
        return Ended(1, f"{folder} is not on this node: --engine ray needs a disk that all share.")
    command = [sys.executable, "-m", "ric_cli", *words]
    with subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",  # it may name files whose names are not UTF-8
    ) as process:
        try:
            _, said = process.communicate()
        except BaseException:
            process.terminate()
            process.communicate(timeout=GRACE)
            raise
    return Ended(process.returncode, said[-2000:])


def _ended(ray: Any, task: Any) -> Ended:
    try:
        return Ended(*ray.get(task))
    except ray.exceptions.RayError as error:
        return Ended(1, f"a worker was lost {RESTARTS + 1} times: {str(error).splitlines()[0]}")


def _refuse_if_all_failed(ended: list[Ended], progress: Progress) -> None:
    """Note what went wrong with some workers (raises RicError if it was so with all)."""
    failed = [one for one in ended if one.exit_code not in (0, SOME_FAILED)]
    reasons = list(dict.fromkeys(" ".join(one.said.split()) for one in failed))
    if len(failed) == len(ended):
        raise RicError(f"No worker could do its work: {reasons[0]}")
    for reason in reasons:
        progress.note(f"{len(failed)} of {len(ended)} workers ended early: {reason}")


def _wait_for_the_lost(run: Path) -> None:
    """Wait until nobody is at work: a process of a lost node counts as alive for a while."""
    claims, began = Claims(run / "claims"), time.monotonic()
    while claims.at_work() and time.monotonic() - began < HEARTBEAT_TIMEOUT + POLL:
        time.sleep(POLL)


class _RowCount:
    """Counts the rows that the processes write; reads each byte once."""

    unit = "rows"

    def __init__(self, run: Path) -> None:
        self.run = run
        self.read: dict[Path, int] = {}

    def more(self) -> int:
        """Count the rows that are new since the last call."""
        found = 0
        for file in self.run.glob("[!.]*-*.jsonl"):
            if file.name.startswith(LISTED):
                continue
            with open(file, "rb") as stream:
                stream.seek(self.read.get(file, 0))
                rows = stream.read()
            self.read[file] = self.read.get(file, 0) + len(rows)
            found += rows.count(b"\n")
        return found


class _BatchCount:
    """Counts the batches that the processes of `ric eval` have scored."""

    unit = "batches"

    def __init__(self, run: Path) -> None:
        self.run = run
        self.seen: set[str] = set()

    def more(self) -> int:
        """Count the batches that are new since the last call."""
        before = len(self.seen)
        self.seen |= {file.name for file in self.run.glob("scored/*/[0-9]*.json")}
        return len(self.seen) - before
