"""Who works on which sample, when several processes share one run.

A sample is claimed by creating a file exclusively, which every POSIX file system (network ones
too) does atomically; flock is not used. A claim whose owner is gone is taken over: at once when
its process no longer lives on this host, after a minute without a heartbeat when it is another's.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

HEARTBEAT_TIMEOUT = 60.0  # seconds


def process_identity() -> dict[str, Any]:
    """Describe this process so that others can tell whether it still lives."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": _process_start(os.getpid()),
    }


def is_alive(identity: dict[str, Any], heartbeat_age: float | None = None) -> bool:
    """Tell whether the process that `identity` describes still works.

    Args:
        identity: What `process_identity` gave there.
        heartbeat_age: Seconds since its last sign of life; decides for processes of other hosts.
    """
    if identity.get("host") != socket.gethostname():
        return heartbeat_age is not None and heartbeat_age < HEARTBEAT_TIMEOUT
    pid = identity.get("pid")
    if not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    started = _process_start(pid)
    # a pid is used again after a while: the start time tells the two apart
    return started is None or identity.get("started") in (None, started)


def _process_start(pid: int) -> int | None:
    """Clock ticks after boot at which `pid` started, where the system tells (Linux); else None."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            fields = stream.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


class Claims:
    """The claims of one run, as files under `<run>/claims`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._beat = 0.0

    def take(self, sample_id: str) -> bool:
        """Claim a sample for this process; False when a living process has it."""
        self.heartbeat()
        name = hashlib.sha256(sample_id.encode()).hexdigest()
        folder = self.folder / name[:2]
        folder.mkdir(parents=True, exist_ok=True)
        me = process_identity()
        # A dead owner's claim is never removed: whoever takes over creates the next generation,
        # exclusively again, so that two takers cannot both win.
        generation = 0
        while True:
            path = folder / f"{name}.{generation}"
            try:
                with path.open("x", encoding="utf-8") as stream:
                    stream.write(json.dumps(me))
                return True
            except FileExistsError:
                owner, age = self._owner(path)
                if owner == me:
                    return True
                if is_alive(owner, age):
                    return False
                generation += 1

    def heartbeat(self) -> None:
        """Show other hosts that this process lives; called by `take`, at most every 10 s."""
        now = time.time()
        if now - self._beat > 10:
            self._beat = now
            self.folder.mkdir(parents=True, exist_ok=True)
            self._beat_file(process_identity()).touch()

    def clear(self) -> None:
        """Forget all claims: the run is done."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _beat_file(self, identity: dict[str, Any]) -> Path:
        host = "".join(c if c.isalnum() else "_" for c in str(identity.get("host")))
        return self.folder / f"heartbeat-{host}.{identity.get('pid')}"

    def _owner(self, path: Path) -> tuple[dict[str, Any], float | None]:
        """Read who made a claim, and how many seconds ago it was last heard of."""
        try:
            owner = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError:
            # created and not yet written (its owner is at it), or torn by a crash: age decides
            return {"host": ""}, time.time() - path.stat().st_mtime
        try:
            return owner, time.time() - self._beat_file(owner).stat().st_mtime
        except FileNotFoundError:
            return owner, None
