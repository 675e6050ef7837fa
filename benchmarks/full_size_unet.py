"""`--preset paper` at full size: one step of `ric train-unet` on a CPU, saved; its peak memory.

    python benchmarks/full_size_unet.py [BASE ...]

Pipelines of Stable Diffusion 1.5's shape (a UNet of 859.5 million weights) with seeded random
weights are saved in the hub's own layouts: that of `timbrooks/instruct-pix2pix`, and that of
`vinesmsuic/magicbrush-jul7`, of another class and pickled, so that `ric` converts it. Judges of
CLIP ViT-B/16 and BLIP base are saved beside them. `ric train-unet --base BASE` takes one step at
256 px, batch 1, with both judges, writes a full checkpoint and exports the pipeline. The script
waits until the machine has 18 GiB free, and stops the command before memory runs out. Fails if the
command ends with an error, a loss is missing, the exported pipeline is not the base with another
UNet, or the peak resident memory exceeds 22 GiB. The result is appended to
benchmarks/results/full-size-unet-<machine>.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from _results import append_result, measured_here
from safetensors import safe_open

# neither torch nor a model is loaded in this process, which would take memory
GIB = 2**30
MOST = 22 * GIB
NEEDED = 18 * GIB  # free memory to wait for: what the command takes at least
LEAST_LEFT = GIB // 2  # free memory to leave to other processes
DATA = "scenes:8@256"
BASES = ("timbrooks/instruct-pix2pix", "vinesmsuic/magicbrush-jul7")
PARTS = ("vae", "unet", "text_encoder", "tokenizer", "scheduler")
UNET_FILE = "unet/diffusion_pytorch_model.safetensors"


def write_models(base: str, folder: Path) -> None:
    """Save a base in the hub's layout, and both judges as the fits do."""
    from _models import write_blip, write_clip, write_instruct_pix2pix, write_magicbrush

    from ric.method.region_encoder import RegionEncoder
    from ric.method.scene_encoder import SceneEncoder

    write = {BASES[0]: write_instruct_pix2pix, BASES[1]: write_magicbrush}[base]
    write(folder / "weights" / base)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        aside = Path(name)
        RegionEncoder.from_clip(write_clip(aside / "clip")).save_pretrained(folder / "clip")
        SceneEncoder.from_blip(write_blip(aside / "blip")).save_pretrained(folder / "blip")


def train(base: str, folder: Path) -> dict[str, Any]:
    """Write a base and judges, take one step; return losses, sizes, seconds and peak memory."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as writer:
        writer.submit(write_models, base, folder).result()
    run = folder / "run"
    options = ["--preset", "paper", "--base", base, "--batch-size", "1", "--steps", "1", "--limit",
               "2", "--device", "cpu", "--show-every", "0"]  # fmt: skip
    places = ["--weights", str(folder / "weights"), "--run", str(run), "--region-clip",
              str(folder / "clip"), "--scene-blip", str(folder / "blip")]  # fmt: skip
    wait_for_memory()
    began = time.perf_counter()
    peak = peak_of(["train-unet", DATA, *options, *places], folder / "cache")
    seconds = time.perf_counter() - began
    found = {
        "command": " ".join(["ric", "train-unet", DATA, *options]),
        **losses_of(run),
        "seconds": round(seconds),
        "checkpoint_gib": gib(run / "checkpoints"),
        "pipeline_gib": gib(run / "pipeline"),
        "peak_gib": round(peak / GIB, 2),
    }
    converted = folder / "cache" / "weights" / base.replace("/", "--")
    began_with = converted if converted.is_dir() else folder / "weights" / base
    compare(began_with, run / "pipeline")
    return found


def peak_of(words: list[str], cache: Path) -> int:
    """Run a command of `ric` in its own process and return its peak resident bytes.

    Raises:
        SystemExit: it failed, or was stopped because the machine's memory was running out.
    """
    started = subprocess.Popen(
        [sys.executable, "-m", "ric_cli", *words], env={**os.environ, "RIC_CACHE_DIR": str(cache)}
    )
    ended = 0
    while not ended:
        time.sleep(0.1)
        ended, status, used = os.wait4(started.pid, os.WNOHANG)
        if not ended and memory_left() < LEAST_LEFT:
            started.kill()
            raise SystemExit(f"stopped: the machine has {memory_left() / GIB:.1f} GiB left")
    if status:
        raise SystemExit(f"ric {' '.join(words)} failed")
    return used.ru_maxrss * 1024


def wait_for_memory() -> None:
    """Wait until other processes leave enough memory."""
    while memory_left() < NEEDED:
        print(f"waiting for {NEEDED / GIB:.0f} GiB: {memory_left() / GIB:.1f} are left",
              file=sys.stderr)  # fmt: skip
        time.sleep(5)


def memory_left() -> int:
    """Return the bytes of memory that are available."""
    return 1024 * int(re.findall(r"MemAvailable: +(\d+)", Path("/proc/meminfo").read_text())[0])


def losses_of(run: Path) -> dict[str, float]:
    """Return the step's losses (raises SystemExit if there is none or a judge scored nothing)."""
    row = json.loads((run / "metrics.jsonl").read_text())
    losses = {key: value for key, value in row.items() if key.startswith("loss")}
    if row["step"] != 1 or not all(losses.values()) or row["skipped"]:
        raise SystemExit(f"not a complete step: {row}")
    return losses


def compare(base: Path, exported: Path) -> None:
    """Make sure that the exported pipeline is the base with another UNet (raises SystemExit)."""
    lacking = [part for part in PARTS if not (exported / part).is_dir()]
    with (
        safe_open(base / UNET_FILE, "np") as old,
        safe_open(exported / UNET_FILE, "np") as new,
    ):
        names = set(old.keys())
        if lacking or names != set(new.keys()):
            raise SystemExit(f"exported without {lacking}, or with other weights")
        same = [n for n in names if np.array_equal(old.get_tensor(n), new.get_tensor(n))]
        if same:
            raise SystemExit(f"{len(same)} weights are the base's, such as {same[0]}")


def gib(folder: Path) -> float:
    """Return the size of a folder's files in GiB."""
    return round(sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / GIB, 2)


def main() -> None:
    """Measure, print, append the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bases", nargs="*", metavar="BASE", help=f"of {', '.join(BASES)}")
    bases = parser.parse_args().bases or BASES
    result = measured_here(torch=version("torch"))
    for base in bases:
        with tempfile.TemporaryDirectory() as name:
            result[base] = train(base, Path(name))
        print(json.dumps(result[base], indent=2), flush=True)
    print(f"appended to {append_result('full-size-unet', result)}", file=sys.stderr)
    most = max(result[base]["peak_gib"] for base in bases)
    if most * GIB > MOST:
        raise SystemExit(f"peak memory {most} GiB, above {MOST / GIB:.0f}")


if __name__ == "__main__":
    main()
