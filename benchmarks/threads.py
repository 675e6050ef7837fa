"""The gain of threads for a small network, and the cost of their waiting beside busy processes.

    python benchmarks/threads.py

`ric edit` with the embedded family, on one thread and on one per core, each with threads that spin
while they wait (OpenMP's default) and with threads that sleep (ric's default), alone and beside as
many processes as there are cores, which multiply matrices all the time. Each case is a fresh
process; the time runs from the end of the first edit to that of the last, so loading the libraries
is not counted. The cases take turns. The result is appended to
benchmarks/results/threads-<machine>.json.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from itertools import product
from typing import TYPE_CHECKING

from _results import append_result, measured_here

from ric.device import usable_cores
from ric.interrupt import raise_on_stop_signals

if TYPE_CHECKING:
    from collections.abc import Iterator

EDITS = """
import sys, time
from pathlib import Path
from ric.config import EditConfig
from ric.recipes.edit import edit
from ric.runs.open_run import open_run
from ric.settings import resolve_config

class Clock:
    def __init__(self): self.ends = []
    def stage(self, *given, **named): return self
    def __enter__(self): return self
    def __exit__(self, *raised): pass
    def note(self, line): pass
    def advance(self, count=1, **values):
        if count: self.ends.append(time.perf_counter())

typed = {"data": "scenes:60@64", "split": "all", "limit": int(sys.argv[1]), "device": "cpu"}
config = resolve_config(EditConfig, {"preset": "tiny", **typed, "steps": 10, "batch_size": 1})
clock = Clock()
with open_run("edit", {}, runs_dir=Path("runs")) as run:
    edit(config, run, clock)
print((clock.ends[-1] - clock.ends[0]) / (len(clock.ends) - 1))
"""
LIMIT = 150.0  # seconds, loading the libraries included
NEIGHBOUR = "import numpy\na = numpy.ones((400, 400))\nwhile True: a @ a"


def seconds_an_edit(edits: int, threads: int, waiting: str) -> float | None:
    """Edit drawn scenes in a fresh process; return the seconds per edit.

    None: the process was ended after `LIMIT` seconds.
    """
    how = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    how |= {"OMP_WAIT_POLICY": waiting, "KMP_BLOCKTIME": "0" if waiting == "PASSIVE" else "200"}
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                [sys.executable, "-c", EDITS, str(edits)], cwd=folder, env=os.environ | how,
                capture_output=True, text=True, check=True, timeout=LIMIT,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return None
    return float(done.stdout.splitlines()[-1])


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """Keep that many processes busy, one thread each, while the block runs."""
    alone = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    busy = [subprocess.Popen([sys.executable, "-c", NEIGHBOUR], env=alone) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def main() -> None:
    """Measure, print a table, append the result."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--edits", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--remark", default="", help="Note on the machine's other load.")
    chosen = parser.parse_args()
    cores = usable_cores()
    cases = list(product((0, cores), sorted({1, cores}), ("ACTIVE", "PASSIVE")))
    raise_on_stop_signals()  # so that no neighbour outlives this
    result = measured_here(remark=chosen.remark, edits=chosen.edits, seconds_an_edit={})
    print(f"{result['machine']}, load {result['load_average']}. {chosen.remark}")
    print("seconds per edit, each round in turn:")
    for _, (busy, threads, waiting) in product(range(chosen.rounds), cases):
        name = f"{busy} neighbours, {threads} threads, {waiting.lower()} wait"
        with neighbours(busy):
            took = seconds_an_edit(chosen.edits, threads, waiting)
        result["seconds_an_edit"].setdefault(name, []).append(took and round(took, 3))
        print(f"{name:<45}{f'{took:.3f}' if took else f'not done in {LIMIT:.0f} s'}", flush=True)
    print(f"appended to {append_result('threads', result)}")


if __name__ == "__main__":
    main()
