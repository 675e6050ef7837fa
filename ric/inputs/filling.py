"""Cache folders that appear whole or not at all, even if several processes fill them at once.

Each holds the SHA-256 of its files in `checksums.json`, so that damage by a disk is found, too.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ric.runs.rows import write_atomically, writer_name
from ric.runs.strays import left_beside, remove

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


CHECKSUMS = "checksums.json"


def seal(folder: Path) -> None:
    """Write the checksums of a folder's files: it is whole."""
    files = sorted(file for file in folder.iterdir() if file.name != CHECKSUMS)
    told = {file.name: _sha256(file) for file in files}
    write_atomically(folder / CHECKSUMS, json.dumps(told, indent=2) + "\n")


def sealed(folder: Path) -> list[Path] | None:
    """List a folder's files in the order of their names; None unless all are as they were sealed.

    It reads all of them: about a second for each gigabyte.
    """
    try:
        told = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
        files = {folder / name: checksum for name, checksum in sorted(told.items())}
        whole = all(_sha256(file) == checksum for file, checksum in files.items())
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return None  # it may have been damaged to anything
    return list(files) if whole else None


def _sha256(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def appearing_whole(folder: Path, is_whole: Callable[[], bool]) -> Iterator[Path]:
    """Yield a temporary folder that becomes `folder` when the block succeeds.

    If another process has completed `folder` meanwhile, that one stays: it may already be in use.

    Args:
        folder: Gets the contents.
        is_whole: Tells whether `folder` is there, whole and up to date.
    """
    aside = folder.with_name(f".{folder.name}.{writer_name()}")
    aside.parent.mkdir(parents=True, exist_ok=True)
    remove(left_beside(aside))
    aside.mkdir()
    try:
        yield aside
        if is_whole():
            return
        shutil.rmtree(folder, ignore_errors=True)  # damaged, or made from files changed since
        try:
            aside.rename(folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
