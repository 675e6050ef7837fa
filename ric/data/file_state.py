"""One state of a file told from another, for what is kept of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ric.data.parquet_rows import find_tables

if TYPE_CHECKING:
    from ric.data.sample import Samples


def file_state(file: Path | str) -> list[int]:
    """Give a file's size, time, number and time of change; nothing where it cannot be asked for.

    Another file that was moved to its place has another number, and one written over in place
    another time of change, whatever its own time was set to.
    """
    try:
        known = Path(file).stat()
    except OSError:
        return []
    return [known.st_size, known.st_mtime_ns, known.st_ino, known.st_ctime_ns]


def tables_state(samples: Samples) -> list[list[int]]:
    """Give the states of the tables that hold samples' pictures; none where files hold them.

    The data's fingerprint is of a table's rows and its footer, not of all its pictures.
    """
    if samples.kind != "parquet":
        return []
    return [file_state(file) for file in find_tables(Path(samples.name).expanduser())]
