"""The speed of fitting the judges: cached phase 1, all of CLIP, BLIP, and filling the cache.

    python benchmarks/fit.py [--samples N] [--device DEVICE] [--tiny]

CLIP ViT-B/16 and BLIP base with random weights, at the paper's sizes (`--tiny`: the embedded
family's, to try out the script). Everything is measured in one run on one machine:

- phase 1: an epoch from cached tokens beside the same epoch with the backbone in the loop, at the
  best of several batch sizes, its FLOPs counted with torch's FlopCounterMode;
- phase 2 and fit-blip: the share of a step's time spent waiting for data, and the rate as a share
  of the machine's own measured matrix rate;
- the square cache: pictures per second over all cores beside a plain loop in one process.

The result is appended to benchmarks/results/fit-<machine>.json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from _models import write_blip, write_clip
from _results import append_result, measured_here
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from ric.config import FitClipConfig
from ric.device import matmul_rate, pick_device
from ric.distributed import Ranks
from ric.inputs import squares
from ric.inputs.clip_tokens import cache_tokens
from ric.inputs.examples import Example
from ric.inputs.squares import Squaring, decode_squares
from ric.method.region_encoder import RegionEncoder
from ric.method.scene_encoder import SceneEncoder
from ric.progress import Silent
from ric.recipes import fit_blip, fit_clip
from ric.training.contrastive_pairs import Pairs
from ric.training.optimizer import GuardedAdamW
from ric.weights.tiny_family import tiny_family
from ric.work import Work

if TYPE_CHECKING:
    from collections.abc import Callable

BATCHES = (8, 16, 32, 64)  # tried with the backbone in the loop
BF16 = torch.bfloat16


def judges(tiny: bool, folder: Path) -> tuple[RegionEncoder, SceneEncoder]:
    """Make both judges: the paper's architectures with random weights, or the embedded ones."""
    if tiny:
        return (
            RegionEncoder.from_pretrained(tiny_family() / "region_encoder"),
            SceneEncoder.from_pretrained(tiny_family() / "scene_encoder"),
        )
    clip, blip = write_clip(folder / "clip"), write_blip(folder / "blip")
    return RegionEncoder.from_clip(clip), SceneEncoder.from_blip(blip)


def examples_of(count: int, size: int) -> list[Example]:
    """Make random squares with boxes and texts of ordinary length."""
    generator = torch.Generator().manual_seed(0)
    return [
        Example(
            id=str(number),
            group=str(number),
            instruction="",
            source=None,
            target=torch.randint(256, (3, size, size), generator=generator, dtype=torch.uint8),
            box=(size // 8, size // 8, size // 2, size // 2),
            region_text=f"the left one of two red cubes behind tree number {number}",
            scene_text=" ".join(["a red cube stands to the left of a blue ball"] * 12),
        )
        for number in range(count)
    ]


class Bench:
    """A judge on a device, and the clock of its steps."""

    def __init__(self, judge: RegionEncoder | SceneEncoder, device: torch.device) -> None:
        """Move the judge to the device."""
        self.judge, self.device = judge.to(device).eval(), device

    def pairs(self, embed: Callable[..., Any], text: str) -> Pairs:
        """Make the `Pairs` of a fit."""
        return Pairs(
            self.judge, embed, lambda item: getattr(item, text), self.device, BF16, 999,
            Ranks(self.device),
        )  # fmt: skip

    def wait(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def seconds(
        self, pairs: Pairs, examples: list[Example], trained: list[torch.nn.Parameter], batch: int
    ) -> float:
        """Time an epoch per sample, without its first step."""
        self.judge.requires_grad_(False)
        for parameter in trained:
            parameter.requires_grad_(True)
        optimizer = GuardedAdamW(trained, lr=1e-5)
        batches = [examples[first : first + batch] for first in range(0, len(examples), batch)]
        optimizer.step(pairs.backward(batches[0]))
        self.wait()
        began = time.perf_counter()
        for some in batches:
            optimizer.step(pairs.backward(some))
        self.wait()
        return (time.perf_counter() - began) / len(examples)


def flops(work: Callable[[], object]) -> int:
    """Count the FLOPs of some work."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def phase_1(region: RegionEncoder, examples: list[Example], device: torch.device) -> dict[str, Any]:
    """Compare an epoch from cached tokens with one that has the backbone in the loop."""
    bench = Bench(region, device)
    fusion = list(region.fusion_parameters())
    began = time.perf_counter()
    work = Work(None, Silent(), Ranks(device), device, None)  # type: ignore[arg-type]
    cache = cache_tokens(region, examples, work, dtype=BF16, at_once=16)
    filled = time.perf_counter() - began
    batch = min(64, len(examples))
    cached = bench.pairs(cache.embed, "region_text")
    in_loop = bench.pairs(fit_clip.embed, "region_text")
    region.requires_grad_(False)
    for parameter in fusion:
        parameter.requires_grad_(True)
    counted = {
        name: flops(lambda pairs=pairs: pairs.backward(examples[:batch])) / batch
        for name, pairs in (("cached", cached), ("in the loop", in_loop))
    }
    only_fusion = flops(lambda: fusion_alone(region, cache.visual[:batch].to(device))) / batch
    fast = bench.seconds(cached, examples, fusion, batch)
    slow = {
        size: bench.seconds(in_loop, examples, fusion, size)
        for size in BATCHES
        if size <= len(examples)
    }
    return {
        "cached_ms_per_sample": 1e3 * fast,
        "in_the_loop_ms_per_sample": {size: 1e3 * one for size, one in slow.items()},
        "times_faster": min(slow.values()) / fast,
        "gflop_per_sample": {name: one / 1e9 for name, one in counted.items()},
        "backbone_gflop_per_sample_when_cached": (counted["cached"] - only_fusion) / 1e9,
        "filling_ms_per_sample": 1e3 * filled / len(examples),
        "cache_mb_per_1000_samples": cache.visual[0].numel() * 2 / 1e3,
    }


def fusion_alone(region: RegionEncoder, tokens: torch.Tensor) -> None:
    """Run the fusion alone, forward and backward."""
    with torch.autocast(tokens.device.type, BF16):
        fused = region.fuse(tokens[:, 0], tokens[:, 1])
    fused.float().sum().backward()


def everything(
    judge: RegionEncoder | SceneEncoder,
    examples: list[Example],
    device: torch.device,
    batch: int,
    rate: float,
) -> dict[str, Any]:
    """Time steps that train all of a judge, and the share that waits for data."""
    bench = Bench(judge, device)
    recipe, text = (
        (fit_clip, "region_text") if isinstance(judge, RegionEncoder) else (fit_blip, "scene_text")
    )
    embed = recipe.embed  # type: ignore[attr-defined]
    pairs = replace(bench.pairs(embed, text), at_once=batch)
    trained = list(judge.backbone_parameters())
    if isinstance(judge, RegionEncoder):
        trained += list(judge.fusion_parameters())
    each = bench.seconds(pairs, examples, trained, batch)
    counted = flops(lambda: pairs.backward(examples[:batch])) / batch
    judge.zero_grad()
    began = time.perf_counter()
    for first in range(0, len(examples), batch):
        torch.stack([item.target for item in examples[first : first + batch]]).to(device)
    bench.wait()
    data = (time.perf_counter() - began) / len(examples)
    return {
        "ms_per_sample": 1e3 * each,
        "gflop_per_sample": counted / 1e9,
        "share_waiting_for_data": data / each,
        "share_of_matrix_rate": counted / each / rate,
        "minutes_for_20_epochs_of_5751": 20 * 5751 * each / 60,
    }


def filling(count: int) -> dict[str, float]:
    """Fill a square cache from pictures of 1024 px, over all cores and in one process."""
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = []
        for number in range(count):
            small = generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            picture = Image.fromarray(small).resize((1024, 1024))
            picture.save(folder / f"{number}.jpg", quality=92)
            rows.append({"id": str(number), "source_file_name": f"{number}.jpg",
                         "target_file_name": f"{number}.jpg", "instruction": "none",
                         "split": "train"})  # fmt: skip
        (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        how = Squaring(
            size=512, fit="squash", masks="ignored", keep_source=False, ignore_signature=False
        )
        rates = {}
        for label, few in (("one process", count + 1), ("all cores", 1)):
            os.environ["RIC_CACHE_DIR"] = str(folder / label)
            squares.FEW = few
            began = time.perf_counter()
            decode_squares(FitClipConfig(data=str(folder)), "train", how, Silent())
            rates[label] = count / (time.perf_counter() - began)
    return {"samples_per_second": rates, "times_faster": rates["all cores"] / rates["one process"]}


def main() -> None:
    """Measure, print, append the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--tiny", action="store_true")
    asked = parser.parse_args()
    device = pick_device(asked.device)
    rate = matmul_rate(BF16, 1.0, device)
    result: dict[str, Any] = {
        **measured_here(torch=torch.__version__),
        "samples": asked.samples,
        "models": "embedded family" if asked.tiny else "CLIP ViT-B/16, BLIP base, random weights",
        "bf16_matrix_tflop_per_second": rate / 1e12,
    }
    with tempfile.TemporaryDirectory() as cache:
        os.environ["RIC_CACHE_DIR"] = cache
        region, scene = judges(asked.tiny, Path(cache))
        examples = examples_of(asked.samples, 64 if asked.tiny else 512)
        result["phase 1"] = phase_1(region, examples, device)
        result["phase 2"] = everything(region, examples, device, min(16, asked.samples), rate)
        result["fit-blip"] = everything(scene, examples, device, min(8, asked.samples), rate)
    result["filling the cache"] = filling(64 if asked.tiny else 1000)
    print(json.dumps(result, indent=2))
    if asked.tiny:
        return
    print(f"appended to {append_result('fit', result)}", file=sys.stderr)


if __name__ == "__main__":
    main()
