"""Packages that only some flags need. Imports nothing heavy."""

from __future__ import annotations

from importlib.util import find_spec

from ric.errors import RicError

# package -> the flag that needs it, and the extra of ric that installs it
EXTRAS = {"peft": ("--lora-rank", "lora"), "bitsandbytes": ("--adam-8bit", "8bit")}


def require_extra(package: str) -> None:
    """Make sure that a package is installed.

    Raises:
        RicError: it is not; says how to get it.
    """
    flag, extra = EXTRAS[package]
    if find_spec(package) is None:
        raise RicError(
            f"{flag} needs {package}, which is not installed.",
            f"Install it: pip install 'ric[{extra}]'",
        )
