"""The processes of one command: this one alone, or all that a launcher started.

Started as `torchrun --nproc_per_node N -m -- ric_cli …` (or by `accelerate launch` on GPUs), N
processes run one command together. Only the main one opens the run and writes to it; the others
follow it.
"""

from __future__ import annotations

import atexit
import json
import os
import threading
import time
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar, cast

import torch
from accelerate import PartialState
from accelerate.utils import reduce

from ric.errors import RicError, first_line
from ric.interrupt import Interrupted
from ric.launcher import launched_processes
from ric.runs.run import FollowedRun, RunDir

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from accelerate import Accelerator

    from ric.interrupt import StopRequest

Result = TypeVar("Result")
# how long processes wait while one fills a cache, measures or saves
PATIENCE = timedelta(days=1)
MEETING = 600.0  # seconds in which processes started together must have imported torch and met
TELL_AFTER = 10.0  # seconds before a line says who is waited for


class Ranks:
    """This process among those that work together.

    Attributes:
        count: The number of processes.
        number: This process's rank, from 0.
        is_main: Whether this is the main process, the one that writes.
        is_local_main: Whether this is the first process of its machine, which fills its caches.
    """

    def __init__(
        self, device: torch.device, note: Callable[[str], None] = lambda line: None
    ) -> None:
        """Join the process group if there are several; on GPUs each process takes its own.

        Args:
            device: The device to compute on.
            note: Called with a line that says which processes this one waits for.

        Raises:
            RicError: the launcher's variables are incomplete, or the others do not join.
        """
        if (count := launched_processes()) > 1 and not torch.distributed.is_initialized():
            _meet("gloo" if device.type == "cpu" else "nccl", count, note)
        state = PartialState(cpu=device.type == "cpu")
        self.count: int = state.num_processes
        self.number: int = state.process_index
        self.is_main = self.number == 0
        self.is_local_main: bool = state.local_process_index == 0
        self._device = state.device if self.count > 1 else device
        self._hosts = _group_of_hosts() if self.count > 1 else None

    def share(self, count: int) -> slice:
        """Return this process's slice of `count` items; the slices are contiguous, without gaps."""
        first, end = (count * place // self.count for place in (self.number, self.number + 1))
        return slice(first, end)

    def all_reduce(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum a tensor of one shape over all processes; all must call this."""
        return reduce(tensor, "sum") if self.count > 1 else tensor

    def any_stop(self, stop: StopRequest) -> int | None:
        """Return the signal that asked any process to stop, or None; all must call this."""
        if self.count == 1:
            return stop.signal_number
        asked = torch.tensor(stop.signal_number or 0)
        torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX, group=self._hosts)
        return int(asked) or None

    def leave_together(self, asked: int) -> NoReturn:
        """Raise `Interrupted` once every process has reached this; all must call this.

        If one left first, the launcher would stop the others while they save.
        """
        self.barrier()
        raise Interrupted(asked)

    def barrier(self) -> None:
        """Wait until every process has reached this; all must call this."""
        self.broadcast()

    def broadcast(self, text: str = "") -> str:
        """Return the main process's text in every process; all must call this."""
        if self.count == 1:
            return text
        said = torch.tensor(list(text.encode() if self.is_main else b""), dtype=torch.int32)
        length = int(self.all_reduce(torch.tensor(len(said), device=self._device)).item())
        letters = torch.zeros(length, dtype=torch.int32, device=self._device)
        letters[: len(said)] = said.to(self._device)
        return bytes(self.all_reduce(letters).tolist()).decode()

    def once_per_machine(self, make: Callable[[], Result]) -> Result:
        """Call `make` in one process per machine first, then in the others; all must call this.

        The first fills a cache, which the others read. Machines that share a cache's disk each fill
        it; the first complete one stays.
        """
        made = make() if self.is_local_main else None
        self.barrier()
        return cast("Result", made) if self.is_local_main else make()


def _meet(backend: str, count: int, note: Callable[[str], None]) -> None:
    """Join the process group; a process that waits for the others can be stopped."""
    place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    others = f"the other {count - 1} of the {count} processes of WORLD_SIZE"
    broken: list[Exception] = []

    def join() -> None:
        try:
            torch.distributed.init_process_group(backend, timeout=PATIENCE)
        except Exception as error:
            broken.append(error)

    # a main thread waiting in there would not handle signals
    waiting = threading.Thread(target=join, daemon=True)
    waiting.start()
    began, told = time.monotonic(), False
    while waiting.is_alive() and time.monotonic() - began < MEETING:
        waiting.join(0.1)
        if not told and time.monotonic() - began > TELL_AFTER:
            note(f"Waiting at {place} for {others}.")
            told = True
    if broken or waiting.is_alive():
        reason = first_line(broken[0]) if broken else f"no connection within {MEETING:.0f} s"
        raise RicError(
            f"Could not connect to {others} at {place}: {reason}.",
            "Start all of them with torchrun, or unset WORLD_SIZE to use one process.",
        )


@cache
def _group_of_hosts() -> torch.distributed.ProcessGroup:
    """Make a group in which the hosts communicate without waiting for their GPUs."""
    group = torch.distributed.new_group(backend="gloo", timeout=PATIENCE)
    return cast("torch.distributed.ProcessGroup", group)


def open_together(
    open_run: Callable[[], RunDir],
    runs_dir: Path,
    device: torch.device,
    note: Callable[[str], None],
) -> RunDir:
    """Open a run in the main process, and follow it in the others.

    Args:
        open_run: Opens or resumes the run; called in the main process only.
        runs_dir: The folder of numbered runs.
        device: The device to train on.
        note: Called with a line that says which processes this one waits for.

    Raises:
        RicError: the run cannot be opened; raised in every process.
    """
    ranks = Ranks(device, note)
    atexit.register(_leave)
    if ranks.is_main:
        try:
            run = open_run()
        except RicError as error:
            ranks.broadcast(json.dumps({"error": [error.message, error.hint]}))
            raise
        ranks.broadcast(json.dumps({"run": str(run.path)}))
        return run
    said = json.loads(ranks.broadcast())
    if "error" in said:
        raise RicError(*said["error"])
    return FollowedRun(Path(said["run"]), runs_dir=runs_dir)


@contextmanager
def loss_told() -> Iterator[None]:
    """Turn the error of a process that has lost the others into one line.

    Raises:
        RicError: another process has ended, or can no longer be reached.
    """
    try:
        yield
    except RuntimeError as error:
        # gloo, the back-end of CPUs, raises plain RuntimeErrors that name its source
        if not isinstance(error, torch.distributed.DistError) and "gloo/" not in str(error):
            raise
        raise RicError(
            f"Another process of this command has ended, or cannot be reached: {first_line(error)}",
            "Start all of them again with the same --run; a training goes on from its last"
            " checkpoint.",
        ) from None


def _leave() -> None:
    """Leave the process group: its threads must not be running when the interpreter ends."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def start_accelerator(device: torch.device, dtype: torch.dtype, ranks: Ranks) -> Accelerator:
    """Start accelerate on `device`, with autocast if `dtype` is bfloat16.

    Args:
        device: The device to train on.
        dtype: What the networks compute in.
        ranks: The processes that train together; with several, their process group is kept.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import GradientAccumulationPlugin

    # accelerate keeps one state per process; a second recipe here may want another precision
    AcceleratorState._reset_state(reset_partial_state=ranks.count == 1)
    return Accelerator(
        mixed_precision="bf16" if dtype == torch.bfloat16 else "no",
        cpu=device.type == "cpu",
        # explicit, since accelerate reads defaults from environment variables
        dynamo_backend="no",
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
    )


def refuse_batch(batch_size: int, processes: int) -> None:
    """Refuse a batch smaller than the number of processes (raises RicError)."""
    if batch_size < processes:
        raise RicError(
            f"--batch-size is {batch_size}, fewer than the {processes} processes.",
            "Give each process at least one sample.",
        )
