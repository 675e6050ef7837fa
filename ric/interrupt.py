"""A polite request to end: asked between two steps of a loop, held back while a run is closed."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

# What terminals (INT, QUIT, HUP), supervisors (TERM, PWR), schedulers ahead of a limit (USR1, USR2,
# XCPU) and alarms send to end a process that may still write down what it has.
POLITE = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGALRM",
          "SIGPWR")  # fmt: skip
PAIR = 1.0  # seconds in which a second signal is the first one's echo


class Interrupted(BaseException):
    """A command was asked to stop; what it had is saved. `exit_code` is 128 + the signal's number.

    That is 130 after Ctrl-C and 143 after SIGTERM.
    """

    def __init__(self, signal_number: int) -> None:
        """Name the signal that asked."""
        super().__init__(f"interrupted by {signal.Signals(signal_number).name}")
        self.exit_code = 128 + signal_number


class StopRequest:
    """What a loop asks between two steps: has somebody asked us to stop?"""

    def __init__(self) -> None:
        """Start with nothing asked."""
        self.signal_number: int | None = None
        self._heard_at = 0.0

    def __bool__(self) -> bool:
        """Tell whether a stop was asked for."""
        return self.signal_number is not None

    def hear(self, number: int) -> None:
        """Take a signal; the first one is the request."""
        if self.signal_number is None:
            self.signal_number, self._heard_at = number, time.monotonic()

    def is_urged_by(self, number: int) -> bool:
        """Tell whether one more signal means "at once": a Ctrl-C well after the first signal.

        All others come more than once of their own accord: timeout(1) signals the process and then
        its group, a closing terminal and its shell both send SIGHUP, some schedulers repeat
        theirs, and SIGXCPU comes every second. Who has no patience left sends SIGKILL.
        """
        return bool(self) and number == signal.SIGINT and time.monotonic() - self._heard_at > PAIR

    def raise_if_set(self) -> None:
        """Raise `Interrupted` when a stop was asked for; call it after what there is is saved."""
        if self.signal_number is not None:
            raise Interrupted(self.signal_number)


def stop_signals() -> list[signal.Signals]:
    """List the signals that ask this process to end, without those that are set to be ignored.

    nohup ignores SIGHUP, and a script's shell ignores SIGINT in what it starts with `&`.
    """
    known = [getattr(signal, name) for name in POLITE if hasattr(signal, name)]
    return [number for number in known if signal.getsignal(number) not in (signal.SIG_IGN, None)]


def raise_on_stop_signals() -> None:
    """Raise `Interrupted` at the first signal from now on, wherever the program is then.

    A Ctrl-C well after it ends the process at once; what else comes meanwhile says nothing new.
    """
    request = StopRequest()

    def stop(number: int, frame: FrameType | None) -> None:
        if request.is_urged_by(number):
            os._exit(128 + number)
        if not request:
            request.hear(number)
            raise Interrupted(number)

    for number in stop_signals():
        signal.signal(number, stop)


@contextmanager
def stop_between_steps(*, second_ends: bool = True) -> Iterator[StopRequest]:
    """Turn every signal that asks the process to end into a request, for the duration of a loop.

    The first signal sets the request: the loop finishes its step, writes what it has and calls
    `raise_if_set`. A Ctrl-C well after it ends the process at once. Outside the main thread signals
    cannot be caught, and the request is never set.

    Args:
        second_ends: False where a launcher passes on the Ctrl-C that each process got already: a
            second one then says nothing new, and the launcher kills those that take too long.
    """
    request = StopRequest()

    def ask(number: int, frame: FrameType | None) -> None:
        if second_ends and request.is_urged_by(number):
            os._exit(128 + number)
        request.hear(number)

    with _handled_by(ask):
        yield request


@contextmanager
def signals_held() -> Iterator[StopRequest]:
    """Let every signal that asks the process to end wait while the block runs.

    The first one sets the request, and whether it is raised afterwards is for the caller to say.
    Outside the main thread signals cannot be caught, and the request is never set.
    """
    request = StopRequest()
    with _handled_by(lambda number, frame: request.hear(number)):
        yield request


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in stop_signals()}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
