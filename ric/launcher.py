"""The variables that a launcher (torchrun, `accelerate launch`) sets for each process."""

from __future__ import annotations

import os

from ric.errors import RicError

# how many processes mpirun or srun have started: they say nothing else that torch reads
SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
# torchrun sets all of them
LAUNCHER_VARIABLES = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def launched_processes() -> int:
    """Return the number of processes that a launcher has started together; 1 without a launcher.

    Raises:
        RicError: WORLD_SIZE is above 1 and the variables of this process's rank or of the meeting
            point are missing or out of range; one of them is not a number; or mpirun or srun has
            started others.
    """
    if not os.environ.get("WORLD_SIZE"):
        _refuse_others_alone()
    count = _number("WORLD_SIZE", 1)
    if count == 1:
        return 1
    hint = (
        f"Start them with: torchrun --nproc-per-node {count} -m -- ric_cli …, "
        "or unset WORLD_SIZE to use one process."
    )
    missing = [name for name in LAUNCHER_VARIABLES if not os.environ.get(name)]
    if missing:
        raise RicError(
            f"WORLD_SIZE is {count}, as if a launcher had started {count} processes, "
            f"but {', '.join(missing)} is not set.",
            hint,
        )
    number = _number("RANK", 0)
    if number >= count:
        raise RicError(f"RANK is {number}, but WORLD_SIZE is only {count}.", hint)
    _number("LOCAL_RANK", 0)
    _number("LOCAL_WORLD_SIZE", 1)
    _number("MASTER_PORT", 1)
    return count


def _refuse_others_alone() -> None:
    """Stop where each of several processes would do all of the work (Raises RicError)."""
    for name in SIZES:
        count = os.environ.get(name, "")
        if count.isdecimal() and int(count) > 1:
            raise RicError(
                f"{name} is {count}: each of the {count} processes that mpirun or srun has started"
                " would do the whole work.",
                f"Start them with: torchrun --nproc-per-node {count} -m -- ric_cli …, or set"
                " WORLD_SIZE=1 if that is meant.",
            )


def _number(name: str, least: int) -> int:
    told = os.environ.get(name) or str(least)
    if not told.isdecimal() or int(told) < least:
        raise RicError(
            f"{name} is {told!r}, which is not a number of at least {least}.",
            "A launcher sets it; unset it to use one process.",
        )
    return int(told)
