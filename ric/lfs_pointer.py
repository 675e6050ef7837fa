"""git-lfs pointers: the lines of text that a clone without git-lfs leaves in place of a file."""

from __future__ import annotations

from pathlib import Path

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
NO_CONTENT = "is a git-lfs pointer and not the file itself: get it with `git lfs pull`"


def is_lfs_pointer(path: str | Path) -> bool:
    """Tell whether a local file is a pointer, by its first line; False if it cannot be read."""
    try:
        with open(path, "rb") as stream:
            return stream.read(len(LFS_POINTER)) == LFS_POINTER
    except OSError:
        return False
