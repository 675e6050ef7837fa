"""Rows that many processes may write at once: JSON lines, a file per writer, merged by id.

A process appends to `<kind>-<writer>.jsonl`, where `writer` names its host and pid, so no two
processes share a file. Readers merge all of them; the end of a run merges them into `<kind>.jsonl`.
A line torn by a killed process is dropped, and its sample is done again.
"""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Row = dict[str, Any]


def writer_name() -> str:
    """Name this process among all that may write to one run: its host and pid."""
    host = "".join(c if c.isalnum() else "_" for c in socket.gethostname())
    return f"{host}.{os.getpid()}"


def append_row(path: Path, row: Row) -> None:
    """Append one row as a single write, so that lines of one file never mix."""
    line = json.dumps(row, ensure_ascii=False) + "\n"
    with path.open("a", encoding="utf-8") as stream:
        stream.write(line)


def read_lines(path: Path) -> Iterator[Row]:
    """Yield a file's rows; a line that was torn by a crash is passed over."""
    with path.open(encoding="utf-8", errors="replace") as stream:
        for line in stream:
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(row, dict):
                yield row


def row_files(folder: Path, kind: str) -> list[Path]:
    """List the files that hold rows of `kind`: the merged one first, then each writer's."""
    merged = folder / f"{kind}.jsonl"
    return [path for path in [merged, *sorted(folder.glob(f"{kind}-*.jsonl"))] if path.is_file()]


def read_rows(folder: Path, kind: str) -> Iterator[Row]:
    """Yield rows of `kind` from all writers, each id once (the first one wins)."""
    seen: set[str] = set()
    for path in row_files(folder, kind):
        for row in read_lines(path):
            if row["id"] not in seen:
                seen.add(row["id"])
                yield row


def merge_rows(folder: Path, kind: str) -> int:
    """Merge all writers' rows into `<kind>.jsonl` in one rename; return how many there are."""
    files = row_files(folder, kind)
    if not files:
        return 0
    aside = folder / f".{kind}.jsonl.{writer_name()}"
    count = 0
    with aside.open("w", encoding="utf-8") as stream:
        for row in read_rows(folder, kind):
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
        stream.flush()
        os.fsync(stream.fileno())
    aside.replace(folder / f"{kind}.jsonl")
    for path in files:
        if path.name != f"{kind}.jsonl":
            path.unlink(missing_ok=True)
    return count


def write_atomically(path: Path, text: str) -> None:
    """Write a small file so that a reader sees the old one or the new one, never half of it."""
    aside = path.with_name(f".{path.name}.{writer_name()}")
    with aside.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    aside.replace(path)
