"""Copies of a run's edits at an address: `ric edit --out s3://bucket/edited`.

The run keeps its pictures in `images`, and each is also sent to the address, under the same name,
once its row is written. A row of `uploads.jsonl` follows when it has arrived. So a process that is
killed in between leaves an edit without such a row, which the repeated command sends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ric.addresses import redacted
from ric.errors import RicError, SampleError, first_line
from ric.interrupt import stop_between_steps
from ric.runs.remote_folder import RemoteFolder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ric.progress import Progress
    from ric.runs.run import RunDir

IMAGES = "images/"
MOST_IN_A_ROW = 3  # failures, after which a server is taken to be gone


class Uploads:
    """The edits that were sent to `--out`, and those that are still to be sent.

    Args:
        address: `--out`.
        run: The run.

    Attributes:
        folder: The folder at the address.

    Raises:
        RicError: No installed package knows such addresses.
    """

    def __init__(self, address: str, run: RunDir) -> None:
        """Read what has been sent; see the class."""
        self.folder, self.run = RemoteFolder(address), run
        self._before, self._lost = self._sent(), set[str]()
        self._failed_in_a_row, self._why = 0, ""

    def look(self) -> None:
        """Find out which edits that were sent before are no longer there; they are sent again."""
        if self._before:
            try:
                there = self.folder.names()
            except RicError:
                return  # it may be written, not listed
            places = {name: self._place_of(address) for name, address in self._before.items()}
            self._lost = {name for name, place in places.items() if place not in there}

    def send(self, name: str, file_name: str) -> None:
        """Send an edit; where that fails, it is a row of failures.jsonl, and the rest goes on.

        After some failures in a row nothing is tried again until the command is repeated.

        Args:
            name: Its id.
            file_name: Its path in the run, as its row records it.
        """
        place = file_name.removeprefix(IMAGES)
        address = self.folder.address_of(place)
        if self._failed_in_a_row < MOST_IN_A_ROW:
            try:
                self.folder.write(place, (self.run.path / file_name).read_bytes())
            except Exception as error:  # each file system behind fsspec has its own errors
                self._failed_in_a_row += 1
                self._why = first_line(error).rstrip(".")
            else:
                self._failed_in_a_row = 0
                self._lost.discard(name)
                self.run.append("uploads", {"id": name, "address": address})
                return
        reason = f"The edit is made, but was not written to {address}: {self._why}."
        self.run.fail(SampleError(name, "out", str(redacted(reason))))

    def send_missing(self, progress: Progress) -> None:
        """Send the edits that a process was stopped before sending, or could not send before.

        Raises:
            Interrupted: A stop was requested between two of them.
        """
        known = self._sent().keys() - self._lost | {row["id"] for row in self.run.rows("failures")}
        missing = [row for row in self.run.rows("edits") if row["id"] not in known]
        if not missing:
            return
        with (
            stop_between_steps() as stop,
            progress.stage("sending", total=len(missing), unit="images") as stage,
        ):
            for row in missing:
                stop.raise_if_set()
                self.send(row["id"], row["file_name"])
                stage.advance()

    def close(self, remade: Iterable[str]) -> str:
        """Remove what edits that were to be made anew have left under other names, or at all.

        Args:
            remade: Their ids.

        Returns:
            A line that says how many edits are where.
        """
        sent = self._sent()
        gone = {self._before[name] for name in remade if name in self._before}
        for address in gone - {*sent.values()}:
            self.folder.remove(self._place_of(address))
        return f"{len(sent)} edits are in {self.folder.address}"

    def _place_of(self, address: str) -> str:
        return address.removeprefix(self.folder.address_of(""))

    def _sent(self) -> dict[str, str]:
        return {row["id"]: row["address"] for row in self.run.rows("uploads")}
