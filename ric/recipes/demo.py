"""`ric demo`: chains of commands on drawn scenes, without a connection or a GPU.

The six commands: the embedded family describes pictures it has not seen, its judges and its UNet
are trained for a few more steps, and it edits test scenes and is scored against their exact
targets. Or all editors: each edits the same test scenes, and they are scored side by side.
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
    as_flags,
)
from ric.data.drawn_scenes import SceneStream
from ric.data.sample import samples_of
from ric.progress import Progress, Silent
from ric.recipes.describe import describe
from ric.recipes.edit import edit
from ric.recipes.evaluate import evaluate
from ric.recipes.fit_blip import fit_blip
from ric.recipes.fit_clip import fit_clip
from ric.recipes.report import report
from ric.recipes.scenes import make_scenes
from ric.recipes.train_unet import train_unet
from ric.registry import EDITORS
from ric.report.edit_sheet import SHEET, side_by_side
from ric.runs.open_run import open_run
from ric.settings import resolve_config

if TYPE_CHECKING:
    from collections.abc import Callable

    from ric.config import CommandConfig
    from ric.runs.run import RunDir
    from ric.scoring.scores import Scores

SEED = 2024  # of the scenes; the family was trained on other ones
SCENES, TESTED, TRAINED = 1000, 100, 32  # all scenes; those edited, of test; those trained on
COMPARED = 8  # test scenes that every editor edits
EDITORS_SHEET = "editors.png"


@dataclass(frozen=True)
class Demo:
    """The result of a demo.

    Attributes:
        rows: The score table, identity and ground truth included.
        sheet: A picture of sources, edits and targets with their instructions.
        last: The eval run.
        page: The report of the whole chain.
    """

    rows: list[Scores]
    sheet: Path
    last: RunDir
    page: Path


@dataclass(frozen=True)
class Chain:
    """Commands one after the other, each said before it runs.

    Attributes:
        data: DATA of all of them.
        runs: Gets a numbered run of each.
        progress: Shows each stage.
        say: Called with each command line before it runs.
    """

    data: str
    runs: Path
    progress: Progress
    say: Callable[[str], None]

    def run(
        self,
        command: str,
        kind: type[CommandConfig],
        recipe: Callable[..., object],
        edits: tuple[str, ...] = (),
        /,
        **flags: object,
    ) -> tuple[object, RunDir]:
        """Run a command by its recipe; return the recipe's result and the run."""
        named = [*edits, "--data", self.data] if edits else [self.data]
        words = as_flags(flags)
        runs = ["--runs-dir", str(self.runs)]
        self.say(shlex.join(["ric", command, *named, "--preset", "tiny", *words, *runs]))
        extra = {"edits": edits} if edits else {}
        config = resolve_config(kind, {"data": self.data, "preset": "tiny", **flags, **extra})
        with open_run(command, as_dict(config), runs_dir=self.runs) as run:
            return recipe(config, run, self.progress), run

    def report(self, last: RunDir, folder: Path) -> Path:
        """Write `report/` into `folder`, of a run and all that led to it; return its page."""
        out = folder / "report"
        words = ["@eval", "--out", str(out), "--runs-dir", str(self.runs)]
        self.say(shlex.join(["ric", "report", *words]))
        return report([str(last.path)], out, runs_dir=self.runs, progress=self.progress)


def demo(
    folder: Path,
    progress: Progress | None = None,
    *,
    limit: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Demo:
    """Run the six commands in `folder` as numbered runs, and return their result.

    Args:
        folder: Gets `scenes/`, `runs/` and `report/`.
        progress: Shows each stage.
        limit: Test scenes to edit; None: 100.
        say: Called with each command line before it runs.
    """
    progress = progress or Silent()
    data = folder / "scenes"
    words = ["ric", "scenes", str(data), "--count", str(SCENES), "--seed", str(SEED)]
    say(shlex.join(words))
    make_scenes(data, SceneStream(count=SCENES, seed=SEED), progress=progress)
    chain = Chain(str(data), folder / "runs", progress, say)
    step = chain.run
    few, tested = {"limit": TRAINED}, {"limit": limit or TESTED}
    step("describe", DescribeConfig, describe, split="train", **few, describer="chat")
    step("fit-clip", FitClipConfig, fit_clip, fusion_epochs=1, joint_epochs=1, **few)
    described = {"descriptions": "@describe"}
    step("fit-blip", FitBlipConfig, fit_blip, epochs=1, **few, **described)
    judges = {"region_clip": "@fit-clip", "scene_blip": "@fit-blip"}
    step("train-unet", TrainUnetConfig, train_unet, steps=10, lr=1e-5, **few, **described, **judges)
    _, edited = step("edit", EditConfig, edit, unet="@train-unet", **tested)
    rows, last = step("eval", EvalConfig, evaluate, ("Ours=@edit",), **tested)
    page = chain.report(last, folder)
    return Demo(rows, edited.path / SHEET, last, page)  # type: ignore[arg-type]


def compare_editors(
    folder: Path,
    progress: Progress | None = None,
    *,
    limit: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Demo:
    """Edit the same test scenes with every editor but `none`, and score all of them in one table.

    The embedded family has one UNet that follows instructions, which is InstructPix2Pix's and
    MagicBrush's alike. An editor that fails on a scene, as ZONE may, is scored on the others.

    Args:
        folder: Gets `runs/`, a run for each editor and the eval run, `report/`, and `editors.png`.
        progress: Shows each stage.
        limit: Test scenes to edit; None: 8.
        say: Called with each command line before it runs.
    """
    data, count = f"scenes:{SCENES}@64#{SEED}", limit or COMPARED
    chain = Chain(data, folder / "runs", progress or Silent(), say)
    runs = {
        name: chain.run("edit", EditConfig, edit, editor=name, limit=count)[1]
        for name in EDITORS
        if name != "none"
    }
    # one that failed on every scene has no row in the table
    edits = tuple(f"{name}={run.path}" for name, run in runs.items() if any(run.rows("edits")))
    rows, last = chain.run("eval", EvalConfig, evaluate, edits, partial=True, limit=count)
    tested = resolve_config(EditConfig, {"data": data, "preset": "tiny", "limit": count})
    samples = samples_of(tested)
    sheet = folder / EDITORS_SHEET
    side_by_side(samples, {name: run.path / "images" for name, run in runs.items()}).save(sheet)
    page = chain.report(last, folder)
    return Demo(rows, sheet, last, page)  # type: ignore[arg-type]
