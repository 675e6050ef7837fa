"""Data sets of the Hugging Face hub: this machine's caches first, then a stream.

What `hf download` or `datasets.load_dataset` left here is read without a connection. Otherwise one
connection attempt of three seconds decides, where `datasets` would retry for a minute.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ric.data import humanedit, magicbrush
from ric.data.arrow_rows import count_rows, table_names
from ric.data.folder import find_metadata
from ric.data.known_tables import choose_columns
from ric.data.parquet_rows import NumberedRow, find_tables, number_rows, read_tables
from ric.errors import RicError, first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ric.data.columns import Columns, ReadOptions
    from ric.data.edit_sample import EditSample
    from ric.errors import SampleError

    Rows = Callable[[], Iterator[EditSample | SampleError]]

SIZES = {
    humanedit.HUB_ID: humanedit.SIZE,
    magicbrush.HUB_ID: magicbrush.SIZE,
    "TIGER-Lab/OmniEdit-Filtered-1.2M": "3 TB",
    "timbrooks/instructpix2pix-clip-filtered": "63 GB",
}


def is_hub_id(text: str) -> bool:
    """Tell whether a text has the form `org/name`."""
    return re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", text) is not None


def open_hub(
    hub_id: str, mapping: dict[str, str] | None, options: ReadOptions
) -> tuple[Rows, str, int | None]:
    """Find a hub data set, cached or online.

    Returns:
        A function that yields its samples, its fingerprint (of id, revision and columns), and its
        row count, None if unknown.

    Raises:
        RicError: It is neither cached nor reachable (the message gives its size and how to get
            it), the cached copy is incomplete, or its columns are not recognised.
    """
    files, revision = cached_files(hub_id)
    if files:
        columns = choose_columns(mapping, table_names(files[0]), hub_id)
        _refuse_partial(hub_id, files)
        return (
            lambda: read_tables(files, columns, options),
            _fingerprint(hub_id, revision, columns),
            count_rows(files),
        )
    from ric.weights import require_connection  # only a miss needs the table of weights

    require_connection(
        f"The data set {hub_id} ({SIZES.get(hub_id, 'size unknown')})",
        f"Get it where there is a connection: `hf download {hub_id} --repo-type dataset`.",
        instead="Drawn scenes, such as scenes:300@64#7, need no download.",
    )
    return _stream(hub_id, hub_id, _latest_revision(hub_id), mapping, options)


def cached_metadata(hub_id: str) -> str | None:
    """Return the metadata file of a cached snapshot that is a folder of edits; else None.

    Raises:
        RicError: As `find_metadata`.
    """
    found = (find_metadata(snapshot) for snapshot in _snapshots(hub_id))
    return next(filter(None, found), None)


def cached_files(hub_id: str) -> tuple[list[Path], str | None]:
    """Find the tables that `hf download` or `load_dataset` cached here, and their revision."""
    from huggingface_hub import constants  # 0.1 s that local folders need not pay

    for snapshot in _snapshots(hub_id):
        if files := find_tables(snapshot):
            return files, snapshot.name
    organisation, name = hub_id.split("/")
    datasets_cache = Path(
        os.environ.get("HF_DATASETS_CACHE") or Path(constants.HF_HOME) / "datasets"
    )
    snake = re.sub(r"([a-z\d])([A-Z])", r"\1_\2", re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name))
    prepared = sorted((datasets_cache / f"{organisation}___{snake.lower()}").glob("*/*/*"))
    for folder in reversed(prepared):
        # load_dataset renames a finished folder into place; one still written ends in .incomplete
        if folder.suffix != ".incomplete" and (files := find_tables(folder)):
            return files, folder.name
    return [], None


def _snapshots(hub_id: str) -> list[Path]:
    """List the cached snapshots of a data set, the revision of `main` first."""
    from huggingface_hub import constants  # 0.1 s that local folders need not pay

    repository = Path(constants.HF_HUB_CACHE) / f"datasets--{hub_id.replace('/', '--')}"
    snapshots = sorted((repository / "snapshots").glob("*"), key=lambda path: path.stat().st_mtime)
    main = repository / "refs" / "main"
    if main.is_file():
        snapshots.append(repository / "snapshots" / main.read_text().strip())
    return [snapshot for snapshot in reversed(snapshots) if snapshot.is_dir()]


def _refuse_partial(hub_id: str, files: list[Path]) -> None:
    """Refuse an incomplete set of shards; `train-00003-of-00034.parquet` tells how many."""
    have: dict[tuple[str, int], int] = {}
    for file in files:
        if shard := re.fullmatch(r"(.*)-\d{5}-of-(\d{5})(?:-\w+)?\.\w+", file.name):
            key = (shard[1], int(shard[2]))
            have[key] = have.get(key, 0) + 1
    for (_, total), count in have.items():
        if count < total:
            raise RicError(
                f"The cached copy of {hub_id} holds {count} of {total} files.",
                f"Finish it with: hf download {hub_id} --repo-type dataset",
            )


def _stream(
    hub_id: str,
    where: str,
    revision: str | None,
    mapping: dict[str, str] | None,
    options: ReadOptions,
) -> tuple[Rows, str, int | None]:
    """Stream through `datasets`, from the hub or (in the tests) a local folder."""
    import datasets  # 1.5 s that only a stream needs

    try:
        opened: Any = datasets.load_dataset(where, streaming=True, revision=revision)
    except Exception as error:  # the hub, a proxy and pyarrow each raise their own
        line = " ".join(str(error).split())[:200]
        raise RicError(
            f"The data set {hub_id} cannot be opened: {line}",
            "Is its name right, and is it public?",
        ) from None
    first = next(iter(opened.values()))
    columns = choose_columns(mapping, list(first.features or next(iter(first))), hub_id)

    def rows() -> Iterator[NumberedRow]:
        for split, table in opened.items():
            of_several = str(split) if len(opened) > 1 else None
            try:
                # undecoded: a broken picture must cost its own row, not the whole stream
                for number, row in enumerate(table.decode(False), start=1):
                    yield NumberedRow(f"{split}:{number}", row, of_several)
            except Exception as error:  # the hub, a proxy and pyarrow each raise their own
                line = first_line(error)[:200]
                raise RicError(f"The data set {hub_id} cannot be read further: {line}") from None

    return (
        lambda: number_rows(rows(), columns, options),
        _fingerprint(hub_id, revision, columns),
        None,
    )


def _latest_revision(hub_id: str) -> str | None:
    from huggingface_hub import HfApi  # 0.3 s that only a stream needs

    try:
        return HfApi().dataset_info(hub_id, timeout=3).sha
    except Exception:  # the stream itself will say what is wrong
        return None


def _fingerprint(hub_id: str, revision: str | None, columns: Columns) -> str:
    names = ",".join(f"{ours}={theirs}" for ours, theirs in sorted(columns.names.items()))
    return hashlib.sha256(f"{hub_id}@{revision}?{names}".encode()).hexdigest()
