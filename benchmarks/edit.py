"""The speed of `ric edit` by each editor, beside diffusers' pipelines called once per picture.

    python benchmarks/edit.py [--pictures 32] [--batch-sizes 1,4,16,32] [--rounds 3] [--steps N]
                              [--editors ip2p,zone,ddpm-inversion,cds] [--image-size 64]
                              [--random-weights] [--dtype auto|fp32|bf16] [--device DEVICE]

Drawn test scenes and the embedded family, at 64 px, for a CPU; with `--random-weights` networks of
Stable Diffusion 1.5's shape, for a GPU (add `--image-size 512`). Each editor edits all pictures at
batch 1 and at each larger batch size, from pictures to pictures: encoding, denoising, decoding, and
ZONE's masks; files are neither read nor written. Beside them, in the same rounds, the loop of a
user of diffusers: a pipeline of the same weights and number format, called once per picture with
the same steps.

- ip2p (magicbrush is the same computation): StableDiffusionInstructPix2PixPipeline.
- zone: the same, called twice, since ZONE runs two UNets, here of the same weights; the loop finds
  no masks.
- ddpm-inversion: LEditsPPPipelineStableDiffusion, inversion and editing: as many evaluations.
- cds: diffusers has no pipeline of it; batch 1 is the loop.

UNet evaluations are counted by a hook: rows of its batches, per picture. FLOPs are counted with
torch's FlopCounterMode, attention as the plain formula, and given as a share of the machine's own
matrix rate in that number format, measured in every round by the same clock: on one core of a CPU
(pinned, OMP_NUM_THREADS=1) the processor time of that thread, so that other processes count little;
elsewhere wall time. A figure is the median of the rounds; a ratio is the median of each round's.
Where an editor's best batch is slower than the loop, the exit code is 1.

    python benchmarks/edit.py --full-size ip2p|zone [--pixels 512] [--steps 2] [--device DEVICE]

edits one picture by pipelines of Stable Diffusion 1.5's shape with random weights, in a process of
its own: seconds and peak memory, which for ZONE with both UNets may be 20 GiB.

The result is appended to benchmarks/results/edit-<machine>.json (or edit-full-size-<machine>.json),
and the table of docs/speed.md is printed.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import diffusers
import torch
from _models import write_instruct_pix2pix, write_text_to_image
from _results import append_result, measured_here
from diffusers import (
    DPMSolverMultistepScheduler,
    LEditsPPPipelineStableDiffusion,
    StableDiffusionInstructPix2PixPipeline,
)
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ric.config import EditConfig
from ric.data.sample import samples_of
from ric.device import matmul_rate, pick_device, pick_dtype
from ric.editors.editor import EditRequest
from ric.editors.load import load_editor
from ric.settings import resolve_config
from ric.weights.tiny_family import tiny_family

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ric.editors.latent_editor import LatentEditor

OF_PIPELINE = ("ip2p", "zone")
EDITORS = (*OF_PIPELINE, "ddpm-inversion", "cds")
LOOP = "diffusers, one by one"
WARM_UP = 1  # pictures of each row
MOST = 20  # GiB, of ZONE with both UNets


# --- the machine ---------------------------------------------------------------------------------


def clock(device: torch.device) -> Callable[[], float]:
    """Choose the clock; see the module's docstring."""
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    return time.process_time if alone else time.perf_counter


def seconds_of(work: Callable[[], Any], device: torch.device) -> float:
    """Time some work, until the device is done."""
    now, on_gpu = clock(device), device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize(device)
    began = now()
    work()
    if on_gpu:
        torch.cuda.synchronize(device)
    return now() - began


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Measure the rate of matrix products with that clock, in FLOP per second."""
    now = clock(device)
    began, passed = now(), time.perf_counter()
    rate = matmul_rate(dtype, 0.5, device)
    return rate * (time.perf_counter() - passed) / (now() - began)


@contextmanager
def counted_rows(*unets: torch.nn.Module) -> Iterator[list[int]]:
    """Collect the rows of every batch that some UNets are run on."""
    rows: list[int] = []
    hooks = [
        unet.register_forward_pre_hook(lambda module, given: rows.append(len(given[0])))
        for unet in dict.fromkeys(unets)
    ]
    try:
        yield rows
    finally:
        for hook in hooks:
            hook.remove()


# --- what is measured ----------------------------------------------------------------------------


class Ours:
    """An editor of ric with a batch size."""

    def __init__(self, editor: LatentEditor, batch_size: int) -> None:
        """Hold both."""
        self.editor, self.batch_size = editor, batch_size
        self.unets = (editor.pipeline.unet, getattr(editor, "magicbrush", editor.pipeline.unet))

    def edit(self, requests: list[EditRequest]) -> None:
        """Edit the pictures batch by batch."""
        for begin in range(0, len(requests), self.batch_size):
            self.editor.edit(requests[begin : begin + self.batch_size])  # type: ignore[attr-defined]


class Theirs:
    """A pipeline of diffusers, called once per picture.

    Args:
        editor: The editor of ric that it stands beside.
        folder: Its weights.
        config: The editor's settings.
        device: Where it runs.
    """

    def __init__(self, editor: str, folder: Path, config: EditConfig, device: torch.device) -> None:
        """Load the pipeline."""
        self.editor, self.config, self.device = editor, config, device
        inverts = editor == "ddpm-inversion"
        kind = (
            LEditsPPPipelineStableDiffusion if inverts else StableDiffusionInstructPix2PixPipeline
        )
        self.pipeline = kind.from_pretrained(folder, safety_checker=None)
        self.pipeline.to(device, pick_dtype(config.dtype, device))
        if inverts or editor == "zone":
            self.pipeline.scheduler = DPMSolverMultistepScheduler.from_config(
                self.pipeline.scheduler.config,
                **({"algorithm_type": "sde-dpmsolver++"} if inverts else {}),
            )
        self.pipeline.set_progress_bar_config(disable=True)
        self.unets = (self.pipeline.unet,)

    def edit(self, requests: list[EditRequest]) -> None:
        """Edit the pictures one by one."""
        edit = self._invert if self.editor == "ddpm-inversion" else self._follow
        for request in requests:
            edit(request)

    def _follow(self, request: EditRequest) -> None:
        for _ in range(2 if self.editor == "zone" else 1):
            self.pipeline(
                request.instruction,
                image=request.image,
                num_inference_steps=self.config.steps,
                guidance_scale=self.config.guidance,
                image_guidance_scale=self.config.image_guidance,
                generator=torch.Generator().manual_seed(0),
            )

    def _invert(self, request: EditRequest) -> None:
        width, height = request.image.size
        # their number of steps is of those that are left
        left = self.config.steps - self.config.skip
        self.pipeline.invert(
            request.image,
            source_prompt=request.source_text,
            source_guidance_scale=self.config.source_guidance,
            num_inversion_steps=left,
            skip=self.config.skip / left,
            generator=torch.Generator().manual_seed(0),
            height=height,
            width=width,
        )
        self.pipeline(
            editing_prompt=[request.target_text],
            edit_guidance_scale=self.config.guidance,
            edit_warmup_steps=0,
            use_intersect_mask=False,  # its masks read attention of 16 x 16
            generator=torch.Generator().manual_seed(0),
        )


def settings_of(editor: str, asked: argparse.Namespace) -> EditConfig:
    """Resolve an editor's settings: those of --preset tiny, but for what is asked for."""
    flags = {"data": f"scenes:{20 * asked.pictures}@{asked.image_size}#1", "preset": "tiny"}
    flags |= {"editor": editor, "limit": asked.pictures, "image_size": asked.image_size}
    flags |= {"dtype": asked.dtype, "device": asked.device}
    if asked.steps:
        flags |= {"steps": asked.steps}
        flags |= {"skip": asked.steps // 3} if editor == "ddpm-inversion" else {}
    return resolve_config(EditConfig, flags)


def requests_of(config: EditConfig) -> list[EditRequest]:
    """Draw the pictures, with all their texts."""
    return [
        EditRequest(
            one.id, one.load_source(), one.instruction, one.source_text or "", one.target_text or ""
        )
        for one in samples_of(config)
    ]


# --- measuring -----------------------------------------------------------------------------------


def measure(editor: str, asked: argparse.Namespace) -> dict[str, Any]:
    """Measure an editor at all batch sizes, and the loop, in turn in every round."""
    config, device = settings_of(editor, asked), pick_device(asked.device)
    requests = requests_of(config)
    folder = asked.models / ("pipeline" if editor in OF_PIPELINE else "text_to_image")
    further = {"unet_magicbrush": folder} if editor == "zone" else {}
    loaded = load_editor(editor, folder, config, device, **further)
    rows: dict[str, Ours | Theirs] = {
        f"batch {size}": Ours(loaded, size)  # type: ignore[arg-type]
        for size in sorted({1, *asked.batch_sizes})
    }
    if editor != "cds":
        rows[LOOP] = Theirs(editor, folder, config, device)
    counts = {name: count(row, requests[:WARM_UP]) for name, row in rows.items()}
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    rates = []
    for number in range(asked.rounds):
        rates.append(matrix_rate(device, pick_dtype(asked.dtype, device)))
        for name, row in rows.items():
            seconds[name].append(seconds_of(lambda row=row: row.edit(requests), device))
            said = f"{len(requests) / seconds[name][-1]:.2f} pictures/s"
            print(f"{number + 1}: {editor}, {name}: {said}", file=sys.stderr)
    return {
        "steps": config.steps,
        "rows": {
            name: {
                "pictures_per_second": round(len(requests) / median(each), 3),
                **counts[name],
                "share_of_matrix_rate": round(
                    median(
                        counts[name]["gflop_per_picture"] * 1e9 * len(requests) / one / rate
                        for one, rate in zip(each, rates, strict=True)
                    ),
                    4,
                ),
                "over_the_loop": ratio(seconds, name, LOOP),
                "over_batch_1": ratio(seconds, name, "batch 1"),
            }
            for name, each in seconds.items()
        },
    }


def ratio(seconds: dict[str, list[float]], name: str, other: str) -> float | None:
    """Give how many times as fast as another a row is; None where there is no other."""
    if other not in seconds:
        return None
    pairs = zip(seconds[name], seconds[other], strict=True)
    return round(median(theirs / own for own, theirs in pairs), 3)


def count(row: Ours | Theirs, requests: list[EditRequest]) -> dict[str, float]:
    """Count a picture's UNet evaluations and GFLOP, and warm up."""
    with (
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
        counted_rows(*row.unets) as found,
    ):
        row.edit(requests)
    return {
        "unet_evaluations_per_picture": sum(found) / len(requests),
        "gflop_per_picture": round(counter.get_total_flops() / 1e9 / len(requests), 2),
    }


def best_batch(rows: dict[str, dict[str, Any]]) -> str:
    """Name the fastest of ric's rows."""
    ours = [name for name in rows if name != LOOP]
    return max(ours, key=lambda name: float(rows[name]["pictures_per_second"]))


def as_table(found: dict[str, Any]) -> str:
    """Lay out the figures in Markdown, for docs/speed.md."""
    lines = [
        "| | pictures/s | over diffusers | UNet evaluations | GFLOP | of the matrix rate |",
        "|---|---|---|---|---|---|",
    ]
    for editor, result in found.items():
        rows = result["rows"]
        best = best_batch(rows)
        for name in dict.fromkeys(("batch 1", best, *(name for name in rows if name == LOOP))):
            row = rows[name]
            over = "" if row["over_the_loop"] is None or name == LOOP else row["over_the_loop"]
            lines.append(
                f"| {editor}, {name} | {row['pictures_per_second']} | {over}"
                f" | {row['unet_evaluations_per_picture']:.0f} | {row['gflop_per_picture']}"
                f" | {100 * row['share_of_matrix_rate']:.0f} % |"
            )
    return "\n".join(lines)


def main_speed(asked: argparse.Namespace) -> None:
    """Measure every editor, print a table, append the result."""
    device = pick_device(asked.device)
    with tempfile.TemporaryDirectory() as name:
        if asked.random_weights:
            asked.models = Path(name)
            write_instruct_pix2pix(asked.models / "pipeline")
            write_text_to_image(asked.models / "text_to_image")
        found = {}
        for editor in asked.editors:  # each appended at once: a stop loses the later ones alone
            found[editor] = measure(editor, asked)
            result = measured_here(
                torch=torch.__version__,
                diffusers=diffusers.__version__,
                models="SD1.5's shape" if asked.random_weights else "embedded family",
                image_size=asked.image_size,
                pictures=asked.pictures,
                rounds=asked.rounds,
                threads=torch.get_num_threads(),
                dtype=str(pick_dtype(asked.dtype, device)).removeprefix("torch."),
                clock=clock(device).__name__,
                editors={editor: found[editor]},
            )
            print(json.dumps(result, indent=2))
            print(f"appended to {append_result('edit', result)}")
    print(as_table(found))
    slower = [
        editor
        for editor, one in found.items()
        if (one["rows"][best_batch(one["rows"])]["over_the_loop"] or 1) < 1
    ]
    if slower:
        raise SystemExit(f"slower than diffusers' loop: {', '.join(slower)}")


# --- one picture at full size --------------------------------------------------------------------


def edit_one(editor: str, folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """Edit a drawn picture with the pipelines in a folder; seconds and peak memory of all of it."""
    flags = {"data": f"scenes:20@{min(asked.pixels, 512)}", "editor": editor, "steps": asked.steps}
    flags |= {"image_size": asked.pixels, "device": asked.device, "dtype": asked.dtype}
    config = resolve_config(EditConfig, {**flags, "limit": 1})
    device = pick_device(asked.device)
    began = time.perf_counter()
    further = {"unet_magicbrush": folder / "other"} if editor == "zone" else {}
    loaded = load_editor(editor, folder / "pipeline", config, device, **further)
    ready = time.perf_counter()
    (request,) = requests_of(config)
    loaded.edit([request])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
    return {
        "editor": editor,
        "pixels": asked.pixels,
        "steps": asked.steps,
        "dtype": str(pick_dtype(asked.dtype, device)).removeprefix("torch."),
        "seconds_loading": round(ready - began, 1),
        "seconds_editing": round(time.perf_counter() - ready, 1),
        "peak_gib": round(peak / 2**30, 2),
        "memory": "of the GPU, allocated" if device.type == "cuda" else "of the process, resident",
    }


def write_pipelines(editor: str, folder: Path) -> None:
    """Write the pipelines of an editor: one, or for ZONE two."""
    for name in ("pipeline", "other")[: 2 if editor == "zone" else 1]:
        write_instruct_pix2pix(folder / name)


def main_full_size(asked: argparse.Namespace) -> None:
    """Write the weights, edit one picture, print, append the result."""
    asked.steps = asked.steps or 2
    with tempfile.TemporaryDirectory() as name:
        for work in (write_pipelines, edit_one):
            # the memory of writing goes with its process, and that of this one is not measured
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                words = (asked.full_size, Path(name)) + ((asked,) if work is edit_one else ())
                found = process.submit(work, *words).result()
    result = measured_here(torch=torch.__version__, **found)
    print(json.dumps(result, indent=2))
    print(f"appended to {append_result('edit-full-size', result)}")
    if asked.full_size == "zone" and result["peak_gib"] > MOST:
        raise SystemExit(f"peak memory of {result['peak_gib']} GiB exceeds {MOST} GiB")


def main() -> None:
    """Read the options; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--full-size", choices=OF_PIPELINE, help="peak memory of one picture")
    parser.add_argument("--pixels", type=int, default=512, help="the side of that picture")
    parser.add_argument("--pictures", type=int, default=32)
    parser.add_argument("--batch-sizes", default="1,4,16,32", help="of which the best is shown")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="default: those of --preset tiny; full size: 2")
    parser.add_argument("--editors", default=",".join(EDITORS))
    parser.add_argument("--random-weights", action="store_true", help="of SD1.5's shape")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--dtype", default="auto", choices=("auto", "fp32", "bf16"))
    parser.add_argument("--device", default="auto")
    asked = parser.parse_args()
    asked.batch_sizes = [int(size) for size in asked.batch_sizes.split(",")]
    asked.editors = asked.editors.split(",")
    if unknown := set(asked.editors) - set(EDITORS):
        parser.error(f"unknown editors: {', '.join(sorted(unknown))}; there are {EDITORS}")
    asked.models = tiny_family()
    diffusers.logging.set_verbosity_error()  # it prints every text that is cut
    (main_full_size if asked.full_size else main_speed)(asked)


if __name__ == "__main__":
    main()
