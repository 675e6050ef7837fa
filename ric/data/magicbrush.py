"""MagicBrush (hub id osunlp/MagicBrush, CC-BY-4.0): 8,807 train and 528 dev turns, 22.4 GB.

Its card calls mask_img a "free-form mask image (white region)": the source with the edit region
erased to transparent, which shows as white. So alpha decides, or white where there is no alpha.
The turns of one picture share img_id; the source of a later turn is the target of the one before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ric.data.columns import Columns, is_missing

if TYPE_CHECKING:
    from collections.abc import Callable

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
)
