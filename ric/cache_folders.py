"""The cache folders of this user."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache() -> Path:
    """Return the folder of this user's caches: XDG_CACHE_HOME, or `~/.cache`.

    For a user without a home, as in some containers, it is `.cache` in the current folder.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    except RuntimeError:
        return Path(".cache").absolute()


def cache_folder() -> Path:
    """Return the folder of what `ric` builds on first use: RIC_CACHE_DIR, or `ric` in the cache."""
    own = os.environ.get("RIC_CACHE_DIR")
    return Path(own).expanduser() if own else user_cache() / "ric"
