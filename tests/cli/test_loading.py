"""What is said while libraries load: one line, and none where progress is shown before."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ric_cli import loading
from ric_cli.console import Bars, PlainLines
from ric_cli.loading import LOADING

COMMANDS = [
    ("describe", "my edits", "--preset", "tiny"),
    ("report", "my edits"),
]


class Clock:
    """Timers that go off when they are told to.

    Attributes:
        running: What is to be called.
    """

    def __init__(self) -> None:
        self.running: list[Callable[[], None]] = []
        self.at_once = False

    def timer(self, seconds: float, call: Callable[[], None]) -> Clock.Timer:
        return Clock.Timer(self, call)

    class Timer:
        daemon = False

        def __init__(self, clock: Clock, call: Callable[[], None]) -> None:
            self.clock, self.call = clock, call

        def start(self) -> None:
            assert self.daemon  # else it would hold up the end of the command
            self.clock.running.append(self.call)
            if self.clock.at_once:
                self.call()

        def cancel(self) -> None:
            self.clock.running.remove(self.call)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(loading, "Timer", made.timer)
    return made


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_a_command_that_loads_for_long_says_so_once_on_stderr(ric, data, clock, words):
    clock.at_once = True
    said = ric(*words)
    assert said.err.splitlines().count(LOADING) == 1
    assert said.err.startswith(LOADING)
    assert LOADING not in said.out
    assert ric(*words).err.count(LOADING) == 1  # a second command in one process
    assert LOADING not in ric(*words, "--quiet").err


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_a_command_that_is_over_says_nothing_more(ric, data, clock, words):
    said = ric(*words)
    assert LOADING not in said.err
    assert clock.running == []


@pytest.mark.parametrize("progress", [Bars, PlainLines])
@pytest.mark.parametrize("part", ["note", "stage"])
def test_progress_is_enough_to_see(clock, progress, part):
    loading.say_if_slow()
    assert len(clock.running) == 1
    if part == "note":
        progress().note("Fetching")
    else:
        with progress().stage("editing"):
            assert clock.running == []
    assert clock.running == []


def test_of_several_processes_one_speaks(clock, monkeypatch):
    told = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "here"}
    for name, value in {**told, "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    loading.say_if_slow()
    assert clock.running == []
    monkeypatch.setenv("RANK", "0")
    loading.say_if_slow()
    assert len(clock.running) == 1
    loading.has_ended()
