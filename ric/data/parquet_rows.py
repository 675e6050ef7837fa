"""Rows of parquet and Arrow files, a few at a time: a row of HumanEdit alone holds 3 MB."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ric.data import humanedit, magicbrush
from ric.data.columns import Columns, ReadOptions, Row, build_sample, require_columns
from ric.data.files_below import files_below
from ric.errors import RicError, SampleError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ric.data.edit_sample import EditSample

SUFFIXES = (".parquet", ".arrow")

_ROWS_AT_ONCE = 8
# `data/train-00003-of-00034.parquet`, `dev.parquet` or `human_edit-train-00000-of-00033.arrow`
_SPLIT_IN_NAME = re.compile(r"(?:^|[-_])(train|validation|valid|val|dev|test)(?:[-_.]|$)")


def find_tables(path: Path) -> list[Path]:
    """List the parquet or Arrow files of a folder (its subfolders too), or the one file itself."""
    if path.is_file():
        return [path] if path.suffix in SUFFIXES else []
    files = list(files_below(path))
    for suffix in SUFFIXES:
        if found := sorted(file for file in files if file.name.endswith(suffix)):
            return found
    return []


def known_columns(names: list[str]) -> Columns | None:
    """Recognise HumanEdit's or MagicBrush's columns."""
    for columns in (humanedit.COLUMNS, magicbrush.COLUMNS):
        if set(columns.names.values()) <= set(names):
            return columns
    return None


def choose_columns(mapping: dict[str, str] | None, have: list[str], where: str) -> Columns:
    """Lay `--columns` over what the column names are recognised as.

    A known table keeps its rules for the columns that `--columns` does not name. Where nothing is
    known of a mask, its own pixels tell its kind.

    Raises:
        RicError: The columns are not recognised, or `--columns` names one that is missing.
    """
    columns = known_columns(have)
    if mapping:
        columns = _laid_over(mapping, columns)
    if columns is None:
        raise RicError(
            f"The columns of {where} are not known: {', '.join(have)}.",
            "Say which is what: --columns source=input_image,instruction=edit_prompt,"
            "target=edited_image",
        )
    require_columns(columns, have, where)
    return columns


def read_tables(
    files: list[Path], columns: Columns, options: ReadOptions
) -> Iterator[EditSample | SampleError]:
    """Yield a sample per row of all files, or the error of a row that is none.

    The split in a file's name counts only where the files name several: HumanEdit calls its single
    one `train`, which says nothing about what to train on.
    """
    splits = [_split_in(file) for file in files]
    wanted = [*columns.names.values(), "IMAGE_ID", "img_id", "turn_index"]
    several = len({split for split in splits if split}) > 1
    yield from number_rows(
        (
            (row, split if several else None)
            for file, split in zip(files, splits, strict=True)
            for row in table_rows(file, wanted)
        ),
        columns,
        options,
    )


def number_rows(
    rows: Iterator[tuple[Row, str | None]], columns: Columns, options: ReadOptions
) -> Iterator[EditSample | SampleError]:
    """Make samples of (row, split of its file); a row without an id is named by its number."""
    next_id = columns.id_rule() if columns.id_rule else None
    columns = Columns(names={"split": "split", **columns.names}, mask_kind=columns.mask_kind)
    for number, (row, split) in enumerate(rows):
        if split is not None and not row.get(columns.names["split"]):
            row = {**row, columns.names["split"]: split}
        try:
            yield build_sample(
                row,
                columns,
                options,
                locate=_picture_cell,
                default_id=lambda _: f"{number:07d}",  # noqa: B023 - used before the next row
                sample_id=next_id(row) if next_id else None,
            )
        except SampleError as error:
            yield error


def table_names(file: Path) -> list[str]:
    """Read the column names of a parquet or Arrow file.

    Raises:
        RicError: The file is neither.
    """
    import pyarrow as pa  # 0.3 s that folders of JSON rows need not pay
    import pyarrow.parquet as pq

    try:
        if file.suffix == ".arrow":
            with pa.memory_map(str(file)) as stream:
                return list(pa.ipc.open_stream(stream).schema.names)
        return list(pq.read_schema(file).names)
    except (pa.ArrowInvalid, OSError) as error:
        raise _broken(file, error) from None


def table_rows(file: str | Path, wanted: list[str] | None) -> Iterator[Row]:
    """Yield the rows of one file as column -> value.

    Args:
        file: A path or fsspec URL.
        wanted: The columns to read, where they exist; None reads all.
    """
    import pyarrow as pa  # 0.3 s that folders of JSON rows need not pay
    import pyarrow.parquet as pq

    try:
        if str(file).endswith(".arrow"):
            with pa.memory_map(str(file)) as stream:
                for batch in pa.ipc.open_stream(stream):
                    for start in range(0, batch.num_rows, _ROWS_AT_ONCE):
                        yield from batch.slice(start, _ROWS_AT_ONCE).to_pylist()
            return
        with _binary(file) as stream, pq.ParquetFile(stream, buffer_size=1 << 20) as table:
            names = [n for n in table.schema_arrow.names if wanted is None or n in wanted]
            for batch in table.iter_batches(batch_size=_ROWS_AT_ONCE, columns=names):
                yield from batch.to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise _broken(file, error) from None


def tables_hash(files: list[Path], extra: str = "") -> str:
    """Give a SHA-256 over names, sizes and footers: 16 GB of pictures are not read for it."""
    digest = hashlib.sha256(extra.encode())
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}:".encode())
        with file.open("rb") as stream:
            # parquet's footer, whose column statistics and offsets change with the rows
            stream.seek(max(0, size - (1 << 16)), os.SEEK_SET)
            digest.update(stream.read())
    return digest.hexdigest()


def count_rows(files: list[Path]) -> int | None:
    """Count rows from the footers; None for Arrow files, which have none."""
    import pyarrow.parquet as pq  # 0.3 s that folders of JSON rows need not pay

    if any(file.suffix != ".parquet" for file in files):
        return None
    return sum(pq.read_metadata(file).num_rows for file in files)


def _laid_over(mapping: dict[str, str], known: Columns | None) -> Columns:
    if known is None:
        return Columns(names=mapping, mask_kind="unknown")
    names = {**known.names, **mapping}
    own_mask = names["mask"] == known.names["mask"]
    return Columns(
        names=names,
        mask_kind=known.mask_kind if own_mask else "unknown",
        id_rule=None if "id" in mapping else known.id_rule,
    )


def _picture_cell(value: Any) -> str | bytes | None:
    """Read a picture cell: {bytes, path} as `datasets` writes it, or the bytes alone.

    Raises:
        TypeError: It is neither; the message ends a sentence.
    """
    if isinstance(value, dict):
        path = value.get("path")
        # a stream from the hub may name where the bytes are; a local path would not be the data's
        value = value.get("bytes") or (path if path and "://" in path else None)
    if value is None or value == b"" or isinstance(value, bytes):
        return value or None
    if isinstance(value, str) and "://" in value:
        return value
    raise TypeError(f"is a {type(value).__name__}, not a picture")


def _split_in(file: Path) -> str | None:
    found = _SPLIT_IN_NAME.search(file.name) or _SPLIT_IN_NAME.fullmatch(file.parent.name)
    return found[1] if found else None


def _binary(file: str | Path) -> Any:
    if "://" not in str(file):
        return open(file, "rb")
    import fsspec  # 0.1 s that only remote data should pay

    return fsspec.open(str(file), "rb").open()


def _broken(file: str | Path, error: Exception) -> RicError:
    line = str(error).splitlines()[0] if str(error) else type(error).__name__
    return RicError(f"'{file}' cannot be read as a table: {line}")
