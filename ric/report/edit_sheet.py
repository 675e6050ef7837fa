"""Edits on one sheet, beside their sources and targets: of one run, or of several editors."""

from __future__ import annotations

import sys
import textwrap
from itertools import islice
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from ric.data.images import ImageError, open_image
from ric.errors import SampleError
from ric.runs.rows import save_png

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from ric.data.edit_sample import EditSample
    from ric.data.images import PictureSource

SHEET = "sheet.png"  # in an edit run
SHOWN, COLUMNS, SIDE = 12, 3, 128  # samples, samples side by side, pixels of a picture
HEADING, BELOW = 18, 28  # pixels of `side_by_side`: above its columns, and below each row


def write_sheet(
    samples: Iterable[EditSample],
    images: Path,
    file: Path,
    *,
    instruction: str | None = None,
    known: Sequence[str] | None = None,
) -> list[str]:
    """Save a sheet of the first 12 samples that an edit run has pictures of; none, no sheet.

    Args:
        samples: What was to be edited.
        images: The run's `images` folder.
        file: Where the sheet goes.
        instruction: The instruction for all of them; None: each sample's own.
        known: Those that the sheet shows already: it stays if they are the same.

    Returns:
        The ids of those that it shows.
    """
    edited = (sample for sample in samples if (images / f"{sample.id}.png").is_file())
    shown = list(islice(edited, SHOWN))
    ids = [sample.id for sample in shown]
    if shown and ids != known:
        save_png(before_after_target(shown, images, instruction=instruction), file)
    return ids


def write_photo_sheet(edits: Sequence[tuple[Path, Path, str]], file: Path) -> None:
    """Save a sheet of edits of photos, each beside its photo; none, no sheet.

    Args:
        edits: Photo, edit, and what stands under them; one picture is decoded at a time.
        file: Where the sheet goes.
    """
    if edits:
        tiles = [[_tile_of(photo), _tile_of(edited)] for photo, edited, _ in edits]
        save_png(lay_out(tiles, [text for _, _, text in edits]), file)


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
    tiles = [[_as_tile(picture) for picture in _pictures(sample, images)] for sample in samples]
    return lay_out(tiles, [instruction or sample.instruction for sample in samples])


def side_by_side(samples: Iterable[EditSample], edits: Mapping[str, Path]) -> Image.Image:
    """Lay out several editors' edits: a column each, between the sources and the targets.

    Args:
        samples: A row of pictures each, with the instruction below it.
        edits: Each editor's folder of pictures, `<id>.png`, by its heading; where it has none of
            a sample, its tile says so.
    """
    shown = list(samples)
    headings = ["source", *edits, "target"]
    wide, high = len(headings) * (SIDE + 4) - 4, SIDE + BELOW
    sheet = Image.new("RGB", (wide, HEADING + len(shown) * high), "white")
    pen = ImageDraw.Draw(sheet)
    for column, heading in enumerate(headings):
        middle = column * (SIDE + 4) + SIDE // 2
        pen.text((middle, HEADING // 2), heading, fill="black", anchor="mm")
    for row, sample in enumerate(shown):
        top = HEADING + row * high
        made = [folder / f"{sample.id}.png" for folder in edits.values()]
        tiles = [_tile_of(file) if file.is_file() else _no_edit() for file in made]
        around = [_as_tile(sample.load_source()), _as_tile(sample.load_target())]
        for column, tile in enumerate([around[0], *tiles, around[1]]):
            sheet.paste(tile, (column * (SIDE + 4), top))
        text = textwrap.shorten(sample.instruction, wide // 6, placeholder="…")
        pen.text((2, top + SIDE + 2), text, fill="black")
    return sheet


def lay_out(tiles: Sequence[Sequence[Image.Image]], texts: Sequence[str]) -> Image.Image:
    """Lay out the tiles of some edits, equally many of each, three edits a row.

    Args:
        tiles: RGB, `SIDE` pixels wide and high.
        texts: What stands under each edit, cut to two lines.
    """
    wide, high = len(tiles[0]) * (SIDE + 4) - 4, SIDE + 34
    rows, columns = -(-len(tiles) // COLUMNS), min(COLUMNS, len(tiles))
    sheet = Image.new("RGB", (columns * (wide + 12) - 12, rows * high), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (row, text) in enumerate(zip(tiles, texts, strict=True)):
        left, top = (number % COLUMNS) * (wide + 12), (number // COLUMNS) * high
        for column, tile in enumerate(row):
            sheet.paste(tile, (left + column * (SIDE + 4), top))
        lines = "\n".join(textwrap.wrap(text, wide // 6)[:2])
        pen.text((left + 2, top + SIDE + 2), lines, fill="black")
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


def _tile_of(source: PictureSource) -> Image.Image:
    """Read a picture as a tile, white where it has become unreadable meanwhile."""
    try:
        return _as_tile(open_image(source, max_pixels=sys.maxsize))
    except ImageError:
        return Image.new("RGB", (SIDE, SIDE), "white")


def _no_edit() -> Image.Image:
    tile = Image.new("RGB", (SIDE, SIDE), "#eeeeee")
    ImageDraw.Draw(tile).text((SIDE // 2, SIDE // 2), "no edit", fill="#777777", anchor="mm")
    return tile


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
