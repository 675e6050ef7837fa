"""Where caches of this user lie."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache() -> Path:
    """Give the folder that caches of this user live in: XDG_CACHE_HOME, or `~/.cache`.

    A user without a home, as some containers have it, has `.cache` in the current folder.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    except RuntimeError:
        return Path(".cache").absolute()


def cache_folder() -> Path:
    """Give the folder for what `ric` builds on first use: RIC_CACHE_DIR, or `ric` in the cache."""
    own = os.environ.get("RIC_CACHE_DIR")
    return Path(own).expanduser() if own else user_cache() / "ric"
