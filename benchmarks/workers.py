"""How much faster a decode-bound `ric eval` is with two workers than with one.

    python benchmarks/workers.py [--pairs N] [--size PX] [--metrics NAMES] [--cores CORE CORE]
                                 [--repeats N]

By default 48 pairs of 1,536 px as PNG, scored by CLIP-T with the embedded family's network of 64
px, so that nearly all the time is spent on decoding. Three ways, each in processes of its own, on
the cores that are named (0 and 1): one process on one core; one process on two cores, whose threads
decode; and two processes of torchrun, a core each. Seconds are wall time from the first picture
decoded to the last batch scored, the least of the repeats: both cores must be idle, and
the load average before the run is in the result, which is appended to
benchmarks/results/workers-<machine>.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from _results import append_result, measured_here
from eval import write_pairs

# scores once, and says how long scoring took in this process
SCORE = """
import json, sys, time
from pathlib import Path
from ric.config import EvalConfig, as_dict
from ric.scoring.score_batches import Scoring
from ric.settings import resolve_config
from ric_cli.main import main

times = []
score_mine = Scoring.score_mine

def timed(*given):
    began = time.perf_counter()
    score_mine(*given)
    times.append(time.perf_counter() - began)

Scoring.score_mine = timed
file = Path(sys.argv.pop(1))
try:
    main()
finally:
    with file.open("a") as stream:
        stream.write(json.dumps(times) + "\\n")
"""
# --: torchrun would take --run for an option of its own
TWO_PROCESSES = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--"]
AIM = 1.8  # of two workers


def seconds_of(
    data: Path, folder: Path, metrics: str, cores: list[int], *, processes: int
) -> float:
    """Score once on some cores; return the seconds of the slowest process."""
    folder.mkdir()
    (folder / "score.py").write_text(SCORE)
    words = ["eval", f"Mine={data / 'edited'}", "--data", str(data), "--split", "all",
             "--preset", "tiny", "--device", "cpu", "--metrics", metrics, "--batch-size",
             "4", "--run", str(folder / "run")]  # fmt: skip
    start = TWO_PROCESSES if processes == 2 else []
    done = subprocess.run(
        ["taskset", "-c", ",".join(map(str, cores)), sys.executable, *start,
         str(folder / "score.py"), str(folder / "times.jsonl"), *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"ric {' '.join(words)} failed")
    lines = (folder / "times.jsonl").read_text().splitlines()
    assert len(lines) == processes
    return max(json.loads(line)[0] for line in lines)


def measure(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Score in all ways, in turn, as often as asked."""
    data = write_pairs(folder / "data", asked.pairs, asked.size, distinct=16)
    one, both = asked.cores[:1], asked.cores
    ways = {"one worker": (one, 1), "two threads": (both, 1), "two processes": (both, 2)}
    least: dict[str, float] = {}
    for repeat in range(asked.repeats):
        for number, (name, (cores, processes)) in enumerate(ways.items()):
            place = folder / f"{repeat}-{number}"
            took = seconds_of(data, place, asked.metrics, cores, processes=processes)
            least[name] = min(took, least.get(name, took))
            print(f"{name}: {took:.2f} s", file=sys.stderr)
    return {
        "seconds": {name: round(took, 3) for name, took in least.items()},
        "scaling": {name: round(least["one worker"] / took, 2) for name, took in least.items()},
    }


def main() -> None:
    """Measure, print, append the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=48)
    parser.add_argument("--size", type=int, default=1536)
    parser.add_argument("--metrics", default="clip_t")
    parser.add_argument("--cores", type=int, nargs=2, default=(0, 1))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-result", action="store_true", help="print only, append nothing")
    asked = parser.parse_args()
    asked.cores = list(asked.cores)
    result = measured_here(
        pairs=asked.pairs, size=asked.size, metrics=asked.metrics, cores=asked.cores, aim=AIM
    )
    with tempfile.TemporaryDirectory() as name:
        result |= measure(asked, Path(name))
    print(json.dumps(result, indent=2))
    if not asked.no_result:
        print(f"appended to {append_result('workers', result)}", file=sys.stderr)


if __name__ == "__main__":
    main()
