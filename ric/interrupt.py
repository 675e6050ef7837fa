"""Ctrl-C and SIGTERM: asked between two steps of a loop, held back while a run is closed."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType


class Interrupted(BaseException):
    """A command was asked to stop; what it had is saved. `exit_code` is 130 or 143."""

    def __init__(self, signal_number: int) -> None:
        """Name the signal that asked."""
        super().__init__(f"interrupted by {signal.Signals(signal_number).name}")
        self.exit_code = 128 + signal_number


class StopRequest:
    """What a loop asks between two steps: has somebody asked us to stop?"""

    def __init__(self) -> None:
        """Start with nothing asked."""
        self.signal_number: int | None = None

    def __bool__(self) -> bool:
        """Tell whether a stop was asked for."""
        return self.signal_number is not None

    def raise_if_set(self) -> None:
        """Raise `Interrupted` when a stop was asked for; call it after what there is is saved."""
        if self.signal_number is not None:
            raise Interrupted(self.signal_number)


@contextmanager
def stop_between_steps(*, second_ends: bool = True) -> Iterator[StopRequest]:
    """Turn SIGINT and SIGTERM into a request for the duration of a loop.

    The first signal sets the request: the loop finishes its step, writes what it has and calls
    `raise_if_set`. A second one ends the process at once with 130 or 143. Outside the main thread
    signals cannot be caught, and the request is never set.

    Args:
        second_ends: False where a launcher passes on the signal that each process got already:
            a second one then says nothing new, and the launcher kills those that take too long.
    """
    request = StopRequest()

    def ask(signal_number: int, frame: FrameType | None) -> None:
        if request and second_ends:
            os._exit(128 + signal_number)
        if not request:
            request.signal_number = signal_number

    with _handled_by(ask):
        yield request


@contextmanager
def signals_held() -> Iterator[StopRequest]:
    """Let SIGINT and SIGTERM wait while the block runs, however many come.

    The first one sets the request, and whether it is raised afterwards is for the caller to say.
    Outside the main thread signals cannot be caught, and the request is never set.
    """
    request = StopRequest()

    def hold(signal_number: int, frame: FrameType | None) -> None:
        if not request:
            request.signal_number = signal_number

    with _handled_by(hold):
        yield request


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
