"""The speed of `ric train-unet`, the cost of its two losses, and the gain of each optimisation.

    python benchmarks/train_unet.py [--tiny] [--ablation] [--device DEVICE]
                                    [--steps N] [--rounds N] [--batch-size N]

Stable Diffusion 1.5's UNet and VAE, CLIP ViT-B/16 and BLIP base with random weights, 256 px, batch
8: for a GPU (`--tiny`: the embedded family at 64 px, for a CPU). Data are drawn scenes. A step is
the recipe's own: draw, Eq. 10, backward, AdamW, EMA. The rows are measured in turn, in several
rounds, so that a busy moment of the machine affects all of them: a row's time is the median over
its steps, a ratio the median over the rounds. `--ablation` instead compares everything on with
the same and one optimisation changed.

- On a GPU the clock is the device's. On one core of a CPU (pinned, OMP_NUM_THREADS=1) it is the
  processor time of that one thread, so that other processes count little; on several it is wall
  time.
- FLOPs are counted with torch's FlopCounterMode over the same steps, attention as the plain
  formula, and given as a share of the machine's own matrix rate, measured in every round by the
  same clock.
- The share waiting for data is `draw_batch` alone, encoding included where nothing is cached.
- Peak memory is PyTorch's own on a GPU; on a CPU it is the process's resident memory, libraries
  included.

    python benchmarks/train_unet.py --beside diffusers --script CHECKOUT_OF_DIFFUSERS

runs plain fine-tuning beside diffusers' own script on one text-to-image base (see
_beside_diffusers.py), and tells what ric's step is spent on.

The result is appended to benchmarks/results/train-unet-<machine>.json (or
train-unet-ablation-<machine>.json, train-unet-beside-diffusers-<machine>.json).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import time
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch
from _beside_diffusers import SCRIPT, beside_diffusers
from _models import write_blip, write_clip, write_instruct_pix2pix, write_small_decoder
from _results import append_result, measured_here
from diffusers import AutoencoderTiny, DDPMScheduler
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers.utils.logging import disable_progress_bar

from ric.config import TrainUnetConfig
from ric.device import matmul_rate, pick_device, pick_dtype
from ric.distributed import Ranks, start_accelerator
from ric.inputs.batches import Batch, TrainingSet, draw_batch
from ric.inputs.encodings import Encoder, OnDemand, encode_once
from ric.inputs.examples import Example, Needs, load_examples
from ric.method.objective import RegionInContextObjective
from ric.method.region_encoder import RegionEncoder
from ric.method.scene_encoder import SceneEncoder
from ric.models.pipeline import load_pipeline, load_small_decoder
from ric.progress import Silent
from ric.runs.open_run import open_run
from ric.settings import resolve_config
from ric.training import unet_step
from ric.training.ema import start_ema, update_ema
from ric.training.optimizer import GuardedAdamW
from ric.weights.tiny_family import tiny_family
from ric.work import open_work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WARM_UP = 2  # steps of each row and round
SAMPLES = 64
BF16 = torch.bfloat16


@dataclass(frozen=True)
class Tricks:
    """The optimisations of a step; `ric` compiles only with `--compile`."""

    cache: bool = True
    bf16: bool = True
    channels_last: bool = True
    fused_optimizer: bool = True
    fused_attention: bool = True
    wide_attention: bool = True  # on a CPU
    compiled: bool = False


@dataclass(frozen=True)
class Row:
    """One row of the table: a name and the settings it measures."""

    name: str
    tricks: Tricks = Tricks()
    judged: bool = True  # whether the region and scene losses are on
    small_decoder: bool = False


EVERYTHING = Row("all losses, cached")
PLAIN = Row("plain fine-tuning, cached", judged=False)
TRAININGS = (
    EVERYTHING,
    PLAIN,
    Row("all losses, cached, --loss-decoder of TAESD's shape", small_decoder=True),
    Row("all losses, --no-cache", Tricks(cache=False)),
)
ABLATION = (
    EVERYTHING,
    Row("without the cache", Tricks(cache=False)),
    Row("float32 instead of bf16", Tricks(bf16=False)),
    Row("without channels_last", Tricks(channels_last=False)),
    Row("AdamW not fused", Tricks(fused_optimizer=False)),
    Row("attention not fused", Tricks(fused_attention=False)),
    Row("attention in bf16 on a CPU", Tricks(wide_attention=False)),
    Row("--compile: UNet and decoder compiled", Tricks(compiled=True)),
)


@dataclass(frozen=True)
class Models:
    """The folders of the networks."""

    pipeline: Path
    region: Path
    scene: Path
    small_decoder: Path


def write_models(tiny: bool, folder: Path) -> Models:
    """Find the embedded family's networks, or write the paper's with random weights."""
    small = folder / "small"
    if tiny:
        torch.manual_seed(0)
        blocks = {"encoder_block_out_channels": (64,) * 3, "decoder_block_out_channels": (64,) * 3,
                  "num_encoder_blocks": (1, 3, 3), "num_decoder_blocks": (3, 3, 1)}  # fmt: skip
        AutoencoderTiny(**blocks).save_pretrained(small)
        family = tiny_family()
        return Models(
            family / "pipeline", family / "region_encoder", family / "scene_encoder", small
        )
    RegionEncoder.from_clip(write_clip(folder / "clip")).save_pretrained(folder / "region")
    SceneEncoder.from_blip(write_blip(folder / "blip")).save_pretrained(folder / "scene")
    return Models(
        write_instruct_pix2pix(folder / "pipeline"),
        folder / "region",
        folder / "scene",
        write_small_decoder(small),
    )


class NotFused(torch.optim.AdamW):
    """AdamW by torch's own choice: foreach on a GPU, a loop on a CPU."""

    def step(self, closure: Any = None) -> Any:
        """Update; unlike the fused kernel, these cannot skip a step that is not finite."""
        self.found_inf = None
        return super().step(closure)


class Step:
    """A step of the recipe, with some optimisations on and others off."""

    def __init__(
        self,
        row: Row,
        config: TrainUnetConfig,
        models: Models,
        examples: list[Example],
        device: torch.device,
    ) -> None:
        """Load the networks and encode the samples."""
        self.row, self.device = row, device
        self.config = replace(config, dtype="bf16" if row.tricks.bf16 else "fp32")
        dtype = pick_dtype(self.config.dtype, device)
        self.ranks = Ranks(device)
        pipeline = load_pipeline(models.pipeline, device)
        region = scene = None
        if row.judged:
            region = RegionEncoder.from_pretrained(models.region).to(device)
            scene = SceneEncoder.from_pretrained(models.scene).to(device)
        encoder = Encoder(pipeline, region, scene, dtype, flip=False)
        self.data = TrainingSet(
            encode_once(encoder, examples, self.ranks, Silent())
            if row.tricks.cache
            else OnDemand(encoder, examples),
            encoder.null_prompt(),
            pipeline.vae.config.scaling_factor,
            pipeline.scheduler.config.num_train_timesteps,
        )
        schedule = DDPMScheduler.from_config(pipeline.scheduler.config)
        self.objective = RegionInContextObjective(
            load_small_decoder(models.small_decoder, pipeline)
            if row.small_decoder
            else pipeline.vae,
            region,
            scene,
            prediction_type=schedule.config.prediction_type,
            alphas_cumprod=schedule.alphas_cumprod,
        )
        self.accelerator = start_accelerator(device, dtype, self.ranks)
        unet = pipeline.unet.train().requires_grad_(True)
        if row.tricks.channels_last:
            unet.to(memory_format=torch.channels_last)
        self.named = dict(unet.named_parameters())
        self.average = start_ema(self.named)
        self.optimizer = GuardedAdamW(
            unet.parameters(),
            lr=self.config.lr,
            weight_decay=self.config.weight_decay,
            max_grad_norm=self.config.max_grad_norm,
        )
        if not row.tricks.fused_optimizer:
            self.optimizer.optimizer = NotFused(
                unet.parameters(), lr=self.config.lr, weight_decay=self.config.weight_decay
            )
        self.unet = self.accelerator.prepare_model(unet)
        if row.tricks.compiled:
            self.unet = torch.compile(self.unet)
            self.objective.vae.decoder.compile(dynamic=True)

    def draw(self, number: int) -> Batch:
        """Draw the batch of a step."""
        return draw_batch(self.data, self.config, number, range(self.config.batch_size))

    def take(self, number: int) -> None:
        """Take a step that logs nothing."""
        step = unet_step.UnetStep(
            self.config, self.accelerator, self.unet, self.objective, self.data, self.ranks
        )
        values = step(number, measured=False)
        self.optimizer.step(values["loss"])
        update_ema(self.average, self.named, number, self.config.ema_decay)

    def wait(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def count_flops(self, numbers: range) -> float:
        """Count the FLOPs per step, a mean over `numbers`, attention as the plain formula."""
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            for number in numbers:
                self.take(number)
        return counter.get_total_flops() / len(numbers)


def clock(device: torch.device) -> Callable[[], float]:
    """Choose the host's clock; see the module's docstring."""
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    return time.process_time if alone else time.perf_counter


def matrix_rate(device: torch.device) -> float:
    """Measure the rate of bf16 matrix products with that clock, in FLOP per second."""
    now = clock(device)
    began, passed = now(), time.perf_counter()
    rate = matmul_rate(BF16, 0.5, device)
    return rate * (time.perf_counter() - passed) / (now() - began)


def measure(step: Step, numbers: range) -> dict[str, Any]:
    """Take steps after a warm-up; return the seconds of each, of drawing alone, and peak memory."""
    now = clock(step.device)
    with ExitStack() as stack:
        if not step.row.tricks.fused_attention:
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if not step.row.tricks.wide_attention:
            usual = patch.object(unet_step, "trained_attention", lambda device: nullcontext())
            stack.enter_context(usual)
        for number in range(WARM_UP):
            step.take(number)
        step.wait()
        forget_peak(step.device)
        seconds = list(timed(step, numbers))
        peak = peak_memory(step.device)
    drawing = []
    for number in numbers:
        began = now()
        step.draw(number)
        step.wait()
        drawing.append(now() - began)
    return {"seconds": seconds, "drawing": drawing, "peak_gib": peak / 2**30}


def timed(step: Step, numbers: range) -> Iterator[float]:
    """Take steps and yield the seconds of each; a GPU is not made to wait for the host."""
    if step.device.type == "cuda":
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(len(numbers) + 1)]
        marks[0].record()
        for mark, number in zip(marks[1:], numbers, strict=True):
            step.take(number)
            mark.record()
        torch.cuda.synchronize()
        yield from (a.elapsed_time(b) / 1e3 for a, b in pairwise(marks))
        return
    now = clock(step.device)
    for number in numbers:
        began = now()
        step.take(number)
        yield now() - began


def forget_peak(device: torch.device) -> None:
    """Reset the peak memory."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    elif sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> float:
    """Return the peak bytes since then; NaN where they cannot be known."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    if sys.platform != "linux":
        return float("nan")
    return 1024 * int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0])


def load(config: TrainUnetConfig, folder: Path) -> list[Example]:
    """Draw the scenes and square them."""
    with open_run("train-unet", {}, runs_dir=folder) as run:
        return load_examples(
            config,
            open_work(config, run),
            "train",
            Needs(config.image_size, region_text="region_text"),
        )


def summary(rounds: list[dict[str, Any]], first: list[dict[str, Any]], batch: int) -> dict:
    """Summarise a row's rounds, relative to those of the first row."""
    seconds = median(one for found in rounds for one in found["seconds"])
    drawing = median(one for found in rounds for one in found["drawing"])
    ratios = [
        median(found["seconds"]) / median(base["seconds"])
        for found, base in zip(rounds, first, strict=True)
    ]
    rate = median(found["rate"] for found in rounds)
    return {
        "ms_per_step": round(1e3 * seconds, 2),
        "ratio_to_first_row": round(median(ratios), 3),
        "ratio_by_round": [round(one, 3) for one in ratios],
        "images_per_second": round(batch / seconds, 2),
        "gflop_per_step": round(rounds[0]["flops"] / 1e9, 1),
        "share_of_bf16_matrix_rate": round(rounds[0]["flops"] / seconds / rate, 3),
        "share_waiting_for_data": round(drawing / seconds, 4),
        "peak_gib": round(max(found["peak_gib"] for found in rounds), 2),
    }


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--ablation", action="store_true")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--steps", type=int, help="default: 10; 60 beside another trainer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--beside", choices=["diffusers"])
    parser.add_argument("--script", type=Path, metavar="PATH",
                        help=f"a checkout of diffusers, or its {SCRIPT.name}")  # fmt: skip
    asked = parser.parse_args()
    if asked.beside:
        if asked.script and asked.script.is_dir():
            asked.script /= SCRIPT
        if not asked.script or not asked.script.is_file():
            parser.error(f"--beside diffusers needs --script: a checkout of diffusers ({SCRIPT})")
    asked.steps = asked.steps or (60 if asked.beside else 10)
    return asked


def main() -> None:
    """Measure, print, append the result."""
    asked = arguments()
    if asked.beside:
        result = {
            **measured_here(torch=torch.__version__),
            **beside_diffusers(asked.script, asked.steps, asked.rounds, asked.batch_size),
        }
        finish("train-unet-beside-diffusers", result)
    else:
        measure_rows(asked)


def measure_rows(asked: argparse.Namespace) -> None:
    """Measure the rows in turn, and append what was found."""
    device = pick_device(asked.device)
    size = 64 if asked.tiny else 256
    config = resolve_config(
        TrainUnetConfig,
        {"preset": "tiny" if asked.tiny else "paper", "data": f"scenes:{2 * SAMPLES}@{size}",
         "limit": SAMPLES, "batch_size": asked.batch_size},
    )  # fmt: skip
    rows = ABLATION if asked.ablation else TRAININGS
    numbers = range(WARM_UP, WARM_UP + asked.steps)
    disable_progress_bar()
    result: dict[str, Any] = {
        **measured_here(torch=torch.__version__),
        "models": "embedded family" if asked.tiny else "SD1.5, CLIP ViT-B/16, BLIP base; random",
        "pixels": size,
        "batch_size": asked.batch_size,
        "timed_steps": asked.rounds * asked.steps,
        "clock": "GPU" if device.type == "cuda" else clock(device).__name__,
    }
    found: dict[str, list[dict[str, Any]]] = {row.name: [] for row in rows}
    with tempfile.TemporaryDirectory() as name:
        os.environ["RIC_CACHE_DIR"] = f"{name}/cache"
        models, examples = write_models(asked.tiny, Path(name)), load(config, Path(name))
        for number in range(asked.rounds):
            for row in rows:
                rate = matrix_rate(device)
                step = Step(row, config, models, examples, device)
                one = {"rate": rate, **measure(step, numbers)}
                # a compiled step does the same work, but hides it from the counter
                if not number and not row.tricks.compiled:
                    one["flops"] = step.count_flops(numbers)
                found[row.name].append(one)
                del step
                torch.compiler.reset()
                print(f"{number + 1}: {row.name}: {1e3 * median(one['seconds']):.1f} ms per step",
                      file=sys.stderr)  # fmt: skip
    first = found[rows[0].name]
    result["bf16_matrix_tflop_per_second"] = round(median(one["rate"] for one in first) / 1e12, 3)
    for row in rows:
        found[row.name][0].setdefault("flops", first[0]["flops"])
        result[row.name] = summary(found[row.name], first, asked.batch_size)
    if not asked.ablation:
        plain = result[PLAIN.name]["ratio_to_first_row"]
        result["what the two losses cost over plain fine-tuning"] = round(1 / plain, 2)
    finish("train-unet-ablation" if asked.ablation else "train-unet", result)


def finish(benchmark: str, result: dict[str, Any]) -> None:
    """Print a result and append it to its file."""
    result["load_average_at_the_end"] = round(os.getloadavg()[0], 2)
    print(json.dumps(result, indent=2))
    print(f"appended to {append_result(benchmark, result)}", file=sys.stderr)


if __name__ == "__main__":
    main()
