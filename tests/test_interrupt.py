"""Stopping: a signal asks, an impatient Ctrl-C leaves at once; while a run is closed all wait."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

import ric.interrupt
from ric.interrupt import (
    PAIR,
    Interrupted,
    raise_on_stop_signals,
    signals_held,
    stop_after,
    stop_between_steps,
    stop_signals,
)

BOTH = pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
EACH = pytest.mark.parametrize("number", stop_signals(), ids=lambda number: number.name)


def test_what_terminals_schedulers_and_supervisors_send_is_heard():
    asked = {number.name for number in stop_signals()}
    assert asked >= {"SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGXCPU"}


@EACH
def test_a_signal_that_is_set_to_be_ignored_stays_ignored(number):
    signal.signal(number, signal.SIG_IGN)
    for catch in (stop_between_steps, signals_held):
        with catch() as stop:
            os.kill(os.getpid(), number)
            assert not stop
    raise_on_stop_signals()
    os.kill(os.getpid(), number)
    assert signal.getsignal(number) is signal.SIG_IGN


@pytest.fixture
def later(monkeypatch):
    """Let time pass."""
    clock = [100.0]
    monkeypatch.setattr(ric.interrupt.time, "monotonic", lambda: clock[0])

    def pass_by(seconds: float) -> None:
        clock[0] += seconds

    return pass_by


@EACH
def test_an_echo_of_the_first_signal_changes_nothing(number, later):
    with stop_between_steps() as stop:
        os.kill(os.getpid(), number)
        later(PAIR / 2)
        for again in stop_signals():
            os.kill(os.getpid(), again)
        assert stop.signal_number == number


@pytest.mark.parametrize(
    "number", set(stop_signals()) - {signal.SIGINT}, ids=lambda number: number.name
)
def test_only_an_impatient_ctrl_c_means_at_once(number, later):
    with stop_between_steps() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        later(10 * PAIR)
        os.kill(os.getpid(), number)
        assert stop.signal_number == signal.SIGTERM
        assert stop.is_urged_by(signal.SIGINT)
        assert not stop.is_urged_by(number)


@pytest.mark.parametrize("before", [signal.SIG_IGN, signal.SIG_DFL])
def test_the_time_to_stop_after_asks_even_where_alarms_were_ignored(before):
    signal.signal(signal.SIGALRM, before)
    raise_on_stop_signals()
    stop_after(0.02)
    with stop_between_steps() as stop:
        signal.pause()
        assert stop.signal_number == signal.SIGALRM
    stop_after(0.02)
    with pytest.raises(Interrupted) as stopped:
        signal.pause()
    assert stopped.value.exit_code == 142


def test_the_first_ctrl_c_says_what_another_one_would_do_and_others_say_nothing(monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(ric.interrupt, "announce", said.append)
    with stop_between_steps():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
    with stop_between_steps(second_ends=False):
        os.kill(os.getpid(), signal.SIGINT)
    assert said == []
    with stop_between_steps(loses=", without a checkpoint") as stop:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop
    assert said == ["stopping after this step (again to stop at once, without a checkpoint)"]


def test_a_launcher_s_second_signal_changes_nothing_where_it_is_told_so(later):
    with stop_between_steps(second_ends=False) as stop:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
            later(10 * PAIR)
        assert stop.signal_number == signal.SIGINT


@EACH
def test_outside_loops_the_first_signal_is_raised_and_its_echo_is_not(number):
    raise_on_stop_signals()
    with pytest.raises(Interrupted) as raised:
        os.kill(os.getpid(), number)
    assert raised.value.exit_code == 128 + number
    os.kill(os.getpid(), number)


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
import os, signal, sys
import ric.interrupt
from ric.interrupt import raise_on_stop_signals, stop_between_steps
ric.interrupt.PAIR = -1.0  # whatever comes second is well after the first
first = int(sys.argv[1])
try:
    if sys.argv[2] == "loop":
        with stop_between_steps() as stop:
            os.kill(os.getpid(), first)
            print("asked" if stop else "not asked", flush=True)
            os.kill(os.getpid(), signal.SIGINT)
    else:
        raise_on_stop_signals()
        try:
            os.kill(os.getpid(), first)
        except ric.interrupt.Interrupted:
            print("asked", flush=True)
        os.kill(os.getpid(), signal.SIGINT)
    print("still here", flush=True)
finally:
    print("cleaning up", flush=True)
"""


@pytest.mark.parametrize("where", ["loop", "elsewhere"])
@BOTH
def test_a_ctrl_c_well_after_the_first_signal_ends_the_process_at_once(number, code, where):
    words = [sys.executable, "-c", TWO_SIGNALS, str(int(number)), where]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (130, "asked\n")


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
