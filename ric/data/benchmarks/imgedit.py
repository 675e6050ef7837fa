"""ImgEdit-Bench (Ye et al. 2025), its Basic and UGE suites: an instruction, a type, no caption.

Its Basic/basic_bench.py and UGE/UGE_bench.py read an object of rows and a folder of pictures, and
look for the edit of row KEY in `KEY.png`. The pictures are in `original_images/` beside the file,
as its README draws them, or in the file's own folder, as in the release.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ric.data.benchmarks.layout import Layout, below, find_file, keyed_entries, the_edit
from ric.data.columns import Columns

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ric.data.benchmarks.layout import Entry, Result
    from ric.data.columns import Row
    from ric.data.edit_sample import EditSample

NAMES = ("basic_edit.json", "singleturn.json", "UGE_edit.json")
PICTURES = "original_images"
FORM = '{"1082": {"id": "animal/000342021.jpg", "prompt": "...", "edit_type": "adjust"}}'


def _entries(files: Sequence[Path]) -> Iterator[Entry]:
    yield from keyed_entries(files[0], FORM)


def _cells(row: Row, root: Path) -> Row:
    return {**row, "id": below(PICTURES, row.get("id"))} if (root / PICTURES).is_dir() else row


def _results(row: Row, sample: EditSample, edited: Path) -> list[Result]:
    return [the_edit(f"{row['key']}.png", edited)]


LAYOUT = Layout(
    holds="basic_edit.json, singleturn.json or UGE_edit.json, and its pictures",
    columns=Columns(
        names={
            "id": "key",
            "source": "id",
            "instruction": "prompt",
            "editing_type": "edit_type",
        }
    ),
    find=lambda place: find_file(place, *NAMES),
    entries=_entries,
    cells=_cells,
    results=_results,
)
