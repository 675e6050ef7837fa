"""Compare file names in one Unicode normal form, whatever the disk and the table use.

macOS stores `café` as five code points, other systems as four; both look alike and mean one name. A
file's name need not be UTF-8 either: Python then holds its bytes as surrogates, which cannot be
written to a text file.
"""

from __future__ import annotations

import os
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def nfc(name: str) -> str:
    """Normalise a name to NFC, the form in which names are compared."""
    return unicodedata.normalize("NFC", name)


def told_apart(names: Sequence[str | Path]) -> list[str]:
    """Quote names, escaped to ASCII where two look alike."""
    alike = len({nfc(str(name)) for name in names}) < len(names)
    return [ascii(str(name)) if alike else f"'{name}'" for name in names]


def as_on_disk(root: str, name: str) -> str:
    """Join a folder and a path inside it, each part in the normal form found on disk."""
    path = f"{root}/{name}"
    if name.isascii() or os.path.lexists(path):
        return path
    found = root
    for part in name.split("/"):
        there = os.path.lexists(f"{found}/{part}")
        found = (
            f"{found}/{part if there else _names_in(os.path.abspath(found)).get(nfc(part), part)}"
        )
    return found


@lru_cache(maxsize=16)
def _names_in(folder: str) -> dict[str, str]:
    """Map a folder's non-ASCII names by normal form; empty where it cannot be listed."""
    try:
        return {nfc(name): name for name in os.listdir(folder) if not name.isascii()}
    except OSError:
        return {}
