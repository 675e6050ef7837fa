"""Claims: which processes are at work on a run, and on which of its samples.

Every process at work keeps a heartbeat file fresh and removes it when it leaves. A sample is
claimed by a file that is written aside and linked into place, which every POSIX file system
(network ones too) does atomically; flock is not used. So a claim is complete and has one owner. A
claim whose owner is gone is taken over: at once if the process left or has ended on this host,
after a minute without a heartbeat if it is another host's. Each container and each boot counts as a
separate host: a pid of one means nothing in another.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from ric.runs.rows import (
    create_atomically,
    write_atomically,
    writer_name,
    writer_of,
    writer_place,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HEARTBEAT_TIMEOUT = 60.0  # seconds
HEARTBEAT_EVERY = 10.0  # seconds
WAIT_FOR_LEADER = 0.1  # seconds
MOST_PID = 2**31 - 1
# The claim on a run that only one process may work on; no sample has an empty id.
WHOLE_RUN = ""


def process_identity() -> dict[str, Any]:
    """Describe this process so that others can tell whether it is still alive."""
    return {
        "host": socket.gethostname(),
        "place": writer_place(),
        "pid": os.getpid(),
        "started": _process_start(os.getpid()),
    }


def is_identity(value: object) -> bool:
    """Tell whether a value has the form of a `process_identity`, of any version."""
    if not isinstance(value, dict):
        return False
    pid = value.get("pid")
    is_pid = isinstance(pid, int) and not isinstance(pid, bool) and 0 < pid <= MOST_PID
    return is_pid and all(isinstance(value.get(key, ""), str) for key in ("host", "place"))


def is_alive(identity: dict[str, Any], heartbeat_age: float | None = None) -> bool:
    """Tell whether the process that `identity` describes is still alive.

    Args:
        identity: That process's `process_identity`; anything else counts as not alive.
        heartbeat_age: Seconds since its last heartbeat; decides for processes of other hosts,
            containers and boots, whose pid means nothing here.
    """
    if not is_identity(identity):
        return False
    here = (socket.gethostname(), writer_place())
    if (identity.get("host"), identity.get("place", here[1])) != here:
        return _is_fresh(heartbeat_age)
    pid = identity["pid"]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    started = _process_start(pid)
    # pids are reused: the start time tells the two processes apart
    return started != ENDED and (started is None or identity.get("started") in (None, started))


def _is_fresh(age: float | None) -> bool:
    return age is not None and age < HEARTBEAT_TIMEOUT


ENDED = -1  # the start of a process that ended and was not waited for: a zombie


def _process_start(pid: int) -> int | None:
    """Return the start of `pid` in clock ticks after boot; None where there is no /proc."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            fields = stream.read().rpartition(")")[2].split()
    except OSError:
        return None
    return ENDED if fields[0] in "ZX" else int(fields[19])


class Claims:
    """The claims of one run, as files under `<run>/claims`.

    Args:
        folder: Their folder.
        finished_by: Returns the ids of the samples that a writer who is gone has finished; they
            are not repeated.

    Attributes:
        left_to_others: The samples that `take` refused to this process.
    """

    def __init__(
        self, folder: Path, finished_by: Callable[[str], set[str]] = lambda writer: set()
    ) -> None:
        """Write nothing yet: the folder is created with the first claim."""
        self.folder = folder
        self._finished_by = finished_by
        self.left_to_others: set[str] = set()
        self._gone: dict[str, set[str]] = {}
        self._beats = False

    def take(self, *ids: str) -> bool:
        """Claim samples that are processed together; False if they are another's, or finished.

        Args:
            ids: Every process must group the same samples, in the same order.
        """
        if not self._beats:
            self.heartbeat()
        name = _name_of(ids)
        folder = self.folder / name[:2]
        folder.mkdir(parents=True, exist_ok=True)
        me = process_identity()
        text = json.dumps({**me, "ids": ids})
        finished: set[str] = set()
        # A dead owner's claim is never removed: whoever takes over creates the next generation,
        # exclusively again, so two takers cannot both win.
        generation = 0
        while True:
            path = folder / f"{name}.{generation}"
            if create_atomically(path, text):
                return True
            owner = self._read(path)
            if _same(owner, me):
                return True
            at_work = self._is_at_work(owner, path)
            if not at_work:
                finished |= self._finished(owner)
            if at_work or finished.issuperset(ids):
                self.left_to_others.update(ids)
                return False
            generation += 1

    def led(self, what: str, lead: Callable[[], None], how: str = "") -> str:
        """Let one of the processes at work do something before all others go on.

        Others have waited for it, and nobody waits twice: while that process is at work, those that
        come later go on at once.

        Args:
            what: Names it.
            lead: Does it. Where its process dies meanwhile, another one begins anew.
            how: How this process would do it.

        Returns:
            The `how` of the process that did it, this one or another.
        """
        me, name = process_identity(), f"\n{what}"  # no sample's id has a line break
        self._led_by(me, what).unlink(missing_ok=True)  # of a process that had this pid before
        while not self.take(name):
            self.left_to_others.discard(name)
            owner = self.owner_of(name)
            if owner and (led := self._led_by(owner, what)).is_file():
                self._gone.clear()
                return led.read_text(encoding="utf-8")
            time.sleep(WAIT_FOR_LEADER)
        lead()
        self._gone.clear()  # what was read of the rows before
        write_atomically(self._led_by(me, what), how)
        return how

    def was_led(self, what: str) -> bool:
        """Tell whether a process of this attempt, at work or not, has done something for all."""
        return any(self.folder.glob(f"led-{what}-*"))

    def begin_again(self) -> None:
        """Forget what was done for all in an earlier attempt; only where no other is at work."""
        for file in self.folder.glob("led-*"):
            file.unlink(missing_ok=True)

    def _led_by(self, owner: dict[str, Any], what: str) -> Path:
        return self.folder / f"led-{what}-{_writer(owner)}"

    def owner_of(self, *ids: str) -> dict[str, Any]:
        """Return the identity that claimed samples last; empty if none did, or it is unreadable."""
        name = _name_of(ids)
        files = sorted((self.folder / name[:2]).glob(f"{name}.*"), key=_generation)
        return self._read(files[-1]) if files else {}

    def settle(self, what: str, value: str) -> str:
        """Fix a value for all processes and attempts of the run; return the first one's value."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"settled-{_name_of((what,))}"
        create_atomically(path, value)
        return path.read_text(encoding="utf-8")

    # --- signs of life ------------------------------------------------------------------------

    def heartbeat(self) -> None:
        """Show others that this process is at work."""
        self.folder.mkdir(parents=True, exist_ok=True)
        mine = self._beat_file(writer_name())
        if self._beats and mine.is_file():
            os.utime(mine)
        else:
            write_atomically(mine, json.dumps(process_identity()))
        self._beats = True

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Keep the heartbeat fresh, however long one sample takes, until the block ends."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(HEARTBEAT_EVERY):
                # a full disk or a folder that is gone: the work itself will report it
                with suppress(OSError):
                    self.heartbeat()

        self.heartbeat()
        thread = threading.Thread(target=beat, name="ric-heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def leave(self) -> None:
        """Show others that this process is gone: its unfinished claims are free."""
        self._beats = False
        self._beat_file(writer_name()).unlink(missing_ok=True)

    def at_work(self) -> list[str]:
        """List the writers that are at work on the run, this process included."""
        writers = []
        for file in sorted(self.folder.glob("heartbeat-*")):
            if is_alive(self._read(file), self._age(file)):
                writers.append(file.name.removeprefix("heartbeat-"))
        return writers

    def others_at_work(self) -> list[str]:
        """List the writers that are at work on the run but for this process."""
        return [writer for writer in self.at_work() if writer != writer_name()]

    def clear(self) -> None:
        """Delete all claims: the run is done."""
        self._beats = False
        shutil.rmtree(self.folder, ignore_errors=True)

    def _beat_file(self, writer: str) -> Path:
        return self.folder / f"heartbeat-{writer}"

    def _is_at_work(self, owner: dict[str, Any], claim: Path) -> bool:
        if not owner:
            # Where there are no links, its owner may be writing it at this moment; it has sent a
            # heartbeat before.
            return _is_fresh(self._age(claim)) and bool(self.others_at_work())
        beat = self._beat_file(_writer(owner))
        age = self._age(beat)
        return age is not None and is_alive(owner, age)

    def _finished(self, owner: dict[str, Any]) -> set[str]:
        """Return the ids that an owner who is gone has finished, cached: they no longer change."""
        if not owner:
            return set()
        writer = _writer(owner)
        if writer not in self._gone:
            self._gone[writer] = self._finished_by(writer)
        return self._gone[writer]

    def _read(self, path: Path) -> dict[str, Any]:
        """Read the identity in a claim or a heartbeat; empty if it is torn or something else."""
        try:
            owner = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError, FileNotFoundError):
            return {}
        return owner if is_identity(owner) and "host" in owner else {}

    def _age(self, path: Path) -> float | None:
        """Return the seconds since a file was touched; None if there is no file."""
        try:
            then = path.stat().st_mtime
        except FileNotFoundError:
            return None
        # another host's clock may differ from ours; the file server's is the same for both
        clock = self.folder / "clock"
        try:
            clock.touch()
            return clock.stat().st_mtime - then
        except OSError:
            return time.time() - then


def _same(owner: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(owner.get(key) == other[key] for key in ("host", "place", "pid", "started"))


def _writer(owner: dict[str, Any]) -> str:
    return writer_of(owner["host"], owner["pid"], owner.get("place", ""))


def _name_of(ids: tuple[str, ...]) -> str:
    return hashlib.sha256("\0".join(ids).encode(errors="surrogatepass")).hexdigest()


def _generation(path: Path) -> int:
    return int(path.suffix[1:]) if path.suffix[1:].isdecimal() else -1
