"""Identify weights by their SHA-256, and tell whether it is the published one."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ric.cache_folders import cache_folder
from ric.weights.find import converted_home, revision_of

if TYPE_CHECKING:
    from ric.weights.table import Weight


def weights_digest(path: Path) -> str:
    """Return the SHA-256 of a file of weights, or of a folder's, in hexadecimal.

    A folder of one safetensors has that file's; of several, that of lines "SHA-256  NAME" in order
    of the names, as `sha256sum *.safetensors | sha256sum` gives it.

    Raises:
        OSError: a file cannot be read.
    """
    import hashlib  # 5 ms, most of them OpenSSL's

    files = _weights_in(path)
    if len(files) == 1:
        return file_digest(files[0])
    lines = [f"{file_digest(file)}  {file.relative_to(path).as_posix()}\n" for file in files]
    return hashlib.sha256("".join(lines).encode(errors="surrogatepass")).hexdigest()


def file_digest(file: Path) -> str:
    """Return the SHA-256 of a file; it is read once, until its size, time or inode changes.

    Raises:
        OSError: it cannot be read.
    """
    import hashlib

    known = file.stat()
    state = [known.st_size, known.st_mtime_ns, known.st_ino, known.st_ctime_ns]
    name = hashlib.sha256(os.fsencode(file.absolute())).hexdigest()
    kept = cache_folder() / "digests" / f"{name[:32]}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        told = json.loads(kept.read_text(encoding="utf-8"))
        if told["state"] == state:
            return str(told["sha256"])
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    with suppress(OSError):  # without a cache it is read again the next time
        kept.parent.mkdir(parents=True, exist_ok=True)
        aside = kept.with_suffix(f".{os.getpid()}")
        aside.write_text(json.dumps({"state": state, "sha256": digest}), encoding="utf-8")
        aside.replace(kept)
    return digest


def is_published(weight: Weight, path: Path) -> bool:
    """Tell whether what lies at `path` is, to the byte, what the table's row names.

    A single file is known by the digits of its SHA-256 in its published name. A hub repository's
    files are known by the SHA-256 under which the hub's client keeps each of them, in its cache or
    beside a folder that it filled; and the commit must be the pinned one, where one is pinned. What
    ric converted itself counts by the commit that it was converted from. A copy without any such
    record is not known to be the published one.

    Raises:
        OSError: a file cannot be read.
    """
    if weight.kind == "file":
        return file_digest(path).startswith(weight.revision)
    is_commit = re.fullmatch("[0-9a-f]{40}", weight.revision)
    if is_commit and _revision(path) != weight.revision:
        return False
    if path.absolute().is_relative_to(converted_home().absolute()):
        return revision_of(path) is not None
    return all(file_digest(file) == _hub_digest(file, path) for file in _weights_in(path))


def _weights_in(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(path.rglob("*.safetensors"))


def _hub_digest(file: Path, folder: Path) -> str | None:
    """Return the SHA-256 that the hub gave a file, by its client's records; None without one."""
    kept = file.resolve()
    if kept.parent.name == "blobs":
        return kept.name
    _, digest = _downloaded(file, folder)
    return digest


def _revision(folder: Path) -> str | None:
    """Return the commit of a snapshot, of what ric converted, or of a folder the hub filled."""
    known = (_downloaded(file, folder)[0] for file in _weights_in(folder))
    return revision_of(folder) or next(known, None)


def _downloaded(file: Path, folder: Path) -> tuple[str | None, str | None]:
    """Read a file's commit and SHA-256 where the hub's client filled a folder of one's own."""
    name = f"{file.relative_to(folder).as_posix()}.metadata"
    with suppress(OSError, ValueError):
        commit, digest, *_ = (
            (folder / ".cache/huggingface/download" / name).read_text().splitlines()
        )
        return commit, digest
    return None, None
