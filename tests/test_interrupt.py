"""Stopping: a signal asks, a second one leaves at once; while a run is closed all wait."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from ric.interrupt import Interrupted, signals_held, stop_between_steps

BOTH = pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)


def test_a_launcher_s_second_signal_changes_nothing_where_it_is_told_so():
    with stop_between_steps(second_ends=False) as stop:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGTERM):
            os.kill(os.getpid(), number)
        assert stop.signal_number == signal.SIGINT


@BOTH
def test_the_first_signal_asks_and_is_raised_when_the_loop_says_so(number, code):
    with stop_between_steps() as stop:
        stop.raise_if_set()
        assert not stop
        os.kill(os.getpid(), number)
        assert stop
        with pytest.raises(Interrupted) as raised:
            stop.raise_if_set()
    assert raised.value.exit_code == code
    assert str(raised.value) == f"interrupted by {signal.Signals(number).name}"


@BOTH
def test_the_handlers_are_put_back(number, code):
    before = signal.getsignal(number)
    with stop_between_steps():
        assert signal.getsignal(number) is not before
    assert signal.getsignal(number) is before
    with pytest.raises(ValueError, match="x"), stop_between_steps():
        raise ValueError("x")
    assert signal.getsignal(number) is before


TWO_SIGNALS = """
import os, sys
from ric.interrupt import stop_between_steps
try:
    with stop_between_steps() as stop:
        os.kill(os.getpid(), int(sys.argv[1]))
        print("asked" if stop else "not asked", flush=True)
        os.kill(os.getpid(), int(sys.argv[2]))
        print("still here", flush=True)
finally:
    print("cleaning up", flush=True)
"""


@BOTH
def test_the_second_signal_ends_the_process_at_once(number, code):
    words = [sys.executable, "-c", TWO_SIGNALS, str(int(signal.SIGINT)), str(int(number))]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (code, "asked\n")


@BOTH
def test_held_signals_wait_however_many_come(number, code):
    before = signal.getsignal(number)
    with signals_held() as stop:
        for again in (number, signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), again)
        assert stop.signal_number == number
    assert signal.getsignal(number) is before
    with pytest.raises(Interrupted) as raised:
        stop.raise_if_set()
    assert raised.value.exit_code == code


@pytest.mark.parametrize("catch", [stop_between_steps, signals_held])
def test_outside_the_main_thread_nothing_is_caught(catch):
    before = signal.getsignal(signal.SIGINT)
    inside = []

    def work() -> None:
        with catch() as stop:
            inside.append((bool(stop), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert inside == [(False, before)]
