"""Packages that only some flags need. Imports nothing heavy."""

from __future__ import annotations

from importlib.util import find_spec

from ric.errors import RicError

# package -> the extra of ric that installs it
EXTRAS = {"peft": "lora", "bitsandbytes": "8bit", "openai": "openai", "ray": "ray"}


def require_extra(package: str, flag: str) -> None:
    """Make sure that a package is installed.

    Args:
        package: A key of `EXTRAS`.
        flag: What needs it, as it is typed.

    Raises:
        RicError: it is not; says how to get it.
    """
    if find_spec(package) is None:
        raise RicError(
            f"{flag} needs {package}, which is not installed.",
            f"Install it: pip install 'ric[{EXTRAS[package]}]'",
        )
