"""Notice that a file has changed since something was cached from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ric.data.benchmarks.table import find_benchmark
from ric.data.parquet_rows import find_tables

if TYPE_CHECKING:
    from ric.data.sample import Samples


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


def tables_state(samples: Samples) -> list[list[int]]:
    """Return the states of the tables that hold samples' pictures; empty where files hold them.

    The data's fingerprint covers a table's name, size and last 64 KB, not its pictures.
    """
    if samples.kind == "benchmark":
        benchmark = find_benchmark(samples.name)
        files = benchmark.files if benchmark and benchmark.layout.is_table else []
        return [file_state(file) for file in files]
    if samples.kind != "parquet":
        return []
    return [file_state(file) for file in find_tables(Path(samples.name).expanduser())]
