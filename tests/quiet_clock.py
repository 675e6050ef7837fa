"""A clock for what must not wait: it stands still while this thread is kept from a busy core."""

from __future__ import annotations

import time
from pathlib import Path

SCHEDULED = Path("/proc/thread-self/schedstat")  # nanoseconds on a core, and waiting for one


def quiet_seconds() -> float:
    """Give the seconds of a clock; two readings differ by what an idle machine would take.

    Where the kernel does not count the waiting, it is the wall's clock.
    """
    waited = int(SCHEDULED.read_text().split()[1]) if SCHEDULED.exists() else 0
    return time.monotonic() - waited / 1e9
