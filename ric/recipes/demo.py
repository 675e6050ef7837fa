"""`ric demo`: the six commands as one chain on drawn scenes, without a connection or a GPU.

The embedded family describes pictures it has not seen, its judges and its UNet are trained for a
few more steps, and it edits test scenes and is scored against their exact targets.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ric.config import (
    DescribeConfig,
    EditConfig,
    EvalConfig,
    FitBlipConfig,
    FitClipConfig,
    TrainUnetConfig,
    as_dict,
)
from ric.data.drawn_scenes import SceneStream
from ric.progress import Progress, Silent
from ric.recipes.describe import describe
from ric.recipes.edit import edit
from ric.recipes.evaluate import evaluate
from ric.recipes.fit_blip import fit_blip
from ric.recipes.fit_clip import fit_clip
from ric.recipes.scenes import make_scenes
from ric.recipes.train_unet import train_unet
from ric.report.edit_sheet import SHEET
from ric.runs.open_run import open_run
from ric.settings import resolve_config

if TYPE_CHECKING:
    from collections.abc import Callable

    from ric.config import CommandConfig
    from ric.runs.run import RunDir
    from ric.scoring.scores import Scores

SEED = 2024  # of the scenes; the family was trained on other ones
SCENES, TESTED, TRAINED = 640, 60, 32  # all scenes; those edited, of test; those trained on


@dataclass(frozen=True)
class Demo:
    """The result of the demo.

    Attributes:
        rows: The score table, identity and ground truth included.
        sheet: A picture of sources, edits and targets with their instructions.
        last: The eval run.
    """

    rows: list[Scores]
    sheet: Path
    last: RunDir


def demo(
    folder: Path,
    progress: Progress | None = None,
    *,
    say: Callable[[str], None] = lambda line: None,
) -> Demo:
    """Run the chain in `folder` (scenes, then six numbered runs) and return its result.

    Args:
        folder: Gets `scenes/` and `runs/`.
        progress: Shows each stage.
        say: Called with each command line before it runs.
    """
    progress = progress or Silent()
    data, runs = folder / "scenes", folder / "runs"
    words = ["ric", "scenes", str(data), "--count", str(SCENES), "--seed", str(SEED)]
    say(shlex.join(words))
    make_scenes(data, SceneStream(count=SCENES, seed=SEED), progress=progress)

    def step(
        command: str, kind: type[CommandConfig], recipe: Callable[..., object], **flags: object
    ) -> tuple[object, RunDir]:
        named = ["Ours=@edit", "--data", str(data)] if command == "eval" else [str(data)]
        words = [f"--{key.replace('_', '-')}={value}" for key, value in flags.items()]
        words = ["ric", command, *named, "--preset", "tiny", *words, "--runs-dir", str(runs)]
        say(shlex.join(words))
        extra = {"edits": ("Ours=@edit",)} if command == "eval" else {}
        config = resolve_config(kind, {"data": str(data), "preset": "tiny", **flags, **extra})
        with open_run(command, as_dict(config), runs_dir=runs) as run:
            return recipe(config, run, progress), run

    few = {"limit": TRAINED}
    spoken = {"describer": "chat", "max_new_tokens": 220}
    step("describe", DescribeConfig, describe, split="train", **few, **spoken)
    step("fit-clip", FitClipConfig, fit_clip, fusion_epochs=1, joint_epochs=1, **few)
    described = {"descriptions": "@describe"}
    step("fit-blip", FitBlipConfig, fit_blip, epochs=1, **few, **described)
    judges = {"region_clip": "@fit-clip", "scene_blip": "@fit-blip"}
    step("train-unet", TrainUnetConfig, train_unet, steps=10, lr=1e-5, **few, **described, **judges)
    _, edited = step("edit", EditConfig, edit, unet="@train-unet", limit=TESTED)
    rows, last = step("eval", EvalConfig, evaluate, limit=TESTED)
    return Demo(rows, edited.path / SHEET, last)  # type: ignore[arg-type]
