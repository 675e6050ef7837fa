"""PICABench (Pu et al. 2025, arXiv 2510.17681): 900 edits whose physics has to follow.

Its PicaEval_*.py read `meta_info.json`, a list, whose paths are below its folder; its
prepare_meta_info.py writes one. `edit_area` is boxes in the source's pixels: with those of
PicaEval_consistency.py a mask holds each box, its right and lower edge included. Where it is
"unknown" there is no mask. The hub's Andrew613/PICABench is a table with the pictures in it. Its
rows are numbered as that script does, and each has three wordings, from `superficial_prompt`, which
is the one taken, to `explicit_prompt`, which also says what has to follow.
"""

from __future__ import annotations

import json
import math
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from ric.data.benchmarks.layout import Layout, Result, find_file, listed_entries, the_edit
from ric.data.benchmarks.pie_bench import png_of
from ric.data.columns import Columns
from ric.data.folder import inside
from ric.data.images import ImageError, picture_size
from ric.data.parquet_rows import picture_cell
from ric.errors import SampleError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ric.data.benchmarks.layout import Entry
    from ric.data.columns import Row
    from ric.data.edit_sample import EditSample
    from ric.data.masks import Mask

LIST, EDITS = "meta_info.json", "output_img"
FORM = '[{"index": 0, "input_path": "input_img/00000.jpg", "edit_instruction": "...", ...}]'
SIDES = ("x", "y", "width", "height")
AREA = "edit_area"


def mask_of_boxes(boxes: Any, size: tuple[int, int]) -> Mask | None:
    """Draw a mask of boxes; None where there are none, or they are "unknown".

    Args:
        boxes: `[{"x": 1.5, "y": 2, "width": 30, "height": 40}]`, in pixels.
        size: Width and height of the picture.

    Returns:
        bool (H, W), True where to edit.

    Raises:
        ValueError: They are anything else, or none of them is inside the picture.
    """
    if not boxes or boxes == "unknown":
        return None
    if not isinstance(boxes, list) or not all(_is_box(box) for box in boxes):
        raise ValueError('is not a list of boxes with x, y, width and height, nor "unknown"')
    mask = Image.new("1", size)
    for x, y, width, height in ([box[side] for side in SIDES] for box in boxes):
        ImageDraw.Draw(mask).rectangle((x, y, x + width, y + height), fill=1)
    if mask.getbbox() is None:
        raise ValueError(f"is outside the picture of {size[0]}x{size[1]}")
    return np.asarray(mask)


def _is_box(box: Any) -> bool:
    numbers: list[Any] = [box.get(side) for side in SIDES] if isinstance(box, dict) else [None]
    if not all(type(number) in (int, float) and math.isfinite(number) for number in numbers):
        return False
    return bool(box["width"] >= 0 and box["height"] >= 0)


def _entries(files: Sequence[Path]) -> Iterator[Entry]:
    yield from listed_entries(files[0], FORM)


def _cells(row: Row, root: Path) -> Row:
    index, source = row.get("index"), row.get("input_path")
    # prepare_meta_info.py looks for edits of these names
    name = f"{index:05d}" if type(index) is int else index
    cells = {**row, "index": name, "mask": None}
    if isinstance(source, str):
        locate = partial(inside, str(root), source, LIST)
        cells["mask"] = _mask_cell(row, "input_path", locate, str(name or source))
    return cells


def _mask_cell(
    row: Row, source: str, locate: Callable[[], str | bytes | None], name: str
) -> bytes | None:
    """Draw the mask of a row's boxes as a PNG (raises SampleError); None where it has none.

    Args:
        row: The row.
        source: The column of its picture.
        locate: Returns the picture.
        name: The name under which the row fails.
    """
    area = row.get(AREA)
    try:
        if not area or area == "unknown" or (picture := locate()) is None:
            return None
        mask = mask_of_boxes(area, picture_size(picture))
    except ImageError as error:
        raise SampleError(name, "source", error.message, error.hint) from None
    except TypeError as error:
        raise SampleError(name, "source", f"Its {source} {error}.") from None
    except ValueError as error:
        raise SampleError(name, "mask", f"Its {AREA} {error}.") from None
    return None if mask is None else png_of(mask)


def number_rows() -> Callable[[Row], str | None]:
    """Name the rows of the table by their number, as prepare_meta_info.py does: `00000`."""
    numbers = count()
    return lambda row: f"{next(numbers):05d}"


def _table_cells(row: Row, name: str) -> Row:
    if AREA not in row:  # --columns has put another mask in its place
        return row
    picture = partial(picture_cell, row.get("input_image"))
    return {**row, AREA: _mask_cell(row, "input_image", picture, name)}


def _results(row: Row, sample: EditSample, edited: Path) -> list[Result]:
    source = sample.pictures.source
    assert isinstance(source, str)  # it is a path of the list's
    with_source = Result(row["input_path"], lambda: _bytes_of(sample.id, source))
    return [the_edit(f"{EDITS}/{sample.id}.png", edited), with_source]


def _bytes_of(name: str, file: str) -> bytes:
    try:
        with open(file, "rb") as stream:
            return stream.read()
    except OSError as error:
        raise SampleError(name, "source", f"'{file}' cannot be read: {error.strerror}.") from None


def _listing(made: Sequence[tuple[Row, str]]) -> tuple[str, str]:
    rows = [{**row, "output_path": place} for row, place in made]
    return LIST, json.dumps(rows, ensure_ascii=False, indent=2) + "\n"


LAYOUT = Layout(
    holds="meta_info.json and the pictures that it names",
    columns=Columns(
        names={
            "id": "index",
            "source": "input_path",
            "mask": "mask",
            "instruction": "edit_instruction",
            "editing_type": "physics_law",
        }
    ),
    find=lambda place: find_file(place, LIST),
    entries=_entries,
    cells=_cells,
    results=_results,
    listing=_listing,
)

TABLE = Columns(
    names={
        "source": "input_image",
        "mask": AREA,
        "instruction": "superficial_prompt",
        "editing_type": "physics_law",
    },
    id_rule=number_rows,
    cells=_table_cells,
    split="test",
)
