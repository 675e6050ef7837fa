"""Worker processes on all cores."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TYPE_CHECKING

from ric.errors import RicError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def worker_processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """Start `count` processes; they end with the block, and pending work is dropped.

    Raises:
        RicError: one of them was killed.
    """
    # spawned, not forked: the caller may have threads
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        try:
            yield pool
        except BrokenProcessPool:
            raise RicError(
                f"One of {count} worker processes was killed, most often because memory ran out.",
                "Free some memory, and repeat the command.",
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)
