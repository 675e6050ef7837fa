"""Notice that a file has changed since something was cached from it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ric.data.benchmarks.table import find_benchmark
from ric.data.open_file import as_local, is_url, within_time
from ric.data.parquet_rows import find_remote_tables, find_tables
from ric.data.shards import find_shards

if TYPE_CHECKING:
    from collections.abc import Sequence
    from threading import Event

    from ric.data.sample import Samples

# what file systems of fsspec call a file's version, in small letters without - and _
VERSIONS = (
    "etag", "contentmd5", "digest", "md5hash", "checksum", "blobid", "generation", "versionid",
    "lastmodified", "mtime", "updated", "created",
)  # fmt: skip


def file_state(file: Path | str) -> list[int]:
    """Return a file's size, mtime, inode and ctime; an empty list where it cannot be read.

    Another file moved to its place has another inode, and one overwritten in place another ctime,
    whatever its mtime was set to.
    """
    try:
        known = Path(file).stat()
    except OSError:
        return []
    return [known.st_size, known.st_mtime_ns, known.st_ino, known.st_ctime_ns]


def tables_state(samples: Samples) -> list[Any] | None:
    """Return the states of the tables that hold samples' pictures; empty where files hold them.

    The data's fingerprint covers a table's name, size and last 64 KB, not its pictures.

    Returns:
        The states; None where a table is at an address whose server does not tell when it was
        written: nothing may be kept of it for a later command.

    Raises:
        RicError: the tables cannot be looked up.
    """
    files = _files_of_pictures(samples)
    states = [_remote_state(str(file)) if is_url(file) else file_state(file) for file in files]
    return None if None in states else states


def _files_of_pictures(samples: Samples) -> Sequence[str | Path]:
    if samples.kind == "benchmark":
        benchmark = find_benchmark(samples.name)
        return benchmark.files if benchmark and benchmark.layout.is_table else []
    if samples.kind not in ("parquet", "shards"):
        return []
    name = as_local(samples.name)
    if samples.kind == "shards":
        return find_shards(name)
    return find_remote_tables(name) if is_url(name) else find_tables(Path(name).expanduser())


def _remote_state(address: str) -> list[str] | None:
    """Return what a server tells of a file's version, with its size; None where it tells none."""
    import fsspec  # 0.1 s that only remote data should pay

    def ask(_: Event) -> dict[str, Any]:
        files, inside = fsspec.url_to_fs(address)
        files.invalidate_cache()
        return dict(files.info(inside))

    try:
        told = within_time(ask)
    except Exception:  # each file system has its own errors; reading the table tells of them
        return None
    known = {re.sub("[-_]", "", str(key)).lower(): value for key, value in told.items()}
    versions = [f"{key} {known[key]}" for key in VERSIONS if known.get(key)]
    return [f"size {known.get('size')}", *versions] if versions else None
