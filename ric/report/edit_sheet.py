"""The first edits of a run on one sheet, beside their sources and targets."""

from __future__ import annotations

import textwrap
from itertools import islice
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from ric.errors import SampleError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from ric.data.edit_sample import EditSample

SHEET = "sheet.png"  # in an edit run
SHOWN, COLUMNS, SIDE = 12, 3, 128  # samples, samples side by side, pixels of a picture


def write_sheet(
    samples: Iterable[EditSample], images: Path, file: Path, *, instruction: str | None = None
) -> None:
    """Save a sheet of the first 12 samples that an edit run has pictures of; none, no sheet.

    Args:
        samples: What was to be edited.
        images: The run's `images` folder.
        file: Where the sheet goes.
        instruction: The instruction for all of them; None: each sample's own.
    """
    edited = (sample for sample in samples if (images / f"{sample.id}.png").is_file())
    shown = list(islice(edited, SHOWN))
    if shown:
        before_after_target(shown, images, instruction=instruction).save(file)


def before_after_target(
    samples: Sequence[EditSample], images: Path, *, instruction: str | None = None
) -> Image.Image:
    """Lay out sources, edits and targets (white where there is none) with their instructions.

    Args:
        samples: What to show.
        images: The folder of an edit run with a picture of each.
        instruction: The instruction for all of them; None: each sample's own.

    Raises:
        FileNotFoundError: a sample has no edit.
    """
    wide, high = 3 * SIDE + 8, SIDE + 34
    rows = -(-len(samples) // COLUMNS)
    columns = min(COLUMNS, len(samples))
    sheet = Image.new("RGB", (columns * (wide + 12) - 12, rows * high), "white")
    pen = ImageDraw.Draw(sheet)
    for number, sample in enumerate(samples):
        left, top = (number % COLUMNS) * (wide + 12), (number // COLUMNS) * high
        for column, picture in enumerate(_pictures(sample, images)):
            sheet.paste(_as_tile(picture), (left + column * (SIDE + 4), top))
        text = "\n".join(textwrap.wrap(instruction or sample.instruction, wide // 6)[:2])
        pen.text((left + 2, top + SIDE + 2), text, fill="black")
    return sheet


def _pictures(sample: EditSample, images: Path) -> list[Image.Image]:
    with Image.open(images / f"{sample.id}.png") as opened:
        edited = opened.convert("RGB")
    white = Image.new("RGB", (1, 1), "white")
    try:
        target = sample.load_target() if sample.has_target else white
        return [sample.load_source(), edited, target]
    except SampleError:
        # a picture has become unreadable meanwhile
        return [white, edited, white]


def _as_tile(picture: Image.Image) -> Image.Image:
    """Fit a picture into a square; small ones are enlarged without smoothing."""
    scale = SIDE / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    small = scale >= 1
    rule = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
    tile = Image.new("RGB", (SIDE, SIDE), "white")
    resized = picture.resize((width, height), rule)
    tile.paste(resized, ((SIDE - width) // 2, (SIDE - height) // 2))
    return tile
