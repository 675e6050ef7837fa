"""Our folder of edits: an ordinary ImageFolder with one metadata row per sample, read and written.

`ric` reads the rows itself, lazily: a broken picture or row must not stop the iteration. A path in
the metadata that leaves its folder stops the whole command, since metadata may come from strangers
and its paths are opened. Only the hub's own cache may store a folder's files elsewhere
(`is_blob_of`).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ric.data.arrow_rows import table_rows
from ric.data.blobs import is_blob_of
from ric.data.columns import Columns, ReadOptions, Row, RowPlace, build_samples
from ric.data.list_cells import column_of
from ric.data.names import as_on_disk
from ric.data.open_file import exists, is_url, open_bytes
from ric.data.text_tables import csv_rows, in_words, json_rows
from ric.errors import RicError, SampleError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ric.data.edit_sample import EditSample

METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
SPREAD_OVER = 10_000  # a folder of more pictures is slow to list on most file systems

COLUMNS = Columns(
    names={
        "id": "id",
        "source": "source_file_name",
        "target": "target_file_name",
        "mask": "mask_file_name",
        "context_mask": "context_mask_file_name",
        "instruction": "instruction",
        "region_text": "region_text",
        "scene_text": "scene_text",
        "source_text": "source_text",
        "target_text": "target_text",
        "editing_type": "editing_type",
        "split": "split",
        "group_id": "group_id",
    }
)

# Names that `datasets` takes for splits, alone or set off by one of `-._ 0123456789`.
_SPLIT_WORDS = "train|training|validation|valid|dev|val|test|testing|eval|evaluation"
_LOOKS_LIKE_SPLIT = re.compile(rf"(^|[-._ 0-9])({_SPLIT_WORDS})([-._ 0-9]|$)")


# --- reading -------------------------------------------------------------------------------------


def find_metadata(folder: str | Path) -> str | None:
    """Name the folder's metadata file (a path or URL); None where there is none.

    Raises:
        RicError: There are several, none can be looked up, or image folders have the names of
            splits.
    """
    found, refused = list[str](), list[RicError]()
    for name in METADATA:
        try:
            found += [name] if exists(_join(folder, name)) else []
        except RicError as error:  # S3 may refuse to say that there is no such file
            refused.append(error)
    if refused and not found:
        raise refused[0]
    if len(found) > 1:
        raise RicError(f"'{folder}' holds both {' and '.join(found)}.", "Keep one of them.")
    if not found:
        return None
    if not is_url(folder):
        _refuse_split_folders(Path(folder))
    return _join(folder, found[0])


def read_folder(
    metadata: str, columns: Columns, options: ReadOptions
) -> Iterator[EditSample | SampleError]:
    """Yield a sample per metadata row, or the error of a row that cannot be one.

    Raises:
        RicError: A path in the metadata leaves its folder, or the file cannot be read.
    """
    root, _, name = metadata.rpartition("/")
    for number, row in _read_rows(metadata):
        label = f"{name}:{number}"
        if isinstance(row, str):
            yield SampleError(label, "metadata", row)
            continue
        yield from build_samples(
            row,
            columns,
            options,
            locate=lambda value: inside(root, value, name),
            place=RowPlace(label),
        )


def require_columns_met(metadata: str, columns: Columns, mapping: dict[str, str]) -> None:
    """Check that the rows have a source, and every column that `--columns` names.

    A CSV or parquet row has all columns. A JSON row may omit empty ones, so rows are read until
    each column has been seen: usually just the first, and all of them only if one is missing.

    Args:
        metadata: The file.
        columns: Which column is what.
        mapping: Our field -> their column, as `--columns` names them.

    Raises:
        RicError: No row has such a column; the message lists the existing ones.
    """
    have: dict[str, None] = {}  # in order of appearance
    missing = [*mapping.values(), columns.names["source"]]
    for _, row in _read_rows(metadata):
        if isinstance(row, str):
            continue
        have.update(dict.fromkeys(row))
        missing = [column for column in missing if column_of(column, have) not in have]
        if not missing or not metadata.endswith(".jsonl"):
            break
    if have and missing:
        raise RicError(
            f"'{metadata}' has no column {column_of(missing[0], have)!r}.",
            f"Its columns: {in_words(list(have))}.",
        )


def metadata_hash(metadata: str) -> str:
    """Return the SHA-256 of the metadata file's bytes."""
    digest = hashlib.sha256()
    with open_bytes(metadata) as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _read_rows(metadata: str) -> Iterator[tuple[int, Row | str]]:
    """Yield (line number, row); the row of a bad line is a str that says what is wrong."""
    if metadata.endswith(".parquet"):
        yield from enumerate(table_rows(metadata, None), start=1)
    elif metadata.endswith(".csv"):
        yield from csv_rows(metadata)
    else:
        yield from json_rows(metadata)


def inside(root: str, value: Any, metadata: str) -> str:
    """Join a path of a metadata file to that file's folder.

    Raises:
        RicError: The path leaves the folder, lexically or through a symbolic link.
        TypeError: The value is not text, or not valid Unicode; the message ends a sentence.
    """
    if not isinstance(value, str):
        raise TypeError(f"is a {type(value).__name__}, not a path")
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        raise TypeError("holds half a character (a lone surrogate)") from None
    leaves = (
        "://" in value
        or (is_url(root) and "::" in value)
        or os.path.isabs(value)
        or os.path.normpath(value).split("/")[0] == ".."
    )
    path = f"{root}/{value}" if leaves or is_url(root) else as_on_disk(root, value)
    if not leaves and not is_url(root):
        leaves = _link_leaves(root, path)
    if leaves:
        raise RicError(
            f"{metadata} names {value!r}, which is outside its folder '{root}'.",
            "Every path in it must stay inside: copy the picture there.",
        )
    return path


def _link_leaves(root: str, path: str) -> bool:
    """Tell whether a path, links resolved, is outside `root` and the hub's cache of it."""
    here = "" if os.path.isabs(root) else os.getcwd()  # path is as absolute as root
    home = _real(here, root)
    folder, name = os.path.split(path)
    real = _real(here, folder)
    # one call per picture: its folder is resolved once, and most pictures are not links
    if os.path.islink(path):
        file = os.path.realpath(os.path.join(real, name))
        if is_blob_of(home, file):
            return False
        real = os.path.dirname(file)
    return real != home and not real.startswith(home.rstrip("/") + "/")


@lru_cache(maxsize=4096)
def _real(here: str, folder: str) -> str:
    """Resolve a folder's links; where it is relative, from `here`, the working directory."""
    return os.path.realpath(os.path.join(here, folder))


def _refuse_split_folders(folder: Path) -> None:
    with os.scandir(folder) as entries:
        names = sorted(
            entry.name
            for entry in entries
            if entry.is_dir() and re.fullmatch(_SPLIT_WORDS, entry.name)
        )
    if names:
        raise RicError(
            f"'{folder}' holds a folder named {names[0]!r}: `datasets` takes it for a split and"
            " then drops the metadata.",
            "Rename it, correct the paths in the metadata, and name splits in a column 'split'.",
        )


def _join(folder: str | Path, name: str) -> str:
    return f"{str(folder).rstrip('/')}/{name}"


# --- writing -------------------------------------------------------------------------------------


def picture_path(kind: str, name: str, count: int | None, suffix: str = ".png") -> str:
    """Return a picture's path inside the folder, such as `source/0041.png` or `mask/a3/0041.png`.

    Args:
        kind: `source`, `target`, `mask` or `context_mask`.
        name: The sample's id.
        count: How many samples there are; above 10,000, or where it is unknown (None), pictures are
            spread over folders by the first two hex digits of the SHA-256 of the id.
        suffix: The extension that matches the file's content.
    """
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()
    # `datasets` reads a split from a file named test-1.png and drops the metadata
    stem = digest[:16] if _LOOKS_LIKE_SPLIT.search(name) else name
    spread = f"{digest[:2]}/" if count is None or count > SPREAD_OVER else ""
    return f"{kind}/{spread}{stem}{suffix}"


def write_folder(out: Path, rows: Iterable[Row]) -> int:
    """Stream rows to `out/metadata.jsonl`, which appears complete or not at all.

    Fields that are None or empty are left out, as `datasets` reads a missing field as null.

    Args:
        out: The folder; created if missing.
        rows: Our column -> value; the caller writes the pictures that they name.

    Returns:
        How many rows were written.

    Raises:
        RicError: A different metadata file exists (an equal one is left as it is), or writing
            fails, here or in the code that makes the rows.
    """
    try:
        return _write_rows(out, rows)
    except OSError as error:  # unreadable pictures and data raise errors of their own
        about = error.strerror or str(error)
        named = f" ('{error.filename}')" if error.filename else ""
        raise RicError(
            f"The folder '{out}' cannot be written: {about}{named}.",
            "Choose another folder, or check its permissions and the free space.",
        ) from None


def _write_rows(out: Path, rows: Iterable[Row]) -> int:
    out.mkdir(parents=True, exist_ok=True)
    aside = out / f".metadata.jsonl.{os.getpid()}"
    count = 0
    try:
        with aside.open("w", encoding="utf-8") as stream:
            for row in rows:
                filled = {key: value for key, value in row.items() if value not in (None, "")}
                stream.write(json.dumps(filled, ensure_ascii=False) + "\n")
                count += 1
            stream.flush()
            os.fsync(stream.fileno())
        _settle(aside, out)
    finally:
        aside.unlink(missing_ok=True)
    return count


def _settle(aside: Path, out: Path) -> None:
    there = [out / name for name in METADATA if (out / name).exists()]
    same = [path for path in there if metadata_hash(str(path)) == metadata_hash(str(aside))]
    if there and not same:
        raise RicError(
            f"'{there[0]}' is already there and differs.", "Choose another folder, or remove it."
        )
    if not there:
        aside.replace(out / METADATA[0])
