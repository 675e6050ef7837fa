"""`ric` in a process that can be killed, forked off one that has imported everything.

A moment of such a process is a call of the system that touches a file below a folder: opening,
renaming, linking or removing one, or listing a folder. They come in the same order each time, so a
number names one of them, and what happens to a run may be said by a seed.
"""

from __future__ import annotations

import itertools
import os
import resource
import signal
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

READY = [
    "diffusers", "ric.describers.chat_vlm", "ric.models.mask_finders", "ric.preflight.checks",
    "ric.preflight.dry_run", "ric.recipes.describe", "ric.recipes.edit", "ric.recipes.evaluate",
    "ric.recipes.fit_blip", "ric.recipes.fit_clip", "ric.recipes.train_unet", "ric.runs.provenance",
    "ric_cli.commands", "ric_cli.describe", "ric_cli.edit", "ric_cli.evaluate", "ric_cli.main",
    "ric_cli.train_unet", "rich.console", "rich.table",
]  # fmt: skip
FORKS = get_context("forkserver")
TOUCHING = {
    "open", "os.link", "os.listdir", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.scandir",
}  # fmt: skip
PATIENCE = 300.0  # seconds

OnMoment = Callable[[int, str, Path], None]  # its number from 1, the call, the file


class Fault(NamedTuple):
    """What happens to a process.

    Attributes:
        watched: The folder whose files' calls are counted.
        on_moment: Called before each of them; it can be pickled.
    """

    watched: Path
    on_moment: OnMoment | None = None


class SignalAt(NamedTuple):
    """Sends its own process a signal at a moment."""

    moment: int
    number: int

    def __call__(self, moment: int, call: str, file: Path) -> None:
        """Send it if this is the moment."""
        if moment == self.moment:
            os.kill(os.getpid(), self.number)


class KilledAfter:
    """Kills its own process once so many files that a pattern names have got their final names."""

    def __init__(self, pattern: str, count: int = 1) -> None:
        """Choose the files, by the paths that they are written under, and the count."""
        self.pattern, self.left = pattern, count

    def __call__(self, moment: int, call: str, file: Path) -> None:
        """Kill it at the moment after the last of them."""
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= call == "os.rename" and fnmatch(str(file), self.pattern)


HOW: dict[str, Callable[[bytes], bytes | None]] = {
    "cut": lambda data: data[: len(data) // 2],
    "zeroed": lambda data: data[:40] + bytes(len(data) - 40),
    "empty": lambda data: b"",
    "noise": lambda data: bytes(byte ^ 0x5A for byte in data),
    "gone": lambda data: None,
    "halved": lambda data: b"".join(data.splitlines(keepends=True)[: data.count(b"\n") // 2]),
}


class Damage:
    """Damages a file for good, just before it is opened for the so-and-so-many-th time."""

    def __init__(self, file: Path, how: str, time: int) -> None:
        """Choose the file, the way of `HOW` and the time from 1."""
        self.file, self.how, self.left = file, how, time

    def __call__(self, moment: int, call: str, file: Path) -> None:
        """Damage it if this is the time."""
        if call != "open" or file != self.file:
            return
        self.left -= 1
        if self.left == 0:
            made = HOW[self.how](file.read_bytes())
            if made is None:
                file.unlink()
            else:
                file.write_bytes(made)


class RefuseWrites(NamedTuple):
    """Lets the system write no more than some bytes into the files that a pattern names.

    It writes a part and refuses the rest, as a full disk does.
    """

    pattern: str
    size: int

    def __call__(self, moment: int, call: str, file: Path) -> None:
        """Set the bound where such a file is touched, and lift it with the next one."""
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        size = self.size if fnmatch(str(file), self.pattern) else hard
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))


class Told(NamedTuple):
    """How a command ended.

    Attributes:
        code: Its exit code, negative for the signal that killed it.
        said: Both of its streams.
        moments: How many it had.
    """

    code: int
    said: str
    moments: int


class RicChild:
    """`ric` with some words, started."""

    def __init__(self, words: list[object], log: Path, fault: Fault) -> None:
        """Start it; the file `log` gets what it says, and one beside it a byte each moment."""
        self._log, self._moments = log, log.with_suffix(".moments")
        self._moments.write_bytes(b"")
        FORKS.set_forkserver_preload(READY)
        given = (list(map(str, words)), log, self._moments, fault)
        self.process = FORKS.Process(target=_type, args=given)
        self.process.start()

    def end(self) -> Told:
        """Wait for its end."""
        self.process.join(PATIENCE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
            raise AssertionError(f"it does not end: {self._log.read_text()}")
        said = self._log.read_text(errors="replace") if self._log.is_file() else ""
        return Told(self.process.exitcode or 0, said, self._moments.stat().st_size)


def _type(words: list[str], log: Path, moments: Path, fault: Fault) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    counted = os.open(moments, os.O_WRONLY | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(fault.watched)
    number, watched = itertools.count(1), str(fault.watched) + os.sep

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in TOUCHING or not arguments or isinstance(arguments[0], int):
            return
        file = os.path.abspath(os.fsdecode(arguments[0] or "."))
        if file.startswith(watched):
            os.write(counted, b".")
            moment = next(number)
            if fault.on_moment:
                fault.on_moment(moment, event, Path(file))

    from ric_cli.main import main

    sys.addaudithook(hook)
    sys.argv = ["ric", *words]
    main()
