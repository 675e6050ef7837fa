"""The files of a folder and of its subfolders, linked ones included."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def files_below(folder: Path) -> Iterator[Path]:
    """Yield every file, linked folders last; no folder is read twice, as links may form a cycle.

    A folder that cannot be listed is skipped.
    """
    seen: set[str] = set()
    folders, linked = [str(folder)], list[str]()
    while folders or linked:
        here = folders.pop(0) if folders else linked.pop(0)
        if (real := os.path.realpath(here)) in seen:
            continue
        seen.add(real)
        try:
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            if entry.is_dir():
                (linked if entry.is_symlink() else folders).append(entry.path)
            else:
                yield Path(entry.path)
