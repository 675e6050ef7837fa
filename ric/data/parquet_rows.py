"""Parquet and Arrow files as samples: where they are, and what a row's cells hold."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ric.data.arrow_rows import table_rows
from ric.data.columns import Columns, ReadOptions, Row, RowPlace, build_samples, is_missing
from ric.data.files_below import addresses_below, files_below
from ric.data.open_file import (
    REMOTE,
    is_of_local_network,
    is_remote,
    is_url,
    open_bytes,
    why_no_file,
)
from ric.errors import RicError, SampleError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ric.data.edit_sample import EditSample

SUFFIXES = (".parquet", ".arrow")

# `data/train-00003-of-00034.parquet`, `dev.parquet` or `human_edit-train-00000-of-00033.arrow`
_SPLIT_IN_NAME = re.compile(r"(?:^|[-_])(train|validation|valid|val|dev|test)(?:[-_.]|$)")


def find_tables(path: Path) -> list[Path]:
    """List the parquet or Arrow files of a folder (its subfolders too), or the one file itself.

    Raises:
        RicError: One is a dead link, a pipe or a device.
    """
    if path.is_file():
        return [path] if path.suffix in SUFFIXES else []
    files = list(files_below(path))
    for suffix in SUFFIXES:
        if found := sorted(file for file in files if file.name.endswith(suffix)):
            if reason := next(filter(None, map(why_no_file, found)), None):
                raise RicError(reason)
            return found
    return []


def find_remote_tables(address: str) -> list[str]:
    """List the parquet files below an fsspec URL, or the one file that it names itself.

    Raises:
        RicError: It cannot be looked up.
    """
    return [address] if address.endswith(".parquet") else addresses_below(address, ".parquet")


def read_tables(
    files: Sequence[str | Path], columns: Columns, options: ReadOptions
) -> Iterator[EditSample | SampleError]:
    """Yield a sample per row of all files, or the error of a row that cannot be one."""
    of_lists = [one.column for one in columns.lists]
    wanted = [*columns.names.values(), *of_lists, *columns.reads]
    yield from number_rows(
        (
            NumberedRow(f"{label}:{number}", row, split)
            for file, label, split in placed(files)
            for number, row in enumerate(table_rows(file, wanted), start=1)
        ),
        columns,
        options,
    )


class PlacedFile(NamedTuple):
    """A file of rows, its name among the others, and the split that this name says."""

    file: str | Path
    label: str
    split: str | None


def placed(files: Sequence[str | Path]) -> list[PlacedFile]:
    """Label files by what tells them apart: those of several folders may share a name.

    The split in a file's name counts only where the files name several: HumanEdit calls its single
    one `train`, which says nothing about what to train on.
    """
    places = [Path(file) for file in files]  # of an address it is the names that count
    splits = [_split_in(place) for place in places]
    several = len({split for split in splits if split}) > 1
    common = os.path.commonpath([place.parent for place in places])
    return [
        PlacedFile(file, os.path.relpath(place, common), split if several else None)
        for file, place, split in zip(files, places, splits, strict=True)
    ]


class NumberedRow(NamedTuple):
    """A row of a table: where it is, its values or what is wrong with it, its file's split."""

    label: str
    row: Row | str
    split: str | None


def number_rows(
    rows: Iterator[NumberedRow], columns: Columns, options: ReadOptions
) -> Iterator[EditSample | SampleError]:
    """Build samples from rows; a row without an id is named by its number."""
    next_id = columns.id_rule() if columns.id_rule else None
    columns = replace(columns, names={"split": "split", **columns.names})
    for number, (label, row, split) in enumerate(rows):
        if isinstance(row, str):
            yield SampleError(label, "metadata", row)
            continue
        own_split = columns.split or split
        if own_split is not None and not row.get(columns.names["split"]):
            row = {**row, columns.names["split"]: own_split}
        place = RowPlace(label, next_id(row) if next_id else None, f"{number:07d}")
        try:
            cells = columns.cells(row, place.rule_id or label) if columns.cells else row
        except SampleError as error:
            error.row = label
            yield error
            continue
        yield from build_samples(cells, columns, options, locate=picture_cell, place=place)


def tables_hash(files: Sequence[str | Path], extra: str = "", *, both_ends: bool = False) -> str:
    """Return a SHA-256 of names, sizes and last 64 KB, so that 16 GB of pictures stay unread.

    Args:
        files: The files.
        extra: What else it depends on.
        both_ends: Whether the first 64 KB count as well.
    """
    digest = hashlib.sha256(extra.encode())
    for file in files:
        with open_bytes(file) as stream:
            size = stream.seek(0, os.SEEK_END)
            digest.update(f"{Path(file).name}:{size}:".encode(errors="surrogatepass"))
            if both_ends:
                stream.seek(0, os.SEEK_SET)
                digest.update(stream.read(1 << 16))
            # parquet's footer, whose column statistics and offsets change with the rows
            stream.seek(max(0, size - (1 << 16)), os.SEEK_SET)
            digest.update(stream.read())
    return digest.hexdigest()


def picture_cell(value: Any) -> str | bytes | None:
    """Read a picture cell: {bytes, path} as `datasets` writes it, bytes, or an address.

    Raises:
        TypeError: It is none of these, or not a server's address; the message ends a sentence.
    """
    if isinstance(value, dict):
        # a stream from the hub may hold the bytes' address instead
        value = value.get("bytes") or value.get("path")
    if value == b"" or is_missing(value):
        return None
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise TypeError(f"is a {type(value).__name__}, not a picture")
    if is_remote(value):
        if is_of_local_network(value):
            raise TypeError(
                f"is {value!r}, and a row may not name this machine or its local network"
            )
        return value
    if is_url(value):
        raise TypeError(
            f"is {value!r}; a row may only hold a plain address of: {', '.join(REMOTE)}"
        )
    raise TypeError(
        f"is the path {value!r}, not a picture: store the pictures in the table, or put a"
        " metadata.jsonl that names them beside them"
    )


def _split_in(file: Path) -> str | None:
    found = _SPLIT_IN_NAME.search(file.name) or _SPLIT_IN_NAME.fullmatch(file.parent.name)
    return found[1] if found else None
