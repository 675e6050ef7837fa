"""How long `ric` takes to say something: `ric --help` and a usage error, median of five starts.

    python benchmarks/startup.py

Each is a fresh process, after one that warms the disk's cache. Beside each stands an empty app of
ten commands, started in turn with it: what Typer alone costs on this machine at this moment. The
result is appended to benchmarks/results/startup-<machine>.json.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from _results import append_result, measured_here

STARTS = 5
TARGETS = {"ric --help": 0.3, "ric fit-clip --steps ten": 0.4}  # seconds
EMPTY_APP = """
import typer
app = typer.Typer()
for number in range(10):
    def command(steps: int = 1): "Do nothing."
    app.command(f"c{number}")(command)
app()
"""
# What the empty app is asked for beside each command.
ASKED = {"ric --help": ["--help"], "ric fit-clip --steps ten": ["c1", "--steps", "ten"]}


def seconds(program: list[str], words: list[str]) -> float:
    """Time one start of a Python program."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *program, *words], capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    """Measure, print a table, append the result."""
    result = {
        **measured_here(python=sys.version.split()[0]),
        "seconds": {},
    }
    print(f"{result['machine']}, Python {result['python']}, load {result['load_average']}")
    print(f"{'command':<28}{'median':>8}{'slowest':>9}{'target':>8}{'empty app':>11}{'ratio':>7}")
    for command, target in TARGETS.items():
        ours, empty = [], []
        for _ in range(STARTS + 1):
            ours.append(seconds(["-m", "ric_cli"], command.split()[1:]))
            empty.append(seconds(["-c", EMPTY_APP], ASKED[command]))
        ours, empty = ours[1:], empty[1:]
        median, alone = statistics.median(ours), statistics.median(empty)
        result["seconds"][command] = [round(value, 3) for value in ours]
        result["seconds"][f"{command}, empty app"] = [round(value, 3) for value in empty]
        print(
            f"{command:<28}{median:>7.2f}s{max(ours):>8.2f}s{target:>7.1f}s"
            f"{alone:>10.2f}s{median / alone:>7.2f}"
        )
    print(f"appended to {append_result('startup', result)}")


if __name__ == "__main__":
    main()
