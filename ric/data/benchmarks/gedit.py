"""GEdit-Bench (Liu et al. 2025, Step1X-Edit): 606 instructions in English and as many in Chinese.

Its GEdit-Bench/test_gedit_score.py reads the tables of the hub's stepfun-ai/GEdit-Bench, and looks
for edits in `fullset/TASK/LANGUAGE/KEY.png`, each beside its `input_image`, `KEY_SRCIMG.png`.
`--columns source=input_image_raw` edits the pictures at the size at which they were collected.
"""

from __future__ import annotations

import io
from functools import partial
from typing import TYPE_CHECKING

from ric.data.benchmarks.layout import Entry, Layout, Result, the_edit
from ric.data.benchmarks.tables import table_entries
from ric.data.columns import Columns, is_missing
from ric.data.parquet_rows import find_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ric.data.columns import Row
    from ric.data.edit_sample import EditSample

LANGUAGE = "instruction_language"


def number_languages() -> Callable[[Row], str | None]:
    """Name rows by their key; a key's second row, if there is one, also by its language."""
    seen: set[str] = set()

    def name(row: Row) -> str | None:
        key = row.get("key")
        if is_missing(key):
            return None
        if str(key) in seen:
            return f"{key}-{row.get(LANGUAGE)}"
        seen.add(str(key))
        return str(key)

    return name


def _entries(files: Sequence[Path], language: str | None) -> Iterator[Entry]:
    for label, row, _ in table_entries(files):
        if isinstance(row, str) or language in (None, row.get(LANGUAGE)):
            yield Entry(label, row)


def _results(row: Row, sample: EditSample, edited: Path) -> list[Result]:
    place = f"fullset/{row['task_type']}/{row[LANGUAGE]}/{row['key']}"
    source = Result(f"{place}_SRCIMG.png", lambda: _png_of_source(sample))
    return [the_edit(f"{place}.png", edited), source]


def _png_of_source(sample: EditSample) -> bytes:
    stream = io.BytesIO()
    sample.load_source(own_size=True).save(stream, "PNG")
    return stream.getvalue()


def in_language(language: str | None) -> Layout:
    """Return the benchmark in one language, `en` or `cn`; None: in both."""
    return Layout(
        holds="the tables of stepfun-ai/GEdit-Bench (parquet or Arrow)",
        columns=Columns(
            names={
                "source": "input_image",
                "instruction": "instruction",
                "editing_type": "task_type",
            },
            id_rule=number_languages,
            reads=("key", LANGUAGE),
            split="test",
        ),
        find=find_tables,
        entries=partial(_entries, language=language),
        is_table=True,
        results=_results,
    )
