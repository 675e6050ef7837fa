"""The start-up time of `ric`: `ric --help` and a usage error, median of nine starts.

    python benchmarks/startup.py

Each is a fresh process, after one that warms the disk's cache and writes the bytecode that an
installed package would have. An empty Typer app of ten commands is started in turn with each, which
shows what Typer alone costs on this machine at this moment. The ratio is of processor time, which
other processes affect least, of the quickest start of each. `--profile` instead lists the modules
that `ric --help` imports and the empty app does not, with each module's own time. The result is
appended to benchmarks/results/startup-<machine>.json.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from _results import append_result, measured_here

STARTS = 9
TARGETS = {"ric --help": 0.3, "ric fit-clip --steps ten": 0.4}  # seconds
EMPTY_APP = """
import typer
app = typer.Typer()
for number in range(10):
    def command(steps: int = 1): "Do nothing."
    app.command(f"c{number}")(command)
app()
"""
# The empty app's arguments beside each command.
ASKED = {"ric --help": ["--help"], "ric fit-clip --steps ten": ["c1", "--steps", "ten"]}


class Start(NamedTuple):
    """Seconds of wall time and of processor time."""

    passed: float
    used: float


def start(program: list[str], words: list[str], bytecode: str) -> Start:
    """Start a Python program and wait until it ends."""
    before, began = os.times(), time.perf_counter()
    subprocess.run(
        [sys.executable, *program, *words], env=_environment(bytecode), capture_output=True
    )
    passed, after = time.perf_counter() - began, os.times()
    used = after.children_user - before.children_user
    return Start(passed, used + after.children_system - before.children_system)


def _environment(bytecode: str) -> dict[str, str]:
    own = {"PYTHONPYCACHEPREFIX": bytecode}
    return {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | own


def import_times(program: list[str], bytecode: str) -> dict[str, float]:
    """Return the milliseconds of each module's own import, the least of a few starts."""
    least: dict[str, float] = {}
    for _ in range(STARTS + 1):
        words = [sys.executable, "-X", "importtime", *program, "--help"]
        done = subprocess.run(
            words, env=_environment(bytecode), capture_output=True, text=True, check=True
        )
        for line in done.stderr.splitlines():
            own, _, name = (part.strip() for part in line.removeprefix("import time:").split("|"))
            if own.isdigit():
                least[name] = min(least.get(name, 1e9), int(own) / 1000)
    return least


def show_profile(bytecode: str) -> None:
    """Print what `ric --help` imports and an empty app does not."""
    ours = import_times(["-m", "ric_cli"], bytecode)
    alone = import_times(["-c", EMPTY_APP], bytecode)
    extra = {name: spent for name, spent in ours.items() if name not in alone}
    for name, spent in sorted(extra.items(), key=lambda item: -item[1]):
        print(f"{name:<40}{spent:>7.2f} ms")
    print(f"{'together':<40}{sum(extra.values()):>7.2f} ms")


def measure(bytecode: str) -> None:
    """Measure, print a table, append the result."""
    result = {**measured_here(python=sys.version.split()[0]), "seconds": {}, "cpu_seconds": {}}
    print(f"{result['machine']}, Python {result['python']}, load {result['load_average']}")
    print(f"{'command':<28}{'median':>8}{'slowest':>9}{'target':>8}{'empty app':>11}{'ratio':>7}")
    for command, target in TARGETS.items():
        ours, empty = [], []
        for _ in range(STARTS + 1):
            ours.append(start(["-m", "ric_cli"], command.split()[1:], bytecode))
            empty.append(start(["-c", EMPTY_APP], ASKED[command], bytecode))
        for label, starts in ((command, ours[1:]), (f"{command}, empty app", empty[1:])):
            result["seconds"][label] = [round(one.passed, 3) for one in starts]
            result["cpu_seconds"][label] = [round(one.used, 3) for one in starts]
        passed = [one.passed for one in ours[1:]]
        alone = statistics.median(one.passed for one in empty[1:])
        ratio = min(one.used for one in ours[1:]) / min(one.used for one in empty[1:])
        print(
            f"{command:<28}{statistics.median(passed):>7.2f}s{max(passed):>8.2f}s{target:>7.1f}s"
            f"{alone:>10.2f}s{ratio:>7.2f}"
        )
    print(f"appended to {append_result('startup', result)}")


def main() -> None:
    """Measure, or with `--profile` list the imports."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--profile", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as bytecode:
        (show_profile if chosen.profile else measure)(bytecode)


if __name__ == "__main__":
    main()
