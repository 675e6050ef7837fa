"""Addresses: their passwords, keys and signatures are never written or shown; no run is at one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ric.errors import RicError

if TYPE_CHECKING:
    from pathlib import Path

HIDDEN = "***"
# scheme://NAME:PASSWORD@host; a token may stand there alone
_LOGIN = re.compile(r"(?<=://)[^\s/?#]*@")
# a secret may hold a slash; at an object store no port can stand before one, elsewhere it may
_OF_A_STORE = re.compile(r"\b(s3a?|gc?s|az|abfss?|adl|oss)://[^\s/?#@:]*:(?!:)[^\s?#]*@")
_WITH_SLASHES = re.compile(r"(?<=://)[^\s/?#@:]*:(?!:|\d{1,5}/)[^\s?#]*@")
# the values after ?, & or # in an address; any may be a signature, so all are hidden
_ADDRESS = re.compile(r"\w+://\S+")
_VALUE = re.compile(r"(?<=[?&#;])([\w.%\[\]-]+)=[^\s&#;'\"<>)]*")


def redacted(value: Any) -> Any:
    """Hide logins and the values after ? in every address of a text, also within lists and dicts.

    `s3://key:secret@bucket/a?X-Amz-Signature=1f2e` becomes `s3://***@bucket/a?X-Amz-Signature=***`.
    """
    if isinstance(value, str):
        return _ADDRESS.sub(_without_secrets, value) if "://" in value else value
    if isinstance(value, dict):
        return {redacted(key): redacted(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redacted(item) for item in value]
    return value


def refuse_addresses(run: Path | None, runs_dir: Path) -> None:
    """Refuse an address in place of the folder of a run or of runs.

    A run's claims, checkpoints and rows rest on what only a file system does: creating a file
    unless it exists, renaming, appending.

    Raises:
        RicError: One is an address; says what to use.
    """
    for flag, path in (("--run", run), ("--runs-dir", runs_dir)):
        # of the two slashes a path keeps one
        if path is not None and re.match(r"[A-Za-z][\w+.-]+:/", str(path)):
            raise RicError(
                f"{flag} {path} is an address: runs and checkpoints stay on a disk of this machine,"
                " or one that it mounts.",
                "Name a folder. Copies of edits go to an address with: ric edit --out"
                " s3://bucket/edited",
            )


def _without_secrets(found: re.Match[str]) -> str:
    told = _OF_A_STORE.sub(rf"\1://{HIDDEN}@", found[0])
    told = _WITH_SLASHES.sub(f"{HIDDEN}@", _LOGIN.sub(f"{HIDDEN}@", told))
    return _VALUE.sub(rf"\1={HIDDEN}", told)
