"""Rows of parquet and Arrow files, a few at a time: one row of HumanEdit holds 3 MB.

A damaged file can make pyarrow read past the end of its buffers and crash the process. So every
batch is validated before any of its values is read. Strings are validated as bytes, so that one
that is not UTF-8 costs only its own row.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from ric.data.open_file import is_url, open_bytes, why_no_file
from ric.errors import RicError, first_line
from ric.lfs_pointer import NO_CONTENT, is_lfs_pointer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pyarrow as pa

    from ric.data.columns import Row

_ROWS_AT_ONCE = 8


def table_names(file: str | Path) -> list[str]:
    """Read the column names of a parquet or Arrow file.

    Args:
        file: A path, or the fsspec URL of a parquet file.

    Raises:
        RicError: The file is neither, or is damaged.
    """
    import pyarrow as pa  # 0.3 s that folders of JSON rows need not pay
    import pyarrow.parquet as pq

    with _told_as_broken(file):
        if str(file).endswith(".arrow"):
            with pa.memory_map(str(file)) as stream:
                return list(pa.ipc.open_stream(stream).schema.names)
        with open_bytes(file) as stream:
            return list(pq.read_schema(stream).names)


def table_rows(file: str | Path, wanted: list[str] | None) -> Iterator[Row | str]:
    """Yield each row of a file as column -> value, or as a str that says what is wrong with it.

    Args:
        file: A path or fsspec URL.
        wanted: The columns to read, where they exist; None reads all.

    Raises:
        RicError: The file is not a table, or is damaged.
    """
    with _told_as_broken(file):
        for batch in _batches(file, wanted):
            _validate(batch)
            for start in range(0, batch.num_rows, _ROWS_AT_ONCE):
                yield from _rows(batch.slice(start, _ROWS_AT_ONCE))


def count_rows(files: Sequence[str | Path]) -> int | None:
    """Count rows from the parquet footers; None if a file is Arrow, which has no footer.

    Raises:
        RicError: A file is not a table.
    """
    import pyarrow.parquet as pq  # 0.3 s that folders of JSON rows need not pay

    count = 0
    for file in files:
        if not str(file).endswith(".parquet"):
            return None
        with _told_as_broken(file), open_bytes(file) as stream:
            count += pq.read_metadata(stream).num_rows
    return count


def _batches(file: str | Path, wanted: list[str] | None) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa  # 0.3 s that folders of JSON rows need not pay
    import pyarrow.parquet as pq

    if str(file).endswith(".arrow"):
        with pa.memory_map(str(file)) as stream:
            for batch in pa.ipc.open_stream(stream):
                places = enumerate(batch.schema.names)
                yield batch.select([at for at, name in places if wanted is None or name in wanted])
        return
    with open_bytes(file) as stream, pq.ParquetFile(stream, buffer_size=1 << 20) as table:
        names = [name for name in table.schema_arrow.names if wanted is None or name in wanted]
        yield from table.iter_batches(batch_size=_ROWS_AT_ONCE, columns=names)


def _validate(batch: pa.RecordBatch) -> None:
    """Check that every value lies within its buffers (Raises pa.ArrowInvalid)."""
    batch.validate()  # lengths first: the checks below rely on them
    for column in batch.columns:
        kind = _as_bytes(column.type)
        (column if kind == column.type else column.view(kind)).validate(full=True)


def _as_bytes(kind: pa.DataType) -> pa.DataType:
    """Return the type of the same buffers with strings as bytes."""
    import pyarrow as pa  # 0.3 s that folders of JSON rows need not pay

    if pa.types.is_string(kind):
        return pa.binary()
    if pa.types.is_large_string(kind):
        return pa.large_binary()
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_as_bytes(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_as_bytes(kind.value_type)))
    return kind


def _rows(batch: pa.RecordBatch) -> Iterator[Row | str]:
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for number in range(batch.num_rows):
            try:
                yield from batch.slice(number, 1).to_pylist()
            except UnicodeDecodeError as error:
                yield f"It holds text that is not UTF-8: {error.object[:40]!r}."


@contextmanager
def _told_as_broken(file: str | Path) -> Iterator[None]:
    """Turn pyarrow's errors, and a path that is not a file, into a one-line RicError."""
    reason = None if is_url(file) else why_no_file(file)
    if reason is None and is_lfs_pointer(file):
        reason = f"'{file}' {NO_CONTENT}."
    if reason:
        raise RicError(reason)
    try:
        yield
    except RicError:
        raise
    except Exception as error:  # on a damaged file pyarrow raises errors of every kind
        raise RicError(f"'{file}' cannot be read as a table: {first_line(error)}") from None
