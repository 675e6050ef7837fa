"""The processes of one command: this one alone, or all that a launcher started.

Started as `torchrun --nproc_per_node N -m ric_cli …` (or by `accelerate launch` on GPUs), N
processes do one command's work together. The main one opens the run and alone writes
there; the others follow it.
"""

from __future__ import annotations

import atexit
import json
import os
import threading
import time
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
    from collections.abc import Callable

    from accelerate import Accelerator

    from ric.interrupt import StopRequest

Result = TypeVar("Result")
# the others wait while one fills a cache, measures or saves
PATIENCE = timedelta(days=1)
MEETING = 600.0  # seconds: what a launcher starts together imports torch and is here
TELL_AFTER = 10.0


class Ranks:
    """This process among those that work together.

    Attributes:
        count: How many there are.
        number: This one's, from 0.
        is_main: Whether this is the main process, the one that writes.
        is_local_main: Whether this is the first one of its machine, which fills the caches there.
    """

    def __init__(
        self, device: torch.device, note: Callable[[str], None] = lambda line: None
    ) -> None:
        """Meet the others, if there are any; on GPUs each process takes its own.

        Args:
            device: What is computed on.
            note: Is told whom this process waits for.

        Raises:
            RicError: the launcher's variables are not whole, or the others do not come.
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
        """Give this process's part of `count` items: the parts follow one another without gap."""
        first, end = (count * place // self.count for place in (self.number, self.number + 1))
        return slice(first, end)

    def all_reduce(self, tensor: torch.Tensor) -> torch.Tensor:
        """Add up the processes' tensors of one shape; all must call this."""
        return reduce(tensor, "sum") if self.count > 1 else tensor

    def any_stop(self, stop: StopRequest) -> int | None:
        """Give the signal by which any process was asked to stop, to all; all must call this."""
        if self.count == 1:
            return stop.signal_number
        asked = torch.tensor(stop.signal_number or 0)
        torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX, group=self._hosts)
        return int(asked) or None

    def leave_together(self, asked: int) -> NoReturn:
        """Raise `Interrupted` when every process has come here; all must call this.

        Who leaves first has the launcher stop the others, amid what they are saving.
        """
        self.barrier()
        raise Interrupted(asked)

    def barrier(self) -> None:
        """Go on only when every process has come here; all must call this."""
        self.broadcast()

    def broadcast(self, text: str = "") -> str:
        """Give every process the text of the first one; all must call this."""
        if self.count == 1:
            return text
        said = torch.tensor(list(text.encode() if self.is_main else b""), dtype=torch.int32)
        length = int(self.all_reduce(torch.tensor(len(said), device=self._device)).item())
        letters = torch.zeros(length, dtype=torch.int32, device=self._device)
        letters[: len(said)] = said.to(self._device)
        return bytes(self.all_reduce(letters).tolist()).decode()

    def once_per_machine(self, make: Callable[[], Result]) -> Result:
        """Let a process of each machine make what the others there then find made; all call this.

        Machines whose caches lie on one disk make it each; the first whole one stays.
        """
        made = make() if self.is_local_main else None
        self.barrier()
        return cast("Result", made) if self.is_local_main else make()


def _meet(backend: str, count: int, note: Callable[[str], None]) -> None:
    """Open the process group; whoever waits for the others can be stopped."""
    place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    others = f"the other {count - 1} of the {count} processes that WORLD_SIZE tells of"
    broken: list[Exception] = []

    def join() -> None:
        try:
            torch.distributed.init_process_group(backend, timeout=PATIENCE)
        except Exception as error:
            broken.append(error)

    # a main thread that waits in there would hear no signal
    waiting = threading.Thread(target=join, daemon=True)
    waiting.start()
    began, told = time.monotonic(), False
    while waiting.is_alive() and time.monotonic() - began < MEETING:
        waiting.join(0.1)
        if not told and time.monotonic() - began > TELL_AFTER:
            note(f"Waiting at {place} for {others}.")
            told = True
    if broken or waiting.is_alive():
        reason = first_line(broken[0]) if broken else f"they did not come in {MEETING:.0f} s"
        raise RicError(
            f"Could not meet {others} at {place}: {reason}.",
            "Start all of them with torchrun, or unset WORLD_SIZE to work alone.",
        )


@cache
def _group_of_hosts() -> torch.distributed.ProcessGroup:
    """Let the processes' hosts talk to one another without waiting for their GPUs."""
    group = torch.distributed.new_group(backend="gloo", timeout=PATIENCE)
    return cast("torch.distributed.ProcessGroup", group)


def open_together(
    open_run: Callable[[], RunDir],
    runs_dir: Path,
    device: torch.device,
    note: Callable[[str], None],
) -> RunDir:
    """Let the first process open a run, and follow it with the others.

    Args:
        open_run: Opens or resumes the run; called in the first process alone.
        runs_dir: Where numbered runs live.
        device: What the training runs on.
        note: Is told whom this process waits for.

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


def _leave() -> None:
    """Leave the process group: its threads must not be running when the interpreter ends."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def start_accelerator(device: torch.device, dtype: torch.dtype, ranks: Ranks) -> Accelerator:
    """Start accelerate on `device`, with bf16 autocast where `dtype` asks for it.

    Args:
        device: What is trained on.
        dtype: What the networks compute in.
        ranks: The processes that train together; where there are others, they stay met.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import GradientAccumulationPlugin

    # accelerate keeps one state a process; a second recipe in this one may want another precision
    AcceleratorState._reset_state(reset_partial_state=ranks.count == 1)
    return Accelerator(
        mixed_precision="bf16" if dtype == torch.bfloat16 else "no",
        cpu=device.type == "cpu",
        # said, since accelerate reads variables for what is left out
        dynamo_backend="no",
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
    )


def refuse_batch(batch_size: int, processes: int) -> None:
    """Stop where a process would have no sample of a batch (Raises RicError)."""
    if batch_size < processes:
        raise RicError(
            f"--batch-size is {batch_size}, fewer than the {processes} processes.",
            "Give each process at least one sample.",
        )
