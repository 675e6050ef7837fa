"""What all tests share: the tiny family, and the rule that every skip has an allowed reason."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ric.interrupt import stop_signals

pytest_plugins = ["metric_fixtures", "run_fixtures", "chain_fixtures"]

ALLOWED_SKIPS = Path(__file__).parent / "allowed_skips.txt"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run tests that take minutes")
    parser.addoption("--hub", action="store_true", help="also run tests on pretrained weights")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    import torch

    reasons = {}
    if not torch.cuda.is_available():
        reasons["gpu"] = "gpu: no CUDA device"
    if not config.getoption("--hub"):
        reasons["hub"] = "hub: needs pretrained weights (pytest --hub)"
    if not config.getoption("--slow"):
        reasons["slow"] = "slow: takes minutes (pytest --slow)"
    for item in items:
        for marker, reason in reasons.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def allowed_skips() -> set[str]:
    lines = ALLOWED_SKIPS.read_text().splitlines()
    return {line.strip() for line in lines if line.strip() and not line.startswith("#")}


def _skips(reporter: pytest.TerminalReporter) -> dict[str, str]:
    """Collect skipped tests with their reasons."""
    found = {}
    for report in reporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        found[report.nodeid] = str(reason).removeprefix("Skipped: ")
    return found


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    unknown = reporter and set(_skips(reporter).values()) - allowed_skips()
    if unknown and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skips = _skips(terminalreporter)
    terminalreporter.section("skipped tests and their reasons")
    for reason, count in sorted(Counter(skips.values()).items()):
        known = "" if reason in allowed_skips() else "  <- NOT in tests/allowed_skips.txt"
        terminalreporter.line(f"{count} x {reason}{known}")
        for test, why in skips.items():
            if why == reason:
                terminalreporter.line(f"    {test}")
    if not skips:
        terminalreporter.line("none")


@pytest.fixture(autouse=True)
def no_width_of_a_terminal() -> None:
    """Take COLUMNS from tests and their children.

    GNU readline, once anything imports it, sets it for the children of the process, past
    os.environ: for tests' commands, and for the workers of pytest-xdist.
    """
    os.environ.pop("COLUMNS", None)
    os.unsetenv("COLUMNS")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Callable[[], None]:
    """Run every fixture and test, and every process that they start, on one thread.

    Networks this small gain nothing from a second one and wait for it on a busy machine; and bits
    are compared, which depend on how sums are split.
    """
    import torch

    def take_one() -> None:
        torch.set_num_threads(1)
        os.environ["OMP_NUM_THREADS"] = "1"

    take_one()
    return take_one


@pytest.fixture(scope="session", autouse=True)
def signals_are_heard() -> None:
    """Hear signals that whoever started the tests has set to be ignored, as nohup and `&` do."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def one_thread_again(one_thread: Callable[[], None]) -> None:
    """Undo what another test has set."""
    one_thread()


@pytest.fixture(autouse=True)
def surroundings_as_they_were() -> Iterator[None]:
    """Put back signals, the alarm and variables, which `main()` makes its own."""
    handlers = {number: signal.getsignal(number) for number in stop_signals()}
    variables = dict(os.environ)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)  # of --stop-after
    for number, handler in handlers.items():
        signal.signal(number, handler)
    os.environ.clear()
    os.environ.update(variables)


@pytest.fixture(autouse=True)
def libraries_load_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no command of this process say that libraries load, however busy the machine is."""
    monkeypatch.setattr("ric_cli.loading.AFTER", 3600.0)


@pytest.fixture(autouse=True)
def no_host_is_known_to_be_unreachable() -> None:
    """Forget the hosts that another test could not reach: its ports may be a server's now."""
    from ric.weights import connection

    connection.unreachable.clear()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep what is built on first use out of the home folder, for this process and children."""
    os.environ["RIC_CACHE_DIR"] = str(tmp_path_factory.mktemp("ric-cache"))


@pytest.fixture(scope="session", autouse=True)
def tiny_family(own_cache: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `--preset tiny` uses here and in child processes: untrained models, built once."""
    if known := os.environ.get("RIC_TINY_FAMILY"):
        return Path(known)  # a session that a test has started
    from untrained_family import build_tiny_family

    folder = build_tiny_family(tmp_path_factory.mktemp("tiny-family"))
    os.environ["RIC_TINY_FAMILY"] = str(folder)
    return folder
