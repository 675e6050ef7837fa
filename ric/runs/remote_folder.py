"""A folder at an address, to which whole files are written, such as `s3://bucket/edited`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ric.addresses import redacted
from ric.data.open_file import within_time
from ric.errors import RicError, first_line

if TYPE_CHECKING:
    from threading import Event

# Stores without folders, where making one may make a bucket.
_OBJECT_STORES = frozenset(
    {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "memory"}
)


class RemoteFolder:
    """A folder at an fsspec address; nothing is asked of its server until a method is called.

    Args:
        address: It, such as `s3://bucket/edited`.

    Attributes:
        address: As given, without passwords and signatures.

    Raises:
        RicError: No installed package knows such addresses; names the one that does.
    """

    def __init__(self, address: str) -> None:
        """Find the file system; see the class."""
        import fsspec  # 0.1 s that only remote data should pay

        self.address = str(redacted(address)).rstrip("/")
        try:
            self._files, inside = fsspec.url_to_fs(address)
        except Exception as error:  # each file system has its own errors
            raise self._refusal("cannot be used", error) from None
        self._root = inside.rstrip("/")
        protocol = self._files.protocol
        names = {protocol} if isinstance(protocol, str) else {*protocol}
        self._has_folders = not names & _OBJECT_STORES

    def address_of(self, name: str) -> str:
        """Return the address of a file, without passwords and signatures."""
        return f"{self.address}/{name}"

    def names(self) -> set[str]:
        """List its files and those of its subfolders, as paths below it.

        There are none where there is no such folder.

        Raises:
            RicError: It cannot be listed within a minute, or its bucket is not there.
        """
        try:
            found = within_time(lambda _: self._listed())
        except Exception as error:  # each file system has its own errors
            raise self._refusal("cannot be listed", error) from None
        above = f"{self._root}/"
        return {path.removeprefix(above) for path in found if path.startswith(above)}

    def write(self, name: str, content: bytes) -> None:
        """Write a file in one piece, over one of its name.

        An object store shows it whole or not at all.

        Raises:
            OSError: It takes over a minute.
            Exception: Each file system behind fsspec raises its own.
        """
        path = f"{self._root}/{name}"

        def pipe(_: Event) -> None:
            if self._has_folders:
                self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
            self._files.pipe_file(path, content)

        within_time(pipe)

    def remove(self, name: str) -> None:
        """Remove a file; one that is not there, or that cannot be removed in time, is no error."""
        try:
            within_time(lambda _: self._files.rm_file(f"{self._root}/{name}"))
        except Exception:  # each file system has its own errors
            return

    def _listed(self) -> list[str]:
        self._files.invalidate_cache()
        try:
            return list(self._files.find(self._root))
        except FileNotFoundError:
            # some stores say so of an empty folder, all of a bucket that is not there
            if self._files.exists(self._root.partition("/")[0]):
                return []
            raise

    def _refusal(self, how: str, error: Exception) -> RicError:
        why = str(redacted(first_line(error))).rstrip(".")
        return RicError(f"{self.address} {how}: {why}.", "Name another place: --out ADDRESS")
