"""What a launcher (torchrun, `accelerate launch`) tells each process that it starts."""

from __future__ import annotations

import os

from ric.errors import RicError

# torchrun sets all of them
TOLD = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def launched_processes() -> int:
    """Count the processes that a launcher has started together; 1 where there was none.

    Raises:
        RicError: WORLD_SIZE says that there are others, and nothing says which one this is or
            where they meet; or one of those variables is no number.
    """
    count = _number("WORLD_SIZE", 1)
    if count == 1:
        return 1
    hint = (
        f"Start them with: torchrun --nproc-per-node {count} -m -- ric_cli …, "
        "or unset WORLD_SIZE to work alone."
    )
    missing = [name for name in TOLD if not os.environ.get(name)]
    if missing:
        raise RicError(
            f"WORLD_SIZE is {count}, as where a launcher has started {count} processes, "
            f"but {', '.join(missing)} is not set.",
            hint,
        )
    number = _number("RANK", 0)
    if number >= count:
        raise RicError(f"RANK is {number}, and WORLD_SIZE only {count}.", hint)
    _number("LOCAL_RANK", 0)
    _number("LOCAL_WORLD_SIZE", 1)
    _number("MASTER_PORT", 1)
    return count


def _number(name: str, least: int) -> int:
    told = os.environ.get(name) or str(least)
    if not told.isdecimal() or int(told) < least:
        raise RicError(
            f"{name} is {told!r}, and not a number of at least {least}.",
            "A launcher sets it; unset it to work alone.",
        )
    return int(told)
