"""PIE-Bench (Ju et al. 2024): 700 pictures, ten types of edit, both captions, a mask of each.

PnPInversion's evaluation/evaluate.py and run_editing_p2p.py read `mapping_file.json` and
`annotation_images/`. A mask is pairs of where a run of pixels begins and how long it is, over 512 x
512 pixels row by row; a run that goes on past the last pixel is cut there, as they cut it. Brackets
in the captions mark the words that differ, and are left out. Edits are looked for under the
sources' names. No editor of ours reads `blended_word`.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ric.data.benchmarks.layout import Layout, below, find_file, keyed_entries, the_edit
from ric.data.columns import Columns
from ric.errors import SampleError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ric.data.benchmarks.layout import Entry, Result
    from ric.data.columns import Row
    from ric.data.edit_sample import EditSample
    from ric.data.masks import Mask

SIDE = 512
PICTURES = "annotation_images"
FORM = '{"000000000000": {"image_path": "0_random_140/000000000000.jpg", ...}}'
# by editing_type_id, as its README calls them
TYPES = {
    "0": "0 random", "1": "1 change object", "2": "2 add object", "3": "3 delete object",
    "4": "4 change content", "5": "5 change pose", "6": "6 change color", "7": "7 change material",
    "8": "8 change background", "9": "9 change style",
}  # fmt: skip


def mask_of_runs(runs: Any) -> Mask:
    """Decode a mask: pairs of the first pixel and the length of a run, row by row.

    Args:
        runs: `[first, length, first, length, ...]`.

    Returns:
        bool (512, 512), True where to edit.

    Raises:
        ValueError: It is not a list of whole numbers in pairs, or a run begins outside the picture.
    """
    if not isinstance(runs, list) or not all(type(number) is int for number in runs):
        raise ValueError("is not a list of whole numbers")
    if len(runs) % 2:
        raise ValueError(f"has {len(runs)} numbers; they come in pairs, first pixel and length")
    flat = np.zeros(SIDE * SIDE, bool)
    for first, length in zip(runs[::2], runs[1::2], strict=True):
        if not 0 <= first < flat.size or length < 0:
            raise ValueError(
                f"has a run of {length} pixels from {first} on, which is outside the picture's"
                f" {flat.size} pixels"
            )
        flat[first : first + length] = True
    return flat.reshape(SIDE, SIDE)


def png_of(mask: Mask) -> bytes:
    """Encode a mask (H, W) as a PNG of one bit a pixel."""
    stream = io.BytesIO()
    Image.fromarray(mask).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def _entries(files: Sequence[Path]) -> Iterator[Entry]:
    yield from keyed_entries(files[0], FORM)


def _cells(row: Row, root: Path) -> Row:
    cells = {
        name: text.replace("[", "").replace("]", "") if isinstance(text, str) else text
        for name, text in row.items()
    }
    kind = str(row.get("editing_type_id", ""))
    cells |= {"image_path": below(PICTURES, row.get("image_path")), "type": TYPES.get(kind, kind)}
    if row.get("mask") is not None:
        try:
            cells["mask"] = png_of(mask_of_runs(row["mask"]))
        except ValueError as error:
            raise SampleError(row["key"], "mask", f"Its mask {error}.") from None
    return cells


def _results(row: Row, sample: EditSample, edited: Path) -> list[Result]:
    return [the_edit(f"{PICTURES}/{row['image_path']}", edited)]


LAYOUT = Layout(
    holds="mapping_file.json and annotation_images/",
    columns=Columns(
        names={
            "id": "key",
            "source": "image_path",
            "mask": "mask",
            "instruction": "editing_instruction",
            "source_text": "original_prompt",
            "target_text": "editing_prompt",
            "editing_type": "type",
        }
    ),
    find=lambda place: find_file(place, "mapping_file.json"),
    entries=_entries,
    cells=_cells,
    results=_results,
)
