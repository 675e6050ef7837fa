"""Cache folders that appear whole or not at all, even if several processes fill them at once."""

from __future__ import annotations

import errno
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ric.runs.rows import writer_name
from ric.runs.strays import left_beside, remove

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


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
