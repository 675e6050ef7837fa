"""Well-known data sets as tables, recognised by their columns, so that they need no `--columns`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ric.data import humanedit, magicbrush
from ric.data.benchmarks import emu_edit, gedit, pica_bench
from ric.data.columns import Columns, require_columns
from ric.data.list_cells import column_of
from ric.errors import RicError

if TYPE_CHECKING:
    from collections.abc import Collection

# by hub id; the names of columns are those of each data set's card, read in November 2026
KNOWN_TABLES: dict[str, Columns] = {
    humanedit.HUB_ID: humanedit.COLUMNS,
    magicbrush.HUB_ID: magicbrush.COLUMNS,
    # Wei et al. 2024; the first of its wordings
    "TIGER-Lab/OmniEdit-Filtered-1.2M": Columns(
        names={
            "id": "omni_edit_id",
            "source": "src_img",
            "target": "edited_img",
            "instruction": "edited_prompt_list[0]",
            "editing_type": "task",
        }
    ),
    # Zhao et al. 2024; free-form edits have no mask, and nothing says that `idx` is unique
    "BleachNick/UltraEdit": Columns(
        names={
            "source": "source_image",
            "target": "edited_image",
            "mask": "mask_image",
            "instruction": "edit_prompt",
            "source_text": "source_caption",
            "target_text": "target_caption",
        }
    ),
    # Brooks et al. 2023
    "timbrooks/instructpix2pix-clip-filtered": Columns(
        names={
            "source": "original_image",
            "target": "edited_image",
            "instruction": "edit_prompt",
            "source_text": "original_prompt",
            "target_text": "edited_prompt",
        }
    ),
    "stepfun-ai/GEdit-Bench": gedit.in_language(None).columns,
    "Andrew613/PICABench": pica_bench.TABLE,
    "facebook/emu_edit_test_set": emu_edit.LAYOUT.columns,
    # what diffusers' train_instruct_pix2pix.py reads unless it is told otherwise
    "fusing/instructpix2pix-1000-samples": Columns(
        names={"source": "input_image", "target": "edited_image", "instruction": "edit_prompt"}
    ),
}


def known_columns(have: Collection[str]) -> Columns | None:
    """Recognise the table of a well-known data set; None for any others.

    Args:
        have: The table's columns; there may be more than the data set's.
    """
    for columns in KNOWN_TABLES.values():
        wanted = {column_of(theirs, have) for theirs in columns.names.values()}
        if wanted | set(columns.reads) <= set(have):
            return columns
    return None


def choose_columns(mapping: dict[str, str] | None, have: list[str], where: str) -> Columns:
    """Apply `--columns` on top of the columns recognised by name.

    A known table keeps its rules for the columns that `--columns` does not name. Where the kind of
    a mask is unknown, its own pixels decide.

    Raises:
        RicError: The columns are not recognised, or `--columns` names one that is missing.
    """
    columns = known_columns(have)
    if mapping:
        columns = _laid_over(mapping, columns)
    if columns is None:
        raise RicError(
            f"The columns of {where} are not recognised: {', '.join(have)}.",
            "Map them to ours: --columns source=input_image,instruction=edit_prompt,"
            "target=edited_image; of a column of lists take an item: instruction=prompts[0].",
        )
    require_columns(columns, have, where)
    return columns


def _laid_over(mapping: dict[str, str], known: Columns | None) -> Columns:
    if known is None:
        return Columns(names=mapping, mask_kind="unknown")
    names = {**known.names, **mapping}
    own_mask = names.get("mask") == known.names.get("mask")
    return replace(
        known,
        names=names,
        mask_kind=known.mask_kind if own_mask else "unknown",
        id_rule=None if "id" in mapping else known.id_rule,
    )
