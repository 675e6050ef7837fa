"""The speed of `ric eval`, compared with the libraries it replaces, run one after the other.

    python benchmarks/eval.py [--pairs N] [--size PX] [--batch-size N] [--device DEVICE]
                              [--memory-pairs FEW MANY] [--skip-slow-roots] [--only PART ...]

By default 512 pairs of 512 px; CLIP ViT-B/32, DINO ViT-S/16, Inception v3, AlexNet and SqueezeNet
with random weights. Three parts:

- `speed`: `ric eval` with all its metrics for one editor, the unedited source and the ground truth,
  beside the time that clean-fid, torch-fidelity's IS, lpips, and plain loops of CLIP and DINO take
  for those three rows over the same files. Each library runs at its own best batch size and number
  of workers, found by a printed sweep over a few pairs. The ceiling is the time that `ric` would
  take if it only ran its networks: their outermost calls for one batch are recorded with all their
  tensors and repeated on their own, before and after the timed run. If the clock is processor time,
  the share of those calls in the timed run itself is reported too.
- `memory`: peak resident memory of `ric eval --preset tiny` at 64 px, at two numbers of pairs.
- `root`: FID's matrix root at 500 pictures of width 2048, beside scipy's and numpy's.

On one core of a CPU (pinned, OMP_NUM_THREADS=1) times are processor time of all threads and child
processes, so that other programs count little; otherwise they are wall time. The result is
appended to benchmarks/results/eval-<machine>.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.linalg
import torch
from _metric_networks import ALEXNET, CLIP, DINO, INCEPTION, write_metric_networks
from _references import clean_fid, clip_loop, dino_loop, fidelity_is, lpips_loop
from _results import append_result, measured_here
from lpips import LPIPS
from PIL import Image
from torch import nn
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from ric.config import EvalConfig, as_dict
from ric.device import pick_device, usable_cores
from ric.metrics import dists, lpips_distance
from ric.metrics.clip_similarity import ClipSimilarity
from ric.metrics.dino_similarity import DinoSimilarity
from ric.metrics.fid import fid_from_features
from ric.metrics.inception import InceptionFeatures
from ric.metrics.lpips_distance import LpipsDistance, load_backbone
from ric.metrics.networks import exact_inference
from ric.progress import Silent
from ric.recipes.evaluate import evaluate
from ric.runs.open_run import open_run
from ric.scoring import score_batches
from ric.scoring.matching import Decoded

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

PARTS = ("speed", "memory", "root")
BATCHES = (1, 4, 16, 64)  # tried for each library, up to the number of pairs
SWEPT = 16  # pairs of the sweep on a CPU
WORKERS = {"torch-fidelity's IS": (0, 4)}  # its only choices: its save_cpu_ram
FOLDERS = ("edited", "target", "source")
TEXT = "a red ball that lies in the grass to the left of a wooden house"


# --- the clock -----------------------------------------------------------------------------------


def is_alone(device: torch.device) -> bool:
    """Tell whether processor time is the clock; see the module's docstring."""
    return device.type == "cpu" and torch.get_num_threads() == 1 and usable_cores() == 1


def now(device: torch.device) -> float:
    """Read the clock, in seconds."""
    if is_alone(device):
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.process_time() + children.ru_utime + children.ru_stime
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


# --- what is scored ------------------------------------------------------------------------------


def write_pairs(folder: Path, count: int, size: int, distinct: int = 64) -> Path:
    """Write a data folder, and an editor's outputs beside its pictures, `size` pixels square.

    Beyond `distinct` pairs the files are links to earlier ones.
    """
    rows = []
    for name in (*FOLDERS, "mask"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        for place, name in enumerate(FOLDERS):
            file = folder / name / f"{number:06d}.png"
            if number >= distinct:
                file.hardlink_to(folder / name / f"{number % distinct:06d}.png")
            else:
                draw([number, place], size).save(file)
        mask = np.zeros((size, size), np.uint8)
        mask[size // 8 : size // 2, size // 8 : size // 2] = 255
        Image.fromarray(mask).save(folder / "mask" / f"{number:06d}.png")
        files = {f"{name}_file_name": f"{name}/{number:06d}.png"
                 for name in ("source", "target", "mask")}  # fmt: skip
        rows.append({"id": f"{number:06d}", "instruction": TEXT, "region_text": TEXT,
                     "source_text": "a wooden house in the grass", "target_text": TEXT,
                     "split": "test", **files})  # fmt: skip
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def draw(seed: Sequence[int], size: int) -> Image.Image:
    """Draw broad shades with the grain of a photo; a PNG takes about 2 bytes per pixel."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    pixels = np.array(coarse.resize((size, size), Image.Resampling.BICUBIC), np.int16)
    pixels += generator.integers(-4, 5, pixels.shape, dtype=np.int16)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


# --- ric -----------------------------------------------------------------------------------------


class Watch(Silent):
    """Records when scoring begins and ends; networks are loaded before."""

    def __init__(self, device: torch.device) -> None:
        """Start without marks."""
        self.device = device
        self.marks: list[float] = []

    @contextmanager
    def stage(
        self, name: str, total: int | None = None, done: int = 0, unit: str = "steps"
    ) -> Iterator[Silent]:
        """Mark both ends of the stage."""
        self.marks.append(now(self.device))
        yield self
        self.marks.append(now(self.device))


def score(config: EvalConfig, folder: Path, device: torch.device) -> dict[str, float]:
    """Run `ric eval`; return the seconds of all, of the part after the last batch, of decoding."""
    seconds = {"decoding": 0.0, "waiting for it": 0.0}
    decode, ahead = score_batches.decode_outputs, score_batches.decoded_ahead

    def timed_decode(*args: Any, **named: Any) -> Decoded:
        began = time.thread_time()
        try:
            return decode(*args, **named)
        finally:
            seconds["decoding"] += time.thread_time() - began

    def timed_wait(*args: Any) -> Generator[Decoded]:
        decoded = ahead(*args)
        try:
            while True:
                began = time.perf_counter()
                one = next(decoded, None)
                seconds["waiting for it"] += time.perf_counter() - began
                if one is None:
                    return
                yield one
        finally:
            decoded.close()

    score_batches.decode_outputs, score_batches.decoded_ahead = timed_decode, timed_wait
    watch, passed = Watch(device), time.perf_counter()
    try:
        with open_run("eval", as_dict(config), runs_dir=folder) as run:
            table = evaluate(config, run, watch)
    finally:
        score_batches.decode_outputs, score_batches.decoded_ahead = decode, ahead
    lacking = [one.key for one in table[0].scores if one.key != "kid" and one.value is None]
    if lacking:
        raise SystemExit(f"not scored: {', '.join(lacking)}")
    began, scored = watch.marks
    ended = now(device)
    return {
        "all": ended - began,
        "after the last batch": ended - scored,
        **seconds,
        "passed": time.perf_counter() - passed,
    }


class OutermostCalls:
    """The outermost calls of networks and how long they took, in this thread's time."""

    def __init__(self, *, keep: bool) -> None:
        """Start with none; with `keep`, each is recorded with its tensors, to be repeated."""
        self.keep = keep
        self.again: list[Callable[[], object]] = []
        self.seconds = 0.0


@contextmanager
def outermost_calls(*, keep: bool = False) -> Iterator[OutermostCalls]:
    """Record every call of a network that is not made by another network.

    The lpips package's code between and after its layers counts as its network, and DISTS's formula
    as its.
    """
    calls, inside = OutermostCalls(keep=keep), False

    def watched(plain: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            nonlocal inside
            if inside:
                return plain(*args, **named)
            inside, began = True, time.thread_time()
            try:
                if calls.keep:
                    calls.again.append(lambda: plain(*args, **named))
                return plain(*args, **named)
            finally:
                inside = False
                calls.seconds += time.thread_time() - began

        return call

    places = ((nn.Module, "__call__"), (lpips_distance, "normalize_tensor"),
              (LpipsDistance, "between"), (dists, "dists"))  # fmt: skip
    plain = [getattr(owner, name) for owner, name in places]
    for owner, name in places:
        setattr(owner, name, watched(getattr(owner, name)))
    try:
        yield calls
    finally:
        for (owner, name), function in zip(places, plain, strict=True):
            setattr(owner, name, function)


@exact_inference()
def networks_alone(config: EvalConfig, folder: Path, device: torch.device) -> float:
    """Return the seconds that the networks of an evaluation take when their calls are repeated.

    The recorded tensors are freed on return: kept, they would slow the next measurement.
    """
    with outermost_calls(keep=True) as calls:
        score(config, folder, device)
    began = now(device)
    for call in calls.again:
        call()
    return now(device) - began


# --- the libraries -------------------------------------------------------------------------------


def libraries(weights: Path, device: torch.device) -> dict[str, Callable[..., None]]:
    """Load the libraries that run one after the other."""
    inception = InceptionFeatures(weights / INCEPTION, device)
    alexnet = LPIPS(net="alex", pnet_rand=True, verbose=False)
    load_backbone(alexnet, weights / ALEXNET)
    return {
        "clean-fid": clean_fid(inception),
        "torch-fidelity's IS": fidelity_is(inception),
        "lpips": lpips_loop(alexnet.to(device), device),
        "CLIP loop": clip_loop(ClipSimilarity(weights / CLIP, device)),
        "DINO loop": dino_loop(DinoSimilarity(weights / DINO, device)),
    }


def best_way(
    name: str, run: Callable[..., None], data: Path, pairs: int, device: torch.device
) -> tuple[int, int]:
    """Find a library's best batch size and number of workers over a few pairs; print all tried."""
    found = {}
    folders = [data / name for name in FOLDERS]
    swept = min(pairs, SWEPT) if device.type == "cpu" else pairs
    run(folders, [TEXT] * min(2, pairs), 1, 0)
    for batch in sorted({min(batch, swept) for batch in BATCHES}):
        for workers in WORKERS.get(name, (0, usable_cores())):
            began = now(device)
            run(folders, [TEXT] * swept, batch, workers)
            found[batch, workers] = (now(device) - began) / swept
            took = f"{1e3 * found[batch, workers]:.0f} ms per pair"
            print(f"{name}, batch {batch}, {workers} workers: {took}", file=sys.stderr, flush=True)
    return min(found, key=found.__getitem__)


def speed(asked: argparse.Namespace, folder: Path, device: torch.device) -> dict[str, Any]:
    """Measure `ric eval`, its networks alone, and the libraries."""
    weights = write_metric_networks(folder / "weights")
    data = write_pairs(folder / "data", asked.pairs, asked.size)
    batch = min(asked.batch_size, asked.pairs)
    settings = {"data": str(data), "edits": (f"Mine={data / 'edited'}",), "split": "all",
                "weights": str(weights), "device": asked.device}  # fmt: skip
    of_a_batch = EvalConfig(**settings, batch_size=batch, limit=batch)
    alone = [networks_alone(of_a_batch, folder, device) / batch]
    with outermost_calls() as calls:
        ours = score(EvalConfig(**settings, batch_size=asked.batch_size), folder, device)
    alone.append(networks_alone(of_a_batch, folder, device) / batch)
    theirs: dict[str, dict[str, Any]] = {}
    for name, run in libraries(weights, device).items():
        size, workers = best_way(name, run, data, asked.pairs, device)
        began = now(device)
        run([data / name for name in FOLDERS], [TEXT] * asked.pairs, size, workers)
        each = (now(device) - began) / asked.pairs
        theirs[name] = {"ms_per_pair": 1e3 * each, "batch_size": size, "workers": workers}
    each = ours["all"] / asked.pairs
    networks = sum(alone) / len(alone)
    together = sum(one["ms_per_pair"] for one in theirs.values()) / 1e3
    return {
        "pairs": asked.pairs,
        "pixels": asked.size,
        "batch_size": asked.batch_size,
        "images_per_second": 3 / each,
        "ms_per_pair": 1e3 * each,
        "ms_per_pair_in_networks_alone": [1e3 * one for one in alone],
        "ms_per_pair_decoding": 1e3 * ours["decoding"] / asked.pairs,
        "ms_per_pair_after_the_last_batch": 1e3 * ours["after the last batch"] / asked.pairs,
        "share_decoding": ours["decoding"] / ours["all"],
        "share_waiting_for_it": ours["waiting for it"] / ours["passed"],
        "libraries": theirs,
        "ms_per_pair_of_libraries": 1e3 * together,
        "times_faster": together / each,
        "ceiling": together / networks,
        "share_of_ceiling": networks / each,
        # for a GPU, which works while this thread continues, it means nothing
        "share_of_processor_time_in_networks": calls.seconds / ours["all"]
        if is_alone(device)
        else None,
    }


# --- memory --------------------------------------------------------------------------------------


def memory(counts: Sequence[int], folder: Path) -> dict[str, Any]:
    """Return the peak resident memory of `ric eval` at each number of pairs, in a process each."""
    peaks = {}
    for count in counts:
        data = write_pairs(folder / str(count), count, 64)
        words = ["eval", f"Mine={data / 'edited'}", "--data", str(data), "--split", "all",
                 "--preset", "tiny", "--device", "cpu", "--runs-dir", str(folder)]  # fmt: skip
        started = subprocess.Popen(
            [sys.executable, "-m", "ric_cli", *words], stdout=subprocess.DEVNULL
        )
        _, status, used = os.wait4(started.pid, 0)
        if status:
            raise SystemExit(f"ric {' '.join(words)} failed")
        peaks[count] = used.ru_maxrss * 1024
    few, many = sorted(counts)
    return {
        "peak_mib": {count: peak / 2**20 for count, peak in peaks.items()},
        "kib_a_pair": (peaks[many] - peaks[few]) / (many - few) / 1024,
    }


# --- FID's root ----------------------------------------------------------------------------------


def root(slow: bool) -> dict[str, Any]:
    """Time the root at 500 pictures of width 2048 in all three ways, and compare the results."""
    generator = np.random.default_rng(0)
    a, b = (np.abs(generator.normal(size=(500, 2048)) + shift) for shift in (0, 0.1))
    began, passed = time.process_time(), time.perf_counter()
    value = fid_from_features(a, b).value
    found: dict[str, Any] = {
        "ric": {"seconds": time.process_time() - began, "passed": time.perf_counter() - passed,
                "fid": value},
    }  # fmt: skip
    if not slow:
        return found
    covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    gap = np.square(a.mean(axis=0) - b.mean(axis=0)).sum() + sum(map(np.trace, covariances))
    ways: dict[str, Callable[[Any], float]] = {
        "numpy eigvals": lambda product: np.sqrt(np.linalg.eigvals(product) + 0j).real.sum(),
        "scipy sqrtm": lambda product: np.trace(scipy.linalg.sqrtm(product)).real,
    }
    for name, trace in ways.items():
        began, passed = time.process_time(), time.perf_counter()
        of_root = trace(covariances[0] @ covariances[1])
        found[name] = {"seconds": time.process_time() - began,
                       "passed": time.perf_counter() - passed,
                       "fid": float(gap - 2 * of_root)}  # fmt: skip
    return found


def rounded(found: Any) -> Any:
    """Round every number to four digits."""
    if isinstance(found, dict):
        return {key: rounded(value) for key, value in found.items()}
    if isinstance(found, list):
        return [rounded(value) for value in found]
    return float(f"{found:.4g}") if isinstance(found, float) else found


def main() -> None:
    """Measure, print, append the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=512)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=EvalConfig.batch_size)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--memory-pairs", type=int, nargs=2, default=(500, 5000))
    parser.add_argument("--skip-slow-roots", action="store_true")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    asked = parser.parse_args()
    device = pick_device(asked.device)
    disable_progress_bar()
    set_verbosity_error()
    result: dict[str, Any] = {
        **measured_here(torch=torch.__version__),
        "threads": torch.get_num_threads(),
        "clock": "processor time" if is_alone(device) else "wall time",
    }
    with tempfile.TemporaryDirectory() as name:
        os.environ["RIC_CACHE_DIR"] = f"{name}/cache"
        if "root" in asked.only:
            result["root"] = root(not asked.skip_slow_roots)
        if "speed" in asked.only:
            result["speed"] = speed(asked, Path(name), device)
        if "memory" in asked.only:
            result["memory"] = memory(asked.memory_pairs, Path(name))
    result["load_average_at_the_end"] = round(os.getloadavg()[0], 2)
    print(json.dumps(rounded(result), indent=2))
    print(f"appended to {append_result('eval', rounded(result))}", file=sys.stderr)


if __name__ == "__main__":
    main()
