"""Scenes that one core draws per second: texts, source, target and both masks, not encoded.

    python benchmarks/scenes.py [SIZE ...]

Each size is measured in seven rounds of different samples, in CPU seconds of one process, so that
other work on the machine counts little; the median and the best round are shown. The result is
appended to benchmarks/results/scenes-<machine>.json, with the machine's load average.
"""

from __future__ import annotations

import statistics
import sys
import time

from _results import append_result, measured_here

from ric.data.drawn_scenes import SceneStream
from ric.scenes.words import texts_of

ROUNDS = 7
SAMPLES = {64: 60, 128: 30, 256: 12, 512: 4}  # per round
TARGETS = {64: 100}  # samples per second


def rates(size: int) -> list[float]:
    """Return each round's samples per CPU second."""
    count = SAMPLES.get(size, 10)
    stream = SceneStream(count=count * (ROUNDS + 1), size=size, seed=1)
    found = []
    for first in range(0, stream.count, count):
        began = time.process_time()
        for index in range(first, first + count):
            edit, _ = stream.draw(index)
            texts_of(edit, stream.seed, index)
        found.append(count / (time.process_time() - began))
    return found[1:]  # the first one draws the backgrounds that are cached


def main() -> None:
    """Measure, print a table, append the result."""
    sizes = [int(word) for word in sys.argv[1:]] or list(SAMPLES)
    result = {
        **measured_here(python=sys.version.split()[0]),
        "samples_per_cpu_second": {},
    }
    print(f"{result['machine']}, Python {result['python']}, load {result['load_average']}")
    print(f"{'pixels':<8}{'median':>10}{'best':>10}{'target':>10}   samples per CPU second")
    for size in sizes:
        found = rates(size)
        result["samples_per_cpu_second"][size] = [round(value, 1) for value in found]
        target = TARGETS.get(size, "-")
        print(f"{size:<8}{statistics.median(found):>10.1f}{max(found):>10.1f}{target:>10}")
    print(f"appended to {append_result('scenes', result)}")


if __name__ == "__main__":
    main()
