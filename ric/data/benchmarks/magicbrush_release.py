"""MagicBrush's dev and test sets as folders (Zhang et al. 2023): 1,053 test turns, 535 pictures.

Its edit_cli_single_multi_turn.py reads `edit_sessions.json`, turns by picture, and
`images/ID/ID-input.png`; beside `input` and `instruction` a turn names its `mask` and `output`.
`edit_turns.json` is the same turns in one list. Where `global_descriptions.json` is there too, its
captions are those of both pictures; those of `local_descriptions.json` are of the edited region.

Its image_eval.py also asks for edits of edits (`ID_iter_2.png`), which no run of ours holds.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ric.data.benchmarks.layout import Entry, Layout, find_file, listed_entries, read_json
from ric.data.columns import Columns
from ric.data.magicbrush import COLUMNS, name_turns

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ric.data.columns import Row

SESSIONS, TURNS = "edit_sessions.json", "edit_turns.json"
GLOBAL, LOCAL = "global_descriptions.json", "local_descriptions.json"
FORM = '{"242679": [{"input": "242679-input.png", "instruction": "...", ...}]}'
CAPTIONS_FORM = '{"242679": {"242679-output1.png": "a caption"}}'


def _find(place: Path) -> list[Path]:
    # the two hold the same turns
    found = find_file(place, SESSIONS) or find_file(place, TURNS)
    beside = [file.with_name(name) for file in found for name in (GLOBAL, LOCAL)]
    return [*found, *(file for file in beside if file.is_file())]


def _entries(files: Sequence[Path]) -> Iterator[Entry]:
    chief, *others = files
    captions = {file.name: _captions(file) for file in others}
    for label, row, picture, turn in _turns(chief):
        if isinstance(row, str):
            yield Entry(label, row, picture or None)
            continue
        of_whole, of_region = captions.get(GLOBAL, {}), captions.get(LOCAL, {})
        told = {
            "source_text": of_whole.get(str(row.get("input"))),
            "target_text": of_whole.get(str(row.get("output"))),
            "region_text": of_region.get(str(row.get("output"))),
        }
        yield Entry(label, {**row, **told, "img_id": picture, "turn_index": turn})


def _turns(file: Path) -> Iterator[tuple[str, Row | str, str, int]]:
    """Yield each turn with its label, its picture's id and its number, from 1 on."""
    if file.name == TURNS:
        turns_of: Counter[str] = Counter()
        for label, row, _ in listed_entries(file, f"[{FORM[12:-1]}]"):
            picture = "" if isinstance(row, str) else str(row.get("input", "")).split("-")[0]
            turns_of[picture] += 1
            yield label, row, picture, turns_of[picture]
        return
    for picture, turns in read_json(file, dict, FORM).items():
        if not isinstance(turns, list):
            turns = ["Its turns are not in a list."]
        for number, row in enumerate(turns, start=1):
            is_row = isinstance(row, (dict, str))
            wrong = f"Its turn is not a JSON object but a {type(row).__name__}."
            yield f"{file.name}: {picture}-{number}", row if is_row else wrong, picture, number


def _captions(file: Path) -> dict[str, str]:
    """Read captions by the file names of their pictures."""
    return {
        name: caption
        for of_one in read_json(file, dict, CAPTIONS_FORM).values()
        if isinstance(of_one, dict)
        for name, caption in of_one.items()
        if isinstance(caption, str)
    }


def _cells(row: Row, root: Path) -> Row:
    places = {
        name: f"images/{row[name].split('-')[0]}/{row[name]}"
        for name in ("input", "mask", "output")
        if isinstance(row.get(name), str) and row[name].strip()
    }
    return {**row, **places}


LAYOUT = Layout(
    holds="edit_sessions.json or edit_turns.json, and images/",
    columns=Columns(
        names={
            "source": "input",
            "target": "output",
            "mask": "mask",
            "instruction": "instruction",
            "region_text": "region_text",
            "source_text": "source_text",
            "target_text": "target_text",
            "group_id": "img_id",
        },
        mask_kind=COLUMNS.mask_kind,
        id_rule=name_turns,
    ),
    find=_find,
    entries=_entries,
    cells=_cells,
)
