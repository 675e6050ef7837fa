"""Runs that something happens to: the six commands, what happens, and what must hold afterwards."""

from __future__ import annotations

import json
import random
import signal
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image
from ric_child import Fault, RicChild, SignalAt, Told

from ric.model_files import read_header
from ric.runs.checkpoints import complete_checkpoints, damage_of
from ric.runs.claims import is_alive

TINY = ("--preset", "tiny", "--device", "cpu", "--split", "all")
FIT = (*TINY, "--batch-size", "3", "--checkpoint-every", "1")
# $data is DATA; each takes one to four seconds
COMMANDS: dict[str, tuple[str, ...]] = {
    "describe": (
        "describe", "$data", *TINY, "--describer", "chat", "--max-new-tokens", "4",
        "--no-quality-gates", "--batch-size", "2",
    ),
    "edit": ("edit", "$data", *TINY, "--steps", "1", "--image-size", "32", "--batch-size", "2"),
    "eval": (
        "eval", "Mine=$data/target", "--data", "$data", *TINY, "--batch-size", "2",
        "--metrics", "l1,clip_i,fid",
    ),
    "fit-clip": (
        "fit-clip", "$data", *FIT, "--fusion-epochs", "1", "--joint-epochs", "1", "--no-controls",
    ),
    "fit-blip": ("fit-blip", "$data", *FIT, "--epochs", "2"),
    "train-unet": (
        "train-unet", "$data", *TINY, "--steps", "3", "--batch-size", "2", "--checkpoint-every",
        "1", "--log-every", "1", "--image-size", "32",
    ),
}  # fmt: skip
OVER_SAMPLES = ("describe", "edit", "eval")
TRAININGS = ("fit-clip", "fit-blip", "train-unet")
# the rows of which each sample has one, or of `ric eval` one for each label
ROWS = {"describe": "descriptions.jsonl", "edit": "edits.jsonl", "eval": "per_sample.jsonl",
        **dict.fromkeys(TRAININGS, "samples.jsonl")}  # fmt: skip
POLITE = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP, signal.SIGALRM)
# what the clock, the process and the number of attempts decide
OF_THE_ATTEMPT = {"argv", "started", "ended", "process", "environment"}
UNCOMPARED = {"run.json", "curves.png"}  # of the curves one shows the speed


class Disturbed:
    """One command on a data set, typed again and again with one run.

    Args:
        command: Of `COMMANDS`.
        top: The folder of DATA, `data`, and of all runs; what happens to its files is a moment.
        run: The run's folder, below `top`.
        tally: Called with a word and a number for what a test has seen.
        more: Further words of the command.
    """

    def __init__(
        self, command: str, top: Path, run: Path, tally: Callable[..., None], *more: str
    ) -> None:
        self.command, self.top, self.run, self.tally = command, top, run, tally
        self.more = more

    def words(self) -> list[str]:
        said = (string.Template(word) for word in (*COMMANDS[self.command], *self.more))
        return [word.substitute(data=self.top / "data") for word in said] + ["--run", str(self.run)]

    def start(self, fault: Fault | None = None, *more: str) -> RicChild:
        log = self.top / f"{self.run.name}-{random.getrandbits(32):08x}.log"
        return RicChild([*self.words(), *more], log, fault or Fault(self.top))

    def typed(self, fault: Fault | None = None, *more: str) -> Told:
        """Type it; there must be no traceback, and what looks whole must be whole."""
        told = self.start(fault, *more).end()
        assert "Traceback" not in told.said, told.said
        refuse_halves(self.run)
        return told

    def completed(self, *more: str) -> Told:
        """Type it without a fault."""
        told = self.typed(None, *more)
        assert told.code == 0, told.said
        return told


class Undisturbed(NamedTuple):
    """The same command where nothing happened: its run, and how many moments it had."""

    run: Path
    moments: int


class Happening(NamedTuple):
    """A signal at a moment; after a SIGKILL so many of the last bytes may be lost."""

    fault: SignalAt
    torn: int


def happenings(count: int, moments: int, seed: str) -> Iterator[Happening]:
    """Draw what happens, every other time a SIGKILL."""
    draw = random.Random(seed)
    for number in range(count):
        chosen = signal.SIGKILL if number % 2 == 0 else draw.choice(POLITE)
        yield Happening(SignalAt(draw.randint(1, moments), chosen), draw.choice((0, 1, 40)))


def disturb(one: Disturbed, whole: Undisturbed, count: int, seed: str) -> None:
    """Let things happen to a run; then complete it, and compare it with the undisturbed one."""
    for fault, torn in happenings(count, whole.moments, f"{seed} {one.command}"):
        told = one.typed(Fault(one.top, fault))
        if told.code == 0:  # it had fewer moments than the whole, being a part of it
            assert told.moments < fault.moment or status(one.run) == "done"
            break
        wanted = -fault.number if fault.number == signal.SIGKILL else 128 + fault.number
        assert told.code == wanted, (fault, told)
        one.tally("kills" if wanted < 0 else "other signals")
        if wanted < 0:
            tear_rows(one.run, torn)
    one.completed()
    refuse_difference(one, whole.run)


def tear_rows(run: Path, count: int) -> None:
    """Cut the last row of the newest file of rows, if no checkpoint came after it."""
    files = [*run.glob("*-*.jsonl"), *run.glob("metrics.jsonl")]
    if not files or not count:
        return
    file = max(files, key=lambda one: one.stat().st_mtime_ns)
    whole, saved = file.read_bytes(), complete_checkpoints(run / "checkpoints")
    is_saved = (
        file.stem == "metrics"
        and saved
        and whole.endswith(b"\n")
        and (
            json.loads(whole.splitlines()[-1])["step"] <= int(saved[-1].name.removeprefix("step-"))
        )
    )
    if not is_saved:
        file.write_bytes(whole[:-count])


def status(run: Path) -> str:
    return str(json.loads((run / "run.json").read_text())["status"])


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def refuse_halves(run: Path) -> None:
    """Refuse a file under its final name that is not whole; appended rows may be torn."""
    for file in run.rglob("*") if run.is_dir() else ():
        if not file.is_file() or any(part[0] == "." for part in file.relative_to(run).parts):
            continue
        if file.suffix == ".safetensors":
            read_header(file)
        elif file.suffix == ".png":
            with Image.open(file) as picture:
                picture.load()
        elif file.suffix == ".json":
            json.loads(file.read_text())
    for checkpoint in complete_checkpoints(run / "checkpoints"):
        assert damage_of(checkpoint) is None


def refuse_difference(one: Disturbed, whole: Path) -> None:
    """Refuse a run that is not done, lacks a sample, has one twice, or differs from the whole."""
    rows = lines_of(one.run / ROWS[one.command])
    keys = [(row.get("label"), row["id"]) for row in rows]
    assert len(set(keys)) == len(keys)
    wanted = {(row.get("label"), row["id"]) for row in lines_of(whole / ROWS[one.command])}
    assert wanted - set(keys) == set()
    one.tally("samples that could have been lost", len(wanted))
    assert not (one.run / "failures.jsonl").exists()
    made, wanted_files = contents(one.run), contents(whole)
    assert made.keys() == wanted_files.keys(), sorted(made.keys() ^ wanted_files.keys())
    differing = [name for name in made if made[name] != wanted_files[name]]
    assert differing == [], differing
    ours, theirs = (json.loads((run / "run.json").read_text()) for run in (one.run, whole))
    for record in (ours, theirs):
        record["config"].pop("retry_failed", None)
    for key in ours.keys() | theirs.keys():
        if key not in OF_THE_ATTEMPT:
            assert ours.get(key) == theirs.get(key), key
    assert not is_alive(ours["process"])


def contents(run: Path) -> dict[str, object]:
    """Read all files of a run: rows in any order, others to the byte; hidden ones too."""
    found: dict[str, object] = {}
    for file in sorted(run.rglob("*")):
        name = file.relative_to(run).as_posix()
        if not file.is_file() or name in UNCOMPARED:
            continue
        found[name] = file.read_bytes()
        if file.suffix == ".jsonl":
            rows = lines_of(file)
            for row in rows:
                row.pop("images_per_second", None)
            found[name] = sorted(json.dumps(row, sort_keys=True) for row in rows)
    return found


def own_error(said: str) -> str:
    """Return the one line of an error; there must be one."""
    errors = [line for line in said.splitlines() if line.startswith("Error: ")]
    if len(errors) != 1:
        pytest.fail(f"{len(errors)} errors: {said}")
    return errors[0]
