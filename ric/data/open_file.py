"""What DATA names, opened: local files that are files, and addresses within bounds.

Rows may come from strangers. What a row names is fetched only from the address of a web server or
an object store: `file://` and its like would read this machine, and so would a chain of addresses
(`simplecache::/etc/...`).
"""

from __future__ import annotations

import os
import re
import stat
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, BinaryIO

from ric.errors import RicError, first_line

if TYPE_CHECKING:
    from collections.abc import Iterator

REMOTE = ("https", "http", "hf", "s3", "gs", "gcs", "az", "abfs")
MOST_BYTES = 512 << 20  # 64 million pixels of 16-bit RGBA, uncompressed
MOST_SECONDS = 60.0
_BLOCK = 1 << 20


def is_url(path: str | Path) -> bool:
    """Whether a text is an address and no local path."""
    return "://" in str(path)


def is_remote(address: str) -> bool:
    """Whether an address may be fetched for a row: one of a server, and no chain of them."""
    return re.match(rf"(?:{'|'.join(REMOTE)})://", address) is not None and "::" not in address


def as_local(name: str) -> str:
    """Give the path of a `file://` or `local://` address; another name as it is.

    So that such DATA is held to all that holds for a folder.

    Raises:
        RicError: A chain of addresses, whose parts nobody would look at.
    """
    if "::" in name and is_url(name):
        raise RicError(f"{name!r} is a chain of addresses.", "Name one, such as s3://bucket/edits.")
    return re.sub(r"^(file|local)://", "", name)


def why_no_file(path: str | Path) -> str | None:
    """Say in a sentence why there is no file at a path; None where there is one.

    Asked before it is opened: opening a pipe would wait for ever, and a device may have no end.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        if os.path.islink(path):
            return f"'{path}' is a link to '{os.readlink(path)}', which is not there."
        return f"'{path}' does not exist."
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        return f"'{path}' cannot be read: {getattr(error, 'strerror', None) or error}."
    if stat.S_ISREG(mode):
        return None
    kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
    return f"'{path}' is not a file but {kind}."


@contextmanager
def open_bytes(path: str | Path) -> Iterator[BinaryIO]:
    """Open a local file or an fsspec URL for reading.

    Raises:
        RicError: It is no file, or cannot be read.
    """
    reason = None if is_url(path) else why_no_file(path)
    if reason:
        raise RicError(reason)
    try:
        if is_url(path):
            import fsspec  # 0.1 s that only remote data should pay

            stream = fsspec.open(str(path), "rb").open()
        else:
            stream = open(path, "rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise RicError(f"'{path}' cannot be read: {error.strerror or error}.") from None
    with stream:
        yield stream


def exists(path: str) -> bool:
    """Whether there is a file at a local path or fsspec URL.

    Raises:
        RicError: The URL cannot be looked up.
    """
    if not is_url(path):
        return os.path.isfile(path)
    import fsspec  # 0.1 s that only remote data should pay

    try:
        files, inside = fsspec.url_to_fs(path)
        return bool(files.isfile(inside))
    except Exception as error:  # every file system has its own errors, also for a missing package
        raise RicError(f"'{path}' cannot be looked up: {first_line(error)}.") from None


def fetch(url: str) -> bytes:
    """Read all that an fsspec URL gives.

    Raises:
        OSError: It gives more than 512 MB, or takes over a minute.
        Exception: Each file system behind fsspec has its own.
    """
    made: Future[bytes] = Future()
    late = Event()
    # a thread, since a server that sends a byte now and then keeps any single read waiting
    Thread(target=_fetch_into, args=(made, url, late), daemon=True).start()
    try:
        return made.result(timeout=MOST_SECONDS)
    except TimeoutError:
        raise OSError(f"it takes over {MOST_SECONDS:g} seconds") from None
    finally:
        late.set()


def _fetch_into(made: Future[bytes], url: str, late: Event) -> None:
    import fsspec  # 0.1 s that only remote data should pay

    data = bytearray()
    try:
        with fsspec.open(url, "rb") as stream:
            while not late.is_set() and (block := stream.read(_BLOCK)):
                data += block
                if len(data) > MOST_BYTES:
                    raise OSError(f"it is larger than {MOST_BYTES >> 20} MB")
        made.set_result(bytes(data))
    except Exception as error:
        made.set_exception(error)
