"""WebDataset's tar shards as samples: which files they are, and what a group of members holds.

A picture is the member that its column names, `0001.source.png` or `0001.mask.png`. Texts are
columns of `0001.json`, members such as `0001.instruction.txt`, or, for the instruction alone,
`0001.txt`.
"""

from __future__ import annotations

import glob
import os
import re
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ric.data.columns import PICTURES, Columns, ReadOptions, RowPlace, build_samples
from ric.data.files_below import addresses_below, files_below
from ric.data.folder import COLUMNS as OF_METADATA
from ric.data.list_cells import column_of
from ric.data.open_file import is_url, why_no_file
from ric.data.parquet_rows import placed
from ric.data.tar_members import read_groups
from ric.data.text_tables import in_words, row_of_json
from ric.errors import RicError, SampleError, first_line
from ric.plain_line import plain_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ric.data.columns import Row
    from ric.data.edit_sample import EditSample
    from ric.data.tar_members import Group

SUFFIX = ".tar"
LOOKED_AT = 100  # samples, for the columns that they have
MOST_SHARDS = 100_000
_BRACES = re.compile(r"\{(?:(\d{1,9})\.\.(\d{1,9})|([^{}]*,[^{}]*))\}")


def names_shards(name: str) -> bool:
    """Tell whether DATA names a shard, or several by a pattern such as `s3://b/{000..099}.tar`."""
    return name.endswith(SUFFIX) and not os.path.isdir(os.path.expanduser(name))


def find_shards(name: str | Path) -> list[str]:
    """List the shards that a pattern names, or those below a folder, in the order of their names.

    Raises:
        RicError: One that is named is not there, or a place cannot be looked up.
    """
    name = os.path.expanduser(name)
    if not names_shards(name):
        if is_url(name):
            return addresses_below(name, SUFFIX)
        found = sorted(str(file) for file in files_below(Path(name)) if file.suffix == SUFFIX)
    elif is_url(name) or os.path.lexists(name):
        found = _at_addresses(name) if is_url(name) else [name]
    else:
        found = [file for one in _expanded(name) for file in sorted(glob.glob(one)) or [one]]
    local = (file for file in found if not is_url(file))
    if reason := next(filter(None, map(why_no_file, local)), None):
        raise RicError(reason)
    return found


def shard_columns(mapping: dict[str, str] | None, shard: str) -> Columns:
    """Lay `--columns` over ric's own names, and check that the first samples have what it names.

    Raises:
        RicError: No sample has a column that it names, or a source; the message lists those there.
    """
    names = {**OF_METADATA.names, **{one: one for one in PICTURES}, **(mapping or {})}
    columns = Columns(names=names)
    have: dict[str, None] = {}  # in order of appearance
    missing = [*(mapping or {}).values(), names["source"]]
    for group in islice(read_groups(shard, lambda ending: ending == "json"), LOOKED_AT):
        row = _row_of(group)
        have.update({} if isinstance(row, str) else dict.fromkeys(row))
        missing = [column for column in missing if column_of(column, have) not in have]
        if not missing:
            break
    if missing:
        raise RicError(
            f"The first samples of '{shard}' have no {column_of(missing[0], have)!r}.",
            f"Theirs are: {in_words(list(have))}. A member KEY.source.png is a sample's source;"
            " name others with --columns.",
        )
    return columns


def read_shards(
    shards: Sequence[str], columns: Columns, options: ReadOptions, *, is_told_by_txt: bool
) -> Iterator[EditSample | SampleError]:
    """Yield a sample per group of all shards, or the error of one that cannot be one.

    Args:
        shards: Their places.
        columns: Which column is what.
        options: The caller's requirements of every sample.
        is_told_by_txt: Whether `KEY.txt` is the instruction where no column holds one.
    """
    of_lists = [one.column for one in columns.lists]
    wanted = {*columns.names.values(), *of_lists, "json", *(["txt"] if is_told_by_txt else [])}
    told, split_column = columns.names["instruction"], columns.names["split"]
    for shard, label, split in placed(shards):
        for group in read_groups(shard, lambda ending: _column_of(ending) in wanted):
            place = f"{label}:{plain_line(group.key[:200])}"
            row = _row_of(group)
            if isinstance(row, str):
                yield SampleError(place, "metadata", row)
                continue
            if is_told_by_txt and not row.get(told):
                row[told] = row.get("txt")
            if split is not None and not row.get(split_column):
                row[split_column] = split
            yield from build_samples(
                row,
                columns,
                options,
                locate=_picture,
                place=RowPlace(place, number_id=group.key.replace("/", "_")),
            )


def count_shards(shards: Sequence[str]) -> int | None:
    """Count groups by the headers alone; None where a shard is at an address, to be read for it.

    Raises:
        RicError: A shard is damaged.
    """
    if any(map(is_url, shards)):
        return None
    return sum(1 for shard in shards for _ in read_groups(shard, lambda ending: False))


def _row_of(group: Group) -> Row | str:
    """Return a group's columns, or what is wrong with it in a sentence."""
    if group.fault:
        return group.fault
    row: Row = {}
    if "json" in group.parts:
        content = group.parts["json"]
        try:
            found = row_of_json(content.decode())
        except UnicodeDecodeError:
            found = "is not UTF-8."
        if isinstance(found, str):
            return f"Its json {found}"
        row |= found
    members: Row = {}
    for ending, content in group.parts.items():
        if ending == "json":
            continue
        column = _column_of(ending)
        if column in members:
            return f"It has two members for {column!r}."
        members[column] = content
        if ending.endswith("txt"):
            try:
                members[column] = content.decode().strip()
            except UnicodeDecodeError:
                return f"Its {ending} is not UTF-8."
    return row | members


def _column_of(ending: str) -> str:
    """Return the column that a member fills: `source` for `source.png`, `jpg` for `jpg`."""
    return ending.rpartition(".")[0] or ending


def _picture(value: Any) -> bytes | None:
    """Return a member's content; an empty one is no picture (raises TypeError for other cells)."""
    if not isinstance(value, bytes):
        raise TypeError("is not a picture in the shard")
    return value or None


def _at_addresses(pattern: str) -> list[str]:
    """List the addresses of a pattern; `*` where the server can list a folder."""
    found: list[str] = []
    for name in _expanded(pattern):
        if "*" not in name or name.startswith(("http://", "https://")):
            found.append(name)
            continue
        import fsspec  # 0.1 s that only remote data should pay

        try:
            files, inside = fsspec.url_to_fs(name)
            found += [files.unstrip_protocol(file) for file in sorted(files.glob(inside))]
        except Exception as error:  # each file system has its own errors
            raise RicError(f"'{name}' cannot be looked up: {first_line(error)}.") from None
    if not found:
        raise RicError(f"No shard matches '{pattern}'.")
    return found


def _expanded(pattern: str) -> list[str]:
    """List what a pattern's braces stand for, as a shell does: `{08..11}`, `{a,b}`.

    Raises:
        RicError: That is more than 100,000 names.
    """
    names = list(islice(_names_of(pattern), MOST_SHARDS + 1))
    if len(names) > MOST_SHARDS:
        raise RicError(f"'{pattern}' names more than {MOST_SHARDS:,} shards.")
    return list(dict.fromkeys(names))


def _names_of(pattern: str) -> Iterator[str]:
    found = _BRACES.search(pattern)
    if found is None:
        yield pattern
        return
    first, last, listed = found.groups()
    parts: Iterator[str] | list[str]
    if listed is None:
        width = len(first) if first.startswith("0") else 0
        parts = (f"{number:0{width}d}" for number in range(int(first), int(last) + 1))
    else:
        parts = listed.split(",")
    for part in parts:
        yield from _names_of(pattern[: found.start()] + part + pattern[found.end() :])
