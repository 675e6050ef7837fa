"""`ric describe` with DeepSeek-VL2-Tiny at full size: four tokens about a picture; peak memory.

    TMPDIR=/a/disk/with/7/GB python benchmarks/describe.py [--pixels N] [--device NAME]

The model, with random weights in bfloat16 under the released names, is written to a folder of the
hub's cache; the command finds it there and describes one scene. Fails if the command does, or if on
a CPU that computes in bfloat16 its peak resident memory exceeds 12 GiB. The result is appended to
benchmarks/results/describe-<machine>.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from _results import append_result, measured_here
from _vl2 import TINY_SIZES, write_vl2

from ric.describers.deepseek_vl2.architecture import TINY
from ric.device import pick_dtype
from ric.weights import find_weight

MOST = 12  # GiB
NEW_TOKENS = 4


def describe(cache: Path, runs: Path, pixels: int, device: str) -> dict[str, object]:
    """Describe one scene in a process of its own; return its seconds and peak memory.

    Raises:
        SystemExit: it failed.
    """
    words = ["describe", f"scenes:2@{pixels}", "--limit", "1", "--max-new-tokens", str(NEW_TOKENS),
             "--no-quality-gates", "--device", device]  # fmt: skip
    began = time.perf_counter()
    started = subprocess.Popen(
        [sys.executable, "-m", "ric_cli", *words, "--run", str(runs / "describe")],
        env={**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"},
    )
    _, status, used = os.wait4(started.pid, 0)
    if status:
        raise SystemExit(f"ric {' '.join(words)} failed")
    return {
        "command": " ".join(["ric", *words]),
        "new_tokens": NEW_TOKENS,
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_gib": round(used.ru_maxrss * 1024 / 2**30, 2),
    }


def main() -> None:
    """Write the model, measure, print, append the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pixels", type=int, default=512, help="the side of the scene")
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    weight = find_weight(TINY)
    assert weight is not None
    with tempfile.TemporaryDirectory() as name:
        cache = Path(name) / "hub"
        folder = cache / f"models--{TINY.replace('/', '--')}" / "snapshots" / weight.revision
        # the writer's memory goes with its process
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as writer:
            writer.submit(write_vl2, folder, TINY_SIZES, torch.bfloat16).result()
        size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        result = measured_here(torch=torch.__version__, weights_gib=round(size / 2**30, 2))
        dtype = pick_dtype("auto", torch.device(asked.device))
        result |= {"dtype": str(dtype)}
        result |= describe(cache, Path(name), asked.pixels, asked.device)
    print(json.dumps(result, indent=2))
    if asked.device == "cpu" and dtype == torch.bfloat16 and result["peak_gib"] > MOST:
        raise SystemExit(f"peak memory of {result['peak_gib']} GiB exceeds {MOST} GiB")
    print(f"appended to {append_result('describe', result)}")


if __name__ == "__main__":
    main()
