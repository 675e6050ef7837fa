"""How long `ric` takes to say something: `ric --help` and a usage error, median of five starts.

    python benchmarks/startup.py

Each is a fresh process, after one that warms the disk's cache. The result is appended to
benchmarks/results/startup-<machine>.json; the load average tells how quiet the machine was.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from ric.device import machine_name

STARTS = 5
TARGETS = {"ric --help": 0.3, "ric fit-clip --steps ten": 0.4}  # seconds
RESULTS = Path(__file__).parent / "results"


def seconds(words: list[str]) -> float:
    """Time one start of `ric WORD …`."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "ric_cli", *words], capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    """Measure, print a table, append the result."""
    result = {
        "machine": machine_name(),
        "python": sys.version.split()[0],
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_average": round(os.getloadavg()[0], 2),
        "seconds": {},
    }
    print(f"{result['machine']}, Python {result['python']}, load {result['load_average']}")
    print(f"{'command':<28}{'median':>8}{'slowest':>9}{'target':>8}")
    for command, target in TARGETS.items():
        words = command.split()[1:]
        seconds(words)
        times = [seconds(words) for _ in range(STARTS)]
        median = statistics.median(times)
        result["seconds"][command] = [round(value, 3) for value in times]
        print(f"{command:<28}{median:>7.2f}s{max(times):>8.2f}s{target:>7.1f}s")
    RESULTS.mkdir(exist_ok=True)
    name = re.sub(r"[^A-Za-z0-9]+", "-", result["machine"]).strip("-").lower()
    file = RESULTS / f"startup-{name}.json"
    earlier = json.loads(file.read_text()) if file.is_file() else []
    file.write_text(json.dumps([*earlier, result], indent=2) + "\n")
    print(f"appended to {file}")


if __name__ == "__main__":
    main()
