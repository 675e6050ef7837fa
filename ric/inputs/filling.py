"""Folders of a cache appear whole or not at all, whoever fills them at once."""

from __future__ import annotations

import errno
import glob
import shutil
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ric.runs.claims import is_alive
from ric.runs.rows import writer_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@contextmanager
def appearing_whole(folder: Path, is_whole: Callable[[], bool]) -> Iterator[Path]:
    """Yield a folder that becomes `folder` when the block ends well.

    Where another process has made a whole one meanwhile, its stays: somebody may read it already.

    Args:
        folder: Gets the contents.
        is_whole: Tells whether what lies there is whole and up to date.
    """
    aside = folder.with_name(f".{folder.name}.{writer_name()}")
    _remove_left_over(aside)
    aside.mkdir(parents=True)
    try:
        yield aside
        if is_whole():
            return
        shutil.rmtree(folder, ignore_errors=True)  # damaged, or of files that have changed since
        try:
            aside.rename(folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _remove_left_over(aside: Path) -> None:
    """Remove what processes of this machine that are gone have left half filled of the same key."""
    mine, _, _ = aside.name.rpartition(".")
    for other in aside.parent.glob(f"{glob.escape(mine)}.*"):
        pid = other.name.rpartition(".")[2]
        if pid.isdigit() and not is_alive({"host": socket.gethostname(), "pid": int(pid)}):
            shutil.rmtree(other, ignore_errors=True)
