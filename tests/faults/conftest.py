"""What happens to runs, the same data for all of it, and the count of what was survived."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from disturbed_runs import Disturbed, Undisturbed
from fuzzing import Bounds

COUNT = 6  # samples
PROPERTY = "faults: "


@pytest.fixture
def tally(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Count something that a test has seen; the sums are shown at the end."""

    def add(what: str, count: int = 1) -> None:
        record_property(PROPERTY + what, count)

    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    sums: Counter[str] = Counter()
    reports = (one for kind in ("", "passed") for one in terminalreporter.stats.get(kind, []))
    for report in reports:  # at its end a test has all of its properties
        for name, count in report.user_properties if report.when == "teardown" else ():
            if name.startswith(PROPERTY):
                sums[name.removeprefix(PROPERTY)] += count
    if sums:
        terminalreporter.section("faults that were survived")
        for name, count in sorted(sums.items()):
            terminalreporter.line(f"{count:,} {name}")


@pytest.fixture(scope="session")
def top(make_edits: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of DATA and all runs: no run names a place that another lacks."""
    folder = tmp_path_factory.mktemp("faults")
    make_edits(COUNT).rename(folder / "data")
    return folder


@pytest.fixture(scope="session")
def undisturbed(top: Path) -> Callable[..., Undisturbed]:
    """The run of a command, with further words, to which nothing happens, made once."""
    made: dict[tuple[str, ...], Undisturbed] = {}

    def of(*words: str) -> Undisturbed:
        if words not in made:
            command, *more = words
            run = top / f"whole-{len(made)}"
            one = Disturbed(command, top, run, lambda *given: None, *more)
            made[words] = Undisturbed(one.run, one.completed().moments)
        return made[words]

    return of


@pytest.fixture
def disturbed(top: Path, tally: Callable[..., None], tmp_path: Path) -> Callable[..., Disturbed]:
    """A command, with further words, that has not begun."""
    numbers = itertools.count()

    def of(command: str, *more: str) -> Disturbed:
        return Disturbed(command, top, top / f"{tmp_path.name}-{next(numbers)}", tally, *more)

    return of


@pytest.fixture
def bounds(tmp_path: Path, tally: Callable[..., None]) -> Iterator[Bounds]:
    """The bounds of one test's inputs, which are counted."""
    made = Bounds(tmp_path)
    yield made
    assert made.refused > 0, "no input was malformed enough to be refused"
    tally("malformed inputs tried", made.tried)
    tally("malformed inputs refused in a line", made.refused)
