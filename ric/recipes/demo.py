"""`ric demo`: the six commands as one chain on real photographs, without network or GPU.

The photographs are those that scikit-image carries. Each becomes several samples whose right
answer is known: a shaded ball with its shadow is added, removed, or painted another colour. The
models are the untrained tiny family, so the chain is real and its pictures are not yet worth
looking at.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from ric.config import (
    DescribeConfig,
    EditConfig,
    EvalConfig,
    FitBlipConfig,
    FitClipConfig,
    TrainUnetConfig,
    as_dict,
    resolve_config,
)
from ric.data.folder import write_folder
from ric.data.sample import load_samples
from ric.progress import Progress, Silent
from ric.recipes.describe import describe
from ric.recipes.edit import edit
from ric.recipes.evaluate import evaluate
from ric.recipes.fit_blip import fit_blip
from ric.recipes.fit_clip import fit_clip
from ric.recipes.train_unet import train_unet
from ric.run_dir import open_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from ric.config import CommandConfig
    from ric.metrics.scores import Scores
    from ric.run_dir import RunDir

PHOTOS = {
    "astronaut": "an astronaut in an orange suit before a flag",
    "chelsea": "a tabby cat lying on a blanket",
    "coffee": "a cup of coffee on a saucer on a wooden table",
    "rocket": "a rocket on its launch pad under a clear sky",
}
COLOURS = {"red": (200, 30, 30), "green": (30, 150, 50), "blue": (40, 70, 210)}
SPLITS = ("train", "train", "train", "val", "train", "test")
SIZE = 128  # pixels


@dataclass(frozen=True)
class Demo:
    """What the demo made.

    Attributes:
        rows: The score table, identity and ground truth included.
        sheet: A picture of sources, edits and targets, one test sample a row.
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
    """Run the chain in `folder` (data, then six numbered runs) and return its result.

    Args:
        folder: Gets `data/`, `runs/` and `edits.png`.
        progress: Told about each stage.
        say: Told each command line before it runs.
    """
    progress = progress or Silent()
    data, runs = folder / "data", folder / "runs"
    if not (data / "metadata.jsonl").is_file():
        write_folder(data, demo_rows(data))

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

    step("describe", DescribeConfig, describe)
    step("fit-clip", FitClipConfig, fit_clip)
    step("fit-blip", FitBlipConfig, fit_blip, descriptions="@describe")
    judges = {"region_clip": "@fit-clip", "scene_blip": "@fit-blip"}
    step("train-unet", TrainUnetConfig, train_unet, descriptions="@describe", **judges)
    images, _ = step("edit", EditConfig, edit, unet="@train-unet")
    rows, last = step("eval", EvalConfig, evaluate)
    sheet = folder / "edits.png"
    contact_sheet(data, Path(str(images))).save(sheet)
    return Demo(rows, sheet, last)  # type: ignore[arg-type]


def demo_rows(folder: Path) -> Iterator[dict[str, str]]:
    """Draw the samples into `folder` and yield their metadata rows: 24, a quarter a photo."""
    from skimage import data as photographs

    for photo, (name, words) in enumerate(PHOTOS.items()):
        whole = Image.fromarray(getattr(photographs, name)()).convert("RGB")
        for number, split in enumerate(SPLITS):
            rng = np.random.default_rng([photo, number])
            plain = _crop(whole, rng)
            centre, radius = rng.uniform(0.3, 0.7, 2) * SIZE, rng.uniform(0.12, 0.2) * SIZE
            first, second = rng.permutation(list(COLOURS))[:2]
            with_first = draw_ball(plain, centre, radius, COLOURS[first])
            side = "left" if centre[0] < SIZE / 2 else "right"
            kind, source, target, instruction, region, scene = {
                0: ("Add", plain, with_first, f"Add a {first} ball on the {side}.",
                    f"a {first} ball on the {side}", f"A {first} ball lies on the {side}."),
                1: ("Remove", with_first, plain, f"Remove the {first} ball.",
                    f"{words}, without a ball", "There is no ball."),
                2: ("Replace", with_first, draw_ball(plain, centre, radius, COLOURS[second]),
                    f"Turn the {first} ball into a {second} one.",
                    f"a {second} ball on the {side}", f"A {second} ball lies on the {side}."),
            }[(photo + number) % 3]  # fmt: skip
            sample = f"{name}-{number}"
            mask = Image.new("L", (SIZE, SIZE), 0)
            ImageDraw.Draw(mask).ellipse(_ball_box(centre, radius), fill=255)
            files = {}
            for column, picture in (("source", source), ("target", target), ("mask", mask)):
                files[f"{column}_file_name"] = f"{column}/{sample}.png"
                (folder / column).mkdir(parents=True, exist_ok=True)
                picture.save(folder / files[f"{column}_file_name"])
            yield {
                "id": sample,
                **files,
                "instruction": instruction,
                "region_text": region,
                "scene_text": f"The picture shows {words}. {scene}",
                "editing_type": kind,
                "split": split,
            }


def _crop(whole: Image.Image, rng: np.random.Generator) -> Image.Image:
    side = int(min(whole.size) * rng.uniform(0.5, 0.8))
    left = int(rng.integers(whole.width - side + 1))
    top = int(rng.integers(whole.height - side + 1))
    return whole.crop((left, top, left + side, top + side)).resize((SIZE, SIZE))


def _ball_box(centre: NDArray[np.float64], radius: float) -> tuple[float, float, float, float]:
    x, y = centre
    return x - radius, y - radius, x + radius, y + radius


def draw_ball(
    picture: Image.Image, centre: NDArray[np.float64], radius: float, colour: tuple[int, int, int]
) -> Image.Image:
    """Draw a ball lit from the upper left, with a soft shadow to its lower right."""
    y, x = np.mgrid[0 : picture.height, 0 : picture.width]
    pixels = np.asarray(picture, dtype=np.float64)
    across, down = (x - centre[0]) / radius, (y - centre[1]) / radius
    shadow = np.clip(1.3 - np.hypot((across - 0.5) / 1.4, (down - 1.0) / 0.5), 0, 1)
    pixels = pixels * (1 - 0.5 * shadow[..., None])
    height = np.sqrt(np.clip(1 - across**2 - down**2, 0, None))
    light = np.clip(0.35 + 0.75 * (-0.5 * across - 0.6 * down + 0.6 * height), 0.15, 1.3)
    ball = np.asarray(colour) * light[..., None]
    edge = np.clip((1 - np.hypot(across, down)) * radius, 0, 1)[..., None]
    mixed = pixels * (1 - edge) + ball * edge
    return Image.fromarray(np.clip(mixed, 0, 255).round().astype(np.uint8))


def contact_sheet(data: Path, images: Path) -> Image.Image:
    """Lay out the test samples: source, edit, target, one sample a row."""
    samples = list(load_samples(data, split="test"))
    sheet = Image.new("RGB", (3 * SIZE + 8, len(samples) * (SIZE + 4)), "white")
    for row, sample in enumerate(samples):
        with Image.open(images / f"{sample.id}.png") as edited:
            pictures = (sample.load_source(), edited.convert("RGB"), sample.load_target())
        for column, picture in enumerate(pictures):
            sheet.paste(picture, (column * (SIZE + 4), row * (SIZE + 4)))
    return sheet
