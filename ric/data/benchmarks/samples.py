"""Samples of a benchmark. All are of the split `test`, unless its rows name splits themselves."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ric.data.arrow_rows import table_names
from ric.data.columns import RowPlace, build_samples, is_missing, require_columns
from ric.data.folder import inside, metadata_hash
from ric.data.parquet_rows import picture_cell, tables_hash
from ric.errors import SampleError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ric.data.benchmarks.table import Benchmark
    from ric.data.columns import Columns, ReadOptions, Row
    from ric.data.edit_sample import EditSample


class Told(NamedTuple):
    """A sample, or the error of a row that cannot be one, and the row as the benchmark has it."""

    sample: EditSample | SampleError
    row: Row


def columns_of(benchmark: Benchmark, mapping: dict[str, str] | None) -> Columns:
    """Lay `--columns` over a benchmark's own.

    Raises:
        RicError: A table lacks one of them.
    """
    known = benchmark.layout.columns
    columns = replace(known, names={"split": "split", **known.names, **(mapping or {})})
    if mapping and "id" in mapping:
        columns = replace(columns, id_rule=None)
    if benchmark.layout.is_table:
        needed = {**known.names, **(mapping or {})}
        needed |= {name: name for name in known.reads}
        require_columns(
            replace(known, names=needed), table_names(benchmark.files[0]), f"'{benchmark.files[0]}'"
        )
    return columns


def read_benchmark(benchmark: Benchmark, columns: Columns, options: ReadOptions) -> Iterator[Told]:
    """Yield a sample per row, or the error of a row that cannot be one.

    Raises:
        RicError: A file of rows cannot be read, or a path in it leaves its folder.
    """
    layout, root, chief = benchmark.layout, benchmark.root, benchmark.files[0]
    about = options if layout.is_table else replace(options, described_in=chief.name)
    locate = picture_cell if layout.is_table else partial(_file_or_bytes, str(root), chief.name)
    next_id = columns.id_rule() if columns.id_rule else None
    for label, row, group in layout.entries(benchmark.files):
        if isinstance(row, str):
            lost = SampleError(label, "metadata", row)
            lost.group = group
            yield Told(lost, {})
            continue
        try:
            cells = layout.cells(row, root)
        except SampleError as error:
            error.row = label
            yield Told(error, row)
            continue
        if is_missing(cells.get(columns.names["split"])):
            cells = {**cells, columns.names["split"]: "test"}
        place = RowPlace(label, next_id(cells) if next_id else None)
        for item in build_samples(cells, columns, about, locate=locate, place=place):
            yield Told(item, row)


def _file_or_bytes(root: str, name: str, value: Any) -> str | bytes:
    return value if isinstance(value, bytes) else inside(root, value, name)


def benchmark_hash(benchmark: Benchmark, columns: Columns) -> str:
    """Return a SHA-256 of the rows: of a JSON file all bytes, of a table as `tables_hash`."""
    told = f"{benchmark.name}{columns.names}"
    if benchmark.layout.is_table:
        return tables_hash(benchmark.files, told)
    hashes = [metadata_hash(str(file)) for file in benchmark.files]
    return hashlib.sha256(f"{told}{hashes}".encode()).hexdigest()
