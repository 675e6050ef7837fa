"""One line for whoever waits while libraries load; none where they load quickly."""

from __future__ import annotations

import os
import sys
from threading import Timer

from ric.launcher import launched_processes

AFTER = 2.0  # seconds
LOADING = "Loading the libraries: this may take ten seconds or more."


class _Wait:
    """The wait of one command.

    Attributes:
        timer: Runs from the start to the first progress; None outside of that.
        told: Whether the line was written.
    """

    def __init__(self) -> None:
        self.timer: Timer | None = None
        self.told = False

    def tell(self) -> None:
        self.told = True
        # not by rich: it may be just what the other thread imports
        sys.stderr.write(f"{LOADING}\n")


_wait = _Wait()


def say_if_slow() -> None:
    """Say once that libraries load, unless progress begins or the command ends within seconds.

    Of the processes of a launcher the first one speaks.
    """
    is_another = launched_processes() > 1 and os.environ["RANK"] != "0"
    has_begun()
    if _wait.told or is_another:
        return
    _wait.timer = Timer(AFTER, _wait.tell)
    _wait.timer.daemon = True
    _wait.timer.start()


def has_begun() -> None:
    """Note that progress is shown: nothing is said of libraries."""
    if _wait.timer is not None:
        _wait.timer.cancel()
        _wait.timer = None


def has_ended() -> None:
    """Note that the command is over; another one in this process begins anew."""
    has_begun()
    _wait.told = False
