"""The files of a folder, local or at an address, and of its subfolders, linked ones included."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ric.errors import RicError, first_line

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


def addresses_below(address: str, suffix: str) -> list[str]:
    """List the files below an fsspec URL whose names end in a suffix.

    Folders of a web server are not listed.

    Raises:
        RicError: It cannot be looked up.
    """
    if address.startswith(("http://", "https://")):
        return []
    import fsspec  # 0.1 s that only remote data should pay

    try:
        files, inside = fsspec.url_to_fs(address)
        above = f"{inside.rstrip('/')}/"
        found = sorted(path for path in files.find(inside) if path.endswith(suffix))
    except FileNotFoundError:
        return []
    except Exception as error:  # each file system has its own errors
        raise RicError(f"'{address}' cannot be looked up: {first_line(error)}.") from None
    return [f"{address.rstrip('/')}/{path.removeprefix(above)}" for path in found]
