"""Stop requests by signal: honoured between two steps of a loop, deferred while a run is closed."""

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

# The signals of terminals (INT, QUIT, HUP), supervisors (TERM, PWR), schedulers ahead of a limit
# (USR1, USR2, XCPU) and alarms that end a process but leave it time to save its work.
POLITE = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGALRM",
          "SIGPWR")  # fmt: skip
STOPPING = "stopping after this step (again to stop at once{})"
PAIR = 1.0  # seconds within which a second signal counts as a repeat of the first


def announce(words: str) -> None:
    """Say that a loop will stop; the command line puts its own way of saying so in this place."""


class Interrupted(BaseException):
    """A stop was requested, and the work so far is saved. `exit_code` is 128 + the signal's number.

    That is 130 after Ctrl-C and 143 after SIGTERM.
    """

    def __init__(self, signal_number: int) -> None:
        """Name the signal in the message."""
        super().__init__(f"interrupted by {signal.Signals(signal_number).name}")
        self.exit_code = 128 + signal_number


class StopRequest:
    """A flag that a signal sets and a loop checks between two steps."""

    def __init__(self) -> None:
        """Start without a request."""
        self.signal_number: int | None = None
        self._heard_at = 0.0

    def __bool__(self) -> bool:
        """Tell whether a stop was requested."""
        return self.signal_number is not None

    def hear(self, number: int) -> None:
        """Record a signal; only the first one counts."""
        if self.signal_number is None:
            self.signal_number, self._heard_at = number, time.monotonic()

    def is_urged_by(self, number: int) -> bool:
        """Tell whether another signal means "at once": a Ctrl-C well after the first signal.

        All others are sent repeatedly without such a meaning: timeout(1) signals the process and
        then its group, a closing terminal and its shell both send SIGHUP, some schedulers repeat
        theirs, and SIGXCPU comes every second. To end a process at once, there is SIGKILL.
        """
        return bool(self) and number == signal.SIGINT and time.monotonic() - self._heard_at > PAIR

    def raise_if_set(self) -> None:
        """Raise `Interrupted` if a stop was requested; call it after saving."""
        if self.signal_number is not None:
            raise Interrupted(self.signal_number)


def stop_signals() -> list[signal.Signals]:
    """List the signals that ask this process to end, without those that it ignores.

    nohup makes it ignore SIGHUP, and a script's shell SIGINT in a command started with `&`.
    """
    known = [getattr(signal, name) for name in POLITE if hasattr(signal, name)]
    return [number for number in known if signal.getsignal(number) not in (signal.SIG_IGN, None)]


def stop_after(seconds: float) -> None:
    """Have a SIGALRM ask this process to stop, so long from now; also where it was ignored."""
    if signal.getsignal(signal.SIGALRM) is signal.SIG_IGN:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        raise_on_stop_signals()
    signal.setitimer(signal.ITIMER_REAL, seconds)


def raise_on_stop_signals() -> None:
    """Raise `Interrupted` at the first signal from now on, wherever the program is then.

    A Ctrl-C well after it ends the process at once; further signals are ignored.
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
def stop_between_steps(*, second_ends: bool = True, loses: str = "") -> Iterator[StopRequest]:
    """Turn every signal that asks the process to end into a request, for the duration of a loop.

    The first signal sets the request: the loop finishes its step, saves its work and calls
    `raise_if_set`. A Ctrl-C well after it ends the process at once. Outside the main thread signals
    cannot be caught, and the request is never set.

    Args:
        second_ends: Whether such a Ctrl-C ends the process. False under a launcher, which passes on
            the Ctrl-C that each process already got, and kills those that take too long.
        loses: What is lost then, for the words at the first Ctrl-C: ", without a checkpoint".
    """
    request = StopRequest()

    def ask(number: int, frame: FrameType | None) -> None:
        if second_ends and request.is_urged_by(number):
            os._exit(128 + number)
        if second_ends and not request and number == signal.SIGINT:
            announce(STOPPING.format(loses))
        request.hear(number)

    with _handled_by(ask):
        yield request


@contextmanager
def signals_held() -> Iterator[StopRequest]:
    """Defer every signal that asks the process to end while the block runs.

    The first one sets the request; the caller decides whether to raise it afterwards. Outside the
    main thread signals cannot be caught, and the request is never set.
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
