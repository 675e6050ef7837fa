"""Emu Edit's test set (Sheynin et al. 2024): seven tasks, both captions, no mask and no target.

The card of the hub's facebook/emu_edit_test_set says what its tables hold. `idx` alone does not say
which row is meant: with the split and the task it does. No script of its authors judges a folder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ric.data.benchmarks.layout import Layout
from ric.data.benchmarks.tables import table_entries
from ric.data.columns import Columns, is_missing
from ric.data.parquet_rows import find_tables

if TYPE_CHECKING:
    from collections.abc import Callable

    from ric.data.columns import Row


def name_rows() -> Callable[[Row], str | None]:
    """Name rows by split, task and index: `test-add-17`."""

    def name(row: Row) -> str | None:
        told = [row.get(column) for column in ("split", "task", "idx")]
        return None if any(map(is_missing, told)) else "-".join(map(str, told))

    return name


LAYOUT = Layout(
    holds="the tables of facebook/emu_edit_test_set (parquet)",
    columns=Columns(
        names={
            "source": "image",
            "instruction": "instruction",
            "source_text": "input_caption",
            "target_text": "output_caption",
            "editing_type": "task",
        },
        id_rule=name_rows,
        reads=("split", "idx"),
    ),
    find=find_tables,
    entries=table_entries,
    is_table=True,
)
