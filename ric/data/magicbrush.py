"""MagicBrush (hub id osunlp/MagicBrush, CC-BY-4.0): 8,807 train and 528 dev turns, 22.4 GB.

Its card calls mask_img a "free-form mask image (white region)": the source with the edit region
erased to transparent, which shows as white. So alpha decides, or white where there is no alpha.
The turns of one picture share img_id; the source of a later turn is the target of the one before.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from ric.data.columns import Columns, is_missing
from ric.data.open_file import open_bytes
from ric.errors import RicError, printable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ric.config import Turns
    from ric.data.columns import Row

HUB_ID = "osunlp/MagicBrush"
SIZE = "22.4 GB"


def name_turns() -> Callable[[Row], str | None]:
    """Name rows by picture and turn: `<img_id>-<turn_index>`."""

    def turn_id(row: Row) -> str | None:
        if is_missing(row.get("img_id")) or is_missing(row.get("turn_index")):
            return None
        return f"{row['img_id']}-{row['turn_index']}"

    return turn_id


def captions_of(path: Path) -> dict[str, str]:
    """Read the captions of its repository's JSON, local or global, by the samples' ids.

    The file maps an img_id to its targets' file names, `<img_id>-output<turn>.png`, and these to
    captions.

    Raises:
        RicError: it cannot be read, or has another form.
    """
    wrong = RicError(
        f"'{path}' does not hold MagicBrush's captions.",
        'They have the form {"242679": {"242679-output1.png": "a caption"}}.',
    )
    with open_bytes(path) as stream:
        try:
            told = json.loads(stream.read())
        except (ValueError, RecursionError):
            raise wrong from None
    found = {}
    for turns in told.values() if isinstance(told, dict) else ():
        for name, caption in turns.items() if isinstance(turns, dict) else ():
            turn = re.fullmatch(r"(.+)-output([0-9]+)\.\w+", name)
            if turn and isinstance(caption, str):
                if printable(caption) != caption:
                    raise RicError(f"'{path}': the caption of {name!r} holds half a character.")
                found[f"{turn[1]}-{turn[2]}"] = caption
    if not found:
        raise wrong
    return found


def id_of_output(stem: str, turns: Turns) -> str | None:
    """Return the id of the sample that an output belongs to by the names of its script.

    `X_1` is the first turn's; `X_inde_2` the second's, edited from the target of the first, which
    is one of all turns; `X_iter_2` the second's, edited from the output of the first, which counts
    as a final turn.

    Args:
        stem: A file's name without extension.
        turns: Which of the two are scored.
    """
    kind = "inde" if turns == "all" else "iter"
    found = re.fullmatch(rf"(.+?)_(?:{kind}_([0-9]+)|1)", stem)
    return f"{found[1]}-{found[2] or 1}" if found else None


COLUMNS = Columns(
    names={
        "source": "source_img",
        "target": "target_img",
        "mask": "mask_img",
        "instruction": "instruction",
        "group_id": "img_id",
    },
    mask_kind="erased-white",
    id_rule=name_turns,
    reads=("img_id", "turn_index"),
)
