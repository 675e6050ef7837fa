"""`ric train-unet` beside diffusers' own InstructPix2Pix script, each as its users run it.

Both fine-tune all weights of the embedded family's text-to-image base on the same drawn scenes of
64 px, without judges: batch 8, bf16, EMA, one rate, one share of dropped conditions, on the CPU.
What is compared is the processor time from the end of one step to the end of a later one: loading,
what is encoded once, checkpoints and exporting are in neither. Both run at once, so that what else
the machine is at disturbs both. The script is the user's, from a checkout of diffusers.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import accelerate
import diffusers
import torch

from ric.config import TrainUnetConfig, as_dict
from ric.data.sample import load_samples
from ric.recipes.train_unet import train_unet
from ric.runs.open_run import open_run
from ric.settings import resolve_config
from ric.training import loop, unet_step
from ric.weights.tiny_family import tiny_family

if TYPE_CHECKING:
    from collections.abc import Callable

SCRIPT = Path("examples/instruct_pix2pix/train_instruct_pix2pix.py")  # in a checkout of diffusers
SCENES = "scenes:160@64"
SAMPLES = 128  # of train
SETTLED = 10  # steps before the first that counts
STAMPED = Path(__file__).with_name("_stamped_steps.py")
PARTS: tuple[tuple[str, Any, str], ...] = (
    ("drawing the batch", unet_step, "draw_batch"),
    ("forward", unet_step, "judge_batch"),
    ("backward", accelerate.Accelerator, "backward"),
    ("clipping", torch.nn.utils, "clip_grad_norm_"),
    ("optimizer", torch.optim.AdamW, "step"),
    ("average", loop, "update_ema"),
)


def beside_diffusers(script: Path, steps: int, rounds: int, batch_size: int) -> dict[str, Any]:
    """Measure both commands in turn, and what ric's step is spent on."""
    words = {"data": SCENES, "preset": "tiny", "limit": SAMPLES, "device": "cpu", "dtype": "bf16",
             "base": str(tiny_family() / "text_to_image"), "region_loss": False,
             "global_loss": False, "batch_size": batch_size, "show_every": 0,
             "steps": SETTLED + steps, "checkpoint_every": 10 * (SETTLED + steps)}  # fmt: skip
    config = resolve_config(TrainUnetConfig, words)
    found: dict[str, list[float]] = {"ric": [], "diffusers": []}
    with TemporaryDirectory() as name:
        pairs = write_pairs(Path(name) / "pairs")
        commands = {"ric": ours(config), "diffusers": theirs(config, script, pairs)}
        for number in range(rounds):
            for who, seconds in seconds_a_step(commands).items():
                found[who].append(seconds)
                print(f"{number + 1}: {who}: {found[who][-1]:.3f} s a step", file=sys.stderr)
    ratios = [other / own for own, other in zip(found["ric"], found["diffusers"], strict=True)]
    return {
        "diffusers": diffusers.__version__,
        "script_sha256": hashlib.sha256(script.read_bytes()).hexdigest()[:16],
        "pixels": config.image_size,
        "batch_size": batch_size,
        "samples": SAMPLES,
        "timed_steps": rounds * steps,
        "clock": "processor time of the trainer's process",
        "ms_per_step": {who: round(1e3 * median(each), 1) for who, each in found.items()},
        "diffusers_over_ric": round(median(ratios), 3),
        "diffusers_over_ric_by_round": [round(one, 3) for one in ratios],
        "shares_of_a_step_of_ric": shares(config),
    }


def write_pairs(folder: Path) -> Path:
    """Write the scenes as the script reads them: a folder of pictures and their rows."""
    folder.mkdir()
    lines = []
    for sample in load_samples(SCENES).narrowed("train", SAMPLES):
        files = {
            "input_image_file_name": (f"{len(lines)}-source.png", sample.load_source()),
            "edited_image_file_name": (f"{len(lines)}-target.png", sample.load_target()),
        }
        for file, picture in files.values():
            picture.save(folder / file)
        names = {column: file for column, (file, _) in files.items()}
        lines.append(json.dumps({**names, "edit_prompt": sample.instruction}) + "\n")
    (folder / "metadata.jsonl").write_text("".join(lines))
    return folder


def ours(config: TrainUnetConfig) -> list[str]:
    """Give ric's command."""
    return [
        "-m", "ric_cli", "train-unet", config.data, "--preset", "tiny", "--quiet",
        "--limit", str(config.limit), "--device", "cpu", "--dtype", config.dtype,
        "--base", config.base, "--no-region-loss", "--no-global-loss", "--steps", str(config.steps),
        "--batch-size", str(config.batch_size), "--show-every", "0",
        "--checkpoint-every", str(config.checkpoint_every), "--run", "written",
    ]  # fmt: skip


def theirs(config: TrainUnetConfig, script: Path, pairs: Path) -> list[str]:
    """Give diffusers' command for the same."""
    return [
        str(script.resolve()), "--pretrained_model_name_or_path", config.base,
        "--train_data_dir", str(pairs), "--resolution", str(config.image_size),
        "--train_batch_size", str(config.batch_size), "--max_train_steps", str(config.steps),
        "--learning_rate", str(config.lr), "--lr_warmup_steps", "0", "--mixed_precision", "bf16",
        "--use_ema", "--conditioning_dropout_prob", str(config.conditioning_dropout),
        "--checkpointing_steps", str(config.checkpoint_every), "--seed", "0",
        "--output_dir", "written",
    ]  # fmt: skip


def seconds_a_step(commands: dict[str, list[str]]) -> dict[str, float]:
    """Run trainers at once, each with empty caches; give the processor time of a step of each."""
    with TemporaryDirectory() as name:
        started = {}
        for who, command in commands.items():
            folder = Path(name) / who
            folder.mkdir()
            line = [sys.executable, str(STAMPED), str(folder / "stamps.json"), *command]
            with (folder / "said").open("w") as said:
                started[who] = subprocess.Popen(
                    line, cwd=folder, env=environment(folder), stdout=said, stderr=said
                )
        seconds = {}
        for who, process in started.items():
            folder = Path(name) / who
            if process.wait():
                sys.exit(f"{who}:\n{(folder / 'said').read_text()}")
            ends = json.loads((folder / "stamps.json").read_text())[SETTLED - 1 :]
            seconds[who] = (ends[-1] - ends[0]) / (len(ends) - 1)
    return seconds


def environment(folder: Path) -> dict[str, str]:
    """Give a trainer's variables: caches of its own, this checkout, no network, no GPU."""
    return {
        **os.environ,
        "RIC_CACHE_DIR": str(folder / "ric"),
        "HF_HOME": str(folder / "hub"),
        "HF_DATASETS_CACHE": str(folder / "datasets"),
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }


def shares(config: TrainUnetConfig) -> dict[str, float]:
    """Train once more, in this process: the share of a step's processor time of each part.

    What is left is the loop: clearing gradients, counting, every tenth step's row of the log.
    """
    spent = dict.fromkeys((name for name, *_ in PARTS), 0.0)
    marks = []  # what was spent when each step's batch was about to be drawn

    def watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*words: Any, **named: Any) -> Any:
            began = time.process_time()
            if name == PARTS[0][0]:
                marks.append({"step": began, **spent})
            result = function(*words, **named)
            spent[name] += time.process_time() - began
            return result

        return run

    with TemporaryDirectory() as folder, ExitStack() as stack:
        stack.enter_context(patch.dict(os.environ, RIC_CACHE_DIR=folder))
        opened = open_run("train-unet", as_dict(config), runs_dir=Path(folder))
        run = stack.enter_context(opened)
        for name, owner, member in PARTS:
            stack.enter_context(patch.object(owner, member, watched(name, getattr(owner, member))))
        train_unet(config, run)
    first, last = marks[SETTLED], marks[-1]
    passed = {name: last[name] - first[name] for name in first}
    whole = passed.pop("step")
    passed["loop and log"] = whole - sum(passed.values())
    return {name: round(seconds / whole, 4) for name, seconds in passed.items()}
