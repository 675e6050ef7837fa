"""Malformed inputs by hypothesis: the same each time, as many as RIC_FUZZ says, within bounds.

What reads such an input may refuse it with a `RicError`, in a few seconds, without much memory and
without writing to any other place than the test's own folder.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from ric.errors import RicError

EXAMPLES = int(os.environ.get("RIC_FUZZ", "20"))  # inputs of each test
SECONDS = 60  # a busy machine may need some for what takes milliseconds
MEMORY = 256 << 10  # KiB more at its peak than before
WRITING = {"os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink",
           "shutil.rmtree"}  # fmt: skip

FEWER = max(EXAMPLES // 4, 4)  # of what takes a tenth of a second each

fuzzed = settings(
    max_examples=EXAMPLES,
    derandomize=True,  # the same inputs each time
    database=None,
    deadline=None,  # `Bounds` has one, which also ends what hangs
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


@st.composite
def mutated(draw: Callable[..., Any], originals: Sequence[bytes]) -> bytes:
    """Damage one of some files in one to four places."""
    data = bytearray(draw(st.sampled_from(list(originals))))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        size = draw(st.sampled_from((1, 2, 4, 8, 40)))
        how = draw(st.sampled_from(("set", "flip", "cut", "drop", "repeat", "insert", "zero")))
        if how == "set":
            data[at : at + 1] = bytes([draw(st.integers(0, 255))])
        elif how == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif how == "cut":
            del data[at:]
        elif how == "drop":
            del data[at : at + size]
        elif how == "repeat":
            data[at:at] = data[at : at + size]
        elif how == "insert":
            data[at:at] = draw(st.sampled_from((b"\xff" * size, b"\x00" * size, b'"', b"{", b"[",
                                                b"-", b"9" * 40, b"\\ud800", b"../")))  # fmt: skip
        else:
            data[at : at + size] = bytes(len(data[at : at + size]))
    return bytes(data)


ODD_TEXTS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(("", "..", "../out", "/etc/hostname", "a/b", "\ud800", "\x1b[2J", "nan", "con",
                     "1e999", "x" * 300, "http://127.0.0.1/x", "file:///etc/hostname", "@edit")),
)  # fmt: skip
ODD_NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.sampled_from((10**30, -(10**30), 2**31, 2**63, 1 << 40)),
    st.floats(),
)
ODD_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), ODD_NUMBERS, ODD_TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(ODD_TEXTS, inner, max_size=3)
    ),
    max_leaves=6,
)  # fmt: skip


@st.composite
def altered(draw: Callable[..., Any], original: Any) -> Any:
    """Replace, remove or add one to three entries of a JSON value, at any depth."""
    made = json.loads(json.dumps(original))
    for _ in range(draw(st.integers(1, 3))):
        here = made
        while isinstance(here, (dict, list)) and here:
            keys = sorted(here) if isinstance(here, dict) else list(range(len(here)))
            key = draw(st.sampled_from(keys))
            if not isinstance(here[key], (dict, list)) or draw(st.booleans()):
                break
            here = here[key]
        if not isinstance(here, (dict, list)) or not here:
            continue
        how = draw(st.sampled_from(("replace", "remove", "add")))
        if how == "replace":
            here[key] = draw(ODD_VALUES)
        elif how == "remove":
            del here[key]
        elif isinstance(here, dict):
            here[draw(ODD_TEXTS)] = draw(ODD_VALUES)
        else:
            here.append(draw(ODD_VALUES))
    return made


class HangsError(AssertionError):
    """It did not end in time."""


class Bounds:
    """Counts inputs, and holds what reads them to its bounds.

    Args:
        folder: Where files may be written.

    Attributes:
        tried: How many inputs were read.
        refused: How many of them were refused.
    """

    def __init__(self, folder: Path) -> None:
        self.tried = self.refused = 0
        self._folder = os.path.realpath(folder) + os.sep
        self._watching = False
        self._written: list[str] = []
        self._before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        sys.addaudithook(self._hear)  # for good: Python has no way to remove it

    @contextmanager
    def held(self) -> Iterator[None]:
        """Read one input; a RicError refuses it, anything else is raised."""

        def hangs(number: int, frame: object) -> None:
            raise HangsError(f"not done in {SECONDS} s")

        self.tried += 1
        handler = signal.signal(signal.SIGALRM, hangs)
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        self._watching = True
        try:
            with suppress(RicError):
                self.refused += 1
                yield
                self.refused -= 1
        finally:
            self._watching = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, handler)
        written, self._written = self._written, []
        if written:
            raise AssertionError(f"written: {written}")
        more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - self._before
        assert more < MEMORY, f"{more >> 10} MiB"

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._watching:
            return
        opens = event == "open" and isinstance(arguments[2], int)
        if event not in WRITING and not (opens and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        for name in arguments[:2] if event in ("os.rename", "os.link") else arguments[:1]:
            if isinstance(name, (str, bytes, os.PathLike)):
                # the last argument may be the open folder that a name is relative to
                of_folder = (
                    event != "open" and isinstance(arguments[-1], int) and arguments[-1] >= 0
                )
                base = os.readlink(f"/proc/self/fd/{arguments[-1]}") if of_folder else ""
                file = os.path.realpath(os.path.join(base, os.fsdecode(name)))
                if not f"{file}{os.sep}".startswith(self._folder) and file != os.devnull:
                    self._written.append(file)
