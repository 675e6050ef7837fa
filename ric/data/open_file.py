"""Open what DATA names: regular local files, and addresses within limits of size and time.

Rows may come from strangers. An address in a row is fetched only from a web server or an object
store: `file://` and the like would read this machine's files, and so would a chained address
(`simplecache::/etc/...`). Nor may a row name a host of the local network, which may answer only
this machine; host names are not resolved for this check, and a server may still redirect.
"""

from __future__ import annotations

import io
import ipaddress
import os
import re
import socket
import stat
import unicodedata
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast
from urllib.parse import urlsplit

from ric.errors import RicError, first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")
REMOTE = ("https", "http", "hf", "s3", "gs", "gcs", "az", "abfs")
MOST_BYTES = 512 << 20  # 64 million pixels of 16-bit RGBA, uncompressed
MOST_SECONDS = 60.0
MOST_BYTES_OF_A_TABLE = 8 << 30  # five million rows of a kilobyte and more
# names that no server of the internet has (RFC 6761, 6762, 8375, and what routers give)
_LOCAL = (".local", ".localhost", ".internal", ".lan", ".home.arpa")
_BLOCK = 1 << 20


def is_url(path: str | Path) -> bool:
    """Tell whether a text is an address, not a local path."""
    return "://" in str(path)


def is_remote(address: str) -> bool:
    """Tell whether an address in a row may be fetched: a server's, and not chained."""
    return re.match(rf"(?:{'|'.join(REMOTE)})://", address) is not None and "::" not in address


def is_of_local_network(address: str) -> bool:
    """Tell whether a web address names this machine, or one beside it, by number or by name."""
    try:
        parts = urlsplit(unicodedata.normalize("NFKC", address))
        host = (parts.hostname or "").rstrip(".")
    except ValueError:
        return True  # brackets without a number
    if parts.scheme not in ("http", "https"):
        return False
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        try:
            ip = ipaddress.ip_address(socket.inet_aton(host))  # 127.1, 0x7f.1, 2130706433
        except OSError:
            return "." not in host or host.endswith(_LOCAL)
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return not ip.is_global or ip.is_multicast


def as_local(name: str) -> str:
    """Strip `file://` or `local://` from an address; return another name as it is.

    Such DATA then passes the same checks as a folder.

    Raises:
        RicError: The address is chained, so that its parts would go unchecked.
    """
    if "::" in name and is_url(name):
        raise RicError(
            f"{name!r} is a chained address.", "Name a plain one, such as s3://bucket/edits."
        )
    return re.sub(r"^(file|local)://", "", name)


def why_no_file(path: str | Path) -> str | None:
    """Say in a sentence why there is no file at a path; None where there is one.

    Checked before opening: opening a pipe would block for ever, and a device may never end.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        if os.path.islink(path):
            return f"'{path}' is a link to '{os.readlink(path)}', which does not exist."
        return f"'{path}' does not exist."
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        return f"'{path}' cannot be read: {getattr(error, 'strerror', None) or error}."
    if stat.S_ISREG(mode):
        return None
    kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
    return f"'{path}' is not a file but {kind}."


@contextmanager
def open_bytes(path: str | Path) -> Iterator[BinaryIO]:
    """Open a local file or an fsspec URL for reading; of the latter, at most 8 GB are read.

    Raises:
        RicError: It is not a file, or cannot be read; reading from a URL raises it too.
    """
    reason = None if is_url(path) else why_no_file(path)
    if reason:
        raise RicError(reason)
    try:
        if is_url(path):
            import fsspec  # 0.1 s that only remote data should pay

            stream = cast("BinaryIO", _Bounded(fsspec.open(str(path), "rb").open(), str(path)))
        else:
            stream = open(path, "rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise RicError(f"'{path}' cannot be read: {error.strerror or first_line(error)}.") from None
    except Exception as error:  # each file system behind fsspec has its own errors
        raise RicError(f"'{path}' cannot be read: {first_line(error)}.") from None
    with stream:
        yield stream


class _Bounded(io.RawIOBase):
    """A remote file that says in one line what goes wrong, and does not go on without end."""

    def __init__(self, stream: Any, name: str) -> None:
        self._stream, self._name, self._had = stream, name, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._stream.seekable())

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return int(self._stream.seek(offset, whence))

    def tell(self) -> int:
        return int(self._stream.tell())

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read(len(buffer))
        except Exception as error:  # each file system behind fsspec has its own errors
            raise RicError(f"'{self._name}' cannot be read on: {first_line(error)}.") from None
        self._had += len(data)
        if self._had > MOST_BYTES_OF_A_TABLE:
            raise RicError(f"'{self._name}' gives more than {MOST_BYTES_OF_A_TABLE >> 30} GB.")
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()


def exists(path: str) -> bool:
    """Tell whether there is a file at a local path or fsspec URL.

    Raises:
        RicError: The URL cannot be looked up.
    """
    if not is_url(path):
        return os.path.isfile(path)
    import fsspec  # 0.1 s that only remote data should pay

    try:
        files, inside = fsspec.url_to_fs(path)
        # not isfile(), which takes a refusal and a lost connection for a file that is not there
        return bool(files.info(inside)["type"] == "file")
    except (FileNotFoundError, NotADirectoryError):
        return False
    except Exception as error:  # each file system has its own errors, also for a missing package
        raise RicError(f"'{path}' cannot be looked up: {first_line(error)}.") from None


def fetch(url: str) -> bytes:
    """Read an fsspec URL to its end.

    Raises:
        OSError: It is larger than 512 MB, or takes over a minute.
        Exception: Each file system behind fsspec raises its own.
    """
    import fsspec  # 0.1 s that only remote data should pay

    def read(late: Event) -> bytes:
        data = bytearray()
        with fsspec.open(url, "rb") as stream:
            while not late.is_set() and (block := stream.read(_BLOCK)):
                data += block
                if len(data) > MOST_BYTES:
                    raise OSError(f"it is larger than {MOST_BYTES >> 20} MB")
        return bytes(data)

    return within_time(read)


def within_time(work: Callable[[Event], T]) -> T:
    """Do something with a server, and wait for it no longer than a minute.

    Args:
        work: Does it; the event is set once nobody waits any more.

    Raises:
        OSError: It takes over a minute.
        Exception: As `work`.
    """
    made: Future[T] = Future()
    late = Event()

    def do() -> None:
        try:
            made.set_result(work(late))
        except Exception as error:
            made.set_exception(error)

    # a thread, since a server that sends a byte now and then keeps any single read waiting
    Thread(target=do, daemon=True).start()
    try:
        return made.result(timeout=MOST_SECONDS)
    except TimeoutError:
        raise OSError(f"it takes over {MOST_SECONDS:g} seconds") from None
    finally:
        late.set()
