"""`--preset paper` at full size: two steps of each phase of both fits, and their peak memory.

    python benchmarks/full_size_judges.py [--micro-batch N]

CLIP ViT-B/16 and BLIP base with seeded random weights are saved in the hub's own layout; `ric
fit-clip` and `ric fit-blip` read them from there and take two steps of every phase at the paper's
batches (64 and 32) on 128 and 64 scenes of 512 px, controls and measurements included. Fails if a
command ends with an error or its peak resident memory exceeds 20 GiB. The result is appended to
benchmarks/results/full-size-judges-<machine>.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from _models import write_blip, write_clip
from _results import append_result, measured_here

MOST = 20 * 2**30  # bytes
CLIP, BLIP = "openai/clip-vit-base-patch16", "Salesforce/blip-itm-base-coco"
DATA = "scenes:160@512"  # about 136 are train, of which 128 are used
COMMANDS = {
    "fit-clip": ["--fusion-epochs", "1", "--joint-epochs", "1", "--limit", "128"],
    "fit-blip": ["--epochs", "1", "--limit", "64"],
}
STEPS = {"fit-clip": {"fusion": 2, "joint": 2}, "fit-blip": {"all": 2}}


def fit(command: str, weights: Path, runs: Path, micro_batch: int) -> dict[str, Any]:
    """Run one command in its own process; return its steps, seconds and peak memory.

    Raises:
        SystemExit: it failed, or did not take two steps of each phase.
    """
    run = runs / command
    words = [command, DATA, "--preset", "paper", "--weights", str(weights), "--run", str(run),
             "--micro-batch", str(micro_batch), *COMMANDS[command]]  # fmt: skip
    began = time.perf_counter()
    started = subprocess.Popen(
        [sys.executable, "-m", "ric_cli", *words],
        env={**os.environ, "RIC_CACHE_DIR": str(runs / "cache")},
    )
    _, status, used = os.wait4(started.pid, 0)
    if status:
        raise SystemExit(f"ric {' '.join(words)} failed")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = {row["phase"]: row["step"] for row in rows[1:]}
    if list(last.values()) != [2 * (place + 1) for place in range(len(STEPS[command]))]:
        raise SystemExit(f"{command} did not take two steps of each phase: {last}")
    return {
        "command": " ".join(["ric", command, DATA, "--preset paper", *words[8:]]),
        "steps": STEPS[command],
        "losses": {row["step"]: row["loss"] for row in rows if "loss" in row},
        "seconds": round(time.perf_counter() - began),
        "peak_gib": round(used.ru_maxrss * 1024 / 2**30, 2),
    }


def main() -> None:
    """Measure, print, append the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--micro-batch", type=int, default=4)
    asked = parser.parse_args()
    result = measured_here(torch=torch.__version__)
    with tempfile.TemporaryDirectory() as name:
        weights = Path(name) / "weights"
        write_clip(weights / CLIP)
        write_blip(weights / BLIP)
        for command in COMMANDS:
            result[command] = fit(command, weights, Path(name), asked.micro_batch)
            print(json.dumps(result[command], indent=2), flush=True)
    print(f"appended to {append_result('full-size-judges', result)}", file=sys.stderr)
    most = max(result[command]["peak_gib"] for command in COMMANDS)
    if most * 2**30 > MOST:
        raise SystemExit(f"peak memory {most} GiB, above {MOST / 2**30:.0f}")


if __name__ == "__main__":
    main()
