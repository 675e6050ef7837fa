"""Rows of the benchmarks whose pictures are in parquet or Arrow."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ric.data.arrow_rows import table_rows
from ric.data.benchmarks.layout import Entry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


def table_entries(files: Sequence[Path]) -> Iterator[Entry]:
    """Yield the rows of tables, with all columns.

    Raises:
        RicError: One is no table, or is damaged.
    """
    common = os.path.commonpath([file.parent for file in files])
    for file in files:
        label = os.path.relpath(file, common)
        for number, row in enumerate(table_rows(file, None), start=1):
            yield Entry(f"{label}:{number}", row)
