"""A run: one numbered folder that holds what a command was asked, what it made, and from what.

    runs/00004-train-unet/
      run.json            schema, command, argv, config, parents, status, versions, times
      metrics.jsonl       one row per logged step
      failures.jsonl      one row per sample that could not be processed
      checkpoints/        where something trains
      <artifact>/         what the next command reads

Used as a context manager: leaving it sets the status to done, interrupted or failed. Repeating a
command with `--run DIR` on an unfinished run resumes it; with other settings it is refused.
"""

from __future__ import annotations

import json
import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ric.claims import Claims, is_alive, process_identity
from ric.environment import environment_report
from ric.errors import RicError, SampleError
from ric.interrupt import Interrupted
from ric.rows import (
    append_row,
    merge_rows,
    read_lines,
    read_rows,
    row_files,
    write_atomically,
    writer_name,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

SCHEMA = 1
# Where a run is executed does not change what it is: these may differ when it is resumed.
MAY_DIFFER = frozenset({"device", "weights"})


class RunDir:
    """An open run; see the module's text for its layout.

    Attributes:
        path: The folder.
        runs_dir: Where its sisters live, by number or `@command`.
        record: What run.json holds.
        resumed: True when an earlier attempt left work here.
        finished_before: True when this very run was already done; nothing is left to do.
    """

    def __init__(
        self, path: Path, record: dict[str, Any], *, runs_dir: Path, resumed: bool
    ) -> None:
        self.path = path
        self.runs_dir = runs_dir
        self.record = record
        self.resumed = resumed
        self.finished_before = resumed and record["status"] == "done"
        self.claims = Claims(path / "claims")
        self.failures = 0
        self._writer = writer_name()

    # --- what the command knows -------------------------------------------------------------

    def note(self, **values: Any) -> None:
        """Add facts to run.json: `data=…`, `weights=…`, `parents=[…]`."""
        self.record.update(values)
        self._save()

    def add_parent(self, path: Path) -> None:
        """Record that this run is made from the run in `path`.

        It is kept relative to this run's folder, so that a folder of runs can be moved.
        """
        relative = os.path.relpath(path.resolve(), self.path.resolve())
        self.note(parents=list(dict.fromkeys([*self.record["parents"], relative])))

    def log_metrics(self, row: Mapping[str, float | int | str | None]) -> None:
        """Append one row to metrics.jsonl; it names its `step`."""
        append_row(self.path / "metrics.jsonl", dict(row))

    def metrics(self) -> list[dict[str, Any]]:
        """Read metrics.jsonl."""
        path = self.path / "metrics.jsonl"
        return list(read_lines(path)) if path.is_file() else []

    def forget_metrics_after(self, step: int) -> None:
        """Drop rows of steps that a resumed run is about to repeat, so that none stands twice."""
        path = self.path / "metrics.jsonl"
        if path.is_file():
            kept = [row for row in read_lines(path) if row["step"] <= step]
            write_atomically(path, "".join(json.dumps(row) + "\n" for row in kept))

    # --- what it makes, sample by sample ------------------------------------------------------

    def append(self, kind: str, row: Mapping[str, Any]) -> None:
        """Append a sample's row (with its `id`) to this process's `<kind>-<writer>.jsonl`."""
        append_row(self.path / f"{kind}-{self._writer}.jsonl", dict(row))

    def rows(self, kind: str) -> Iterator[dict[str, Any]]:
        """Yield the rows of `kind` that any process has written, each id once."""
        return read_rows(self.path, kind)

    def fail(self, error: SampleError) -> None:
        """Record a sample that could not be processed; the rest goes on."""
        self.failures += 1
        row = {"id": error.sample_id, "stage": error.stage, "reason": error.reason}
        self.append("failures", row)

    # --- life ---------------------------------------------------------------------------------

    def __enter__(self) -> RunDir:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.finished_before:
            return
        if error is None:
            self._finish()
        elif isinstance(error, (Interrupted, KeyboardInterrupt)):
            self.record["status"] = "interrupted"
        else:
            self.record["status"] = "failed"
            self.record["error"] = str(error) or type(error).__name__
        self.record["ended"] = _now()
        # a full disk must not hide why the run really ended
        try:
            self._save()
        except OSError:
            if error is None:
                raise

    def _finish(self) -> None:
        kinds = {path.name.split("-")[0] for path in self.path.glob("*-*.jsonl")}
        for kind in sorted(kinds):
            merge_rows(self.path, kind)
        self.claims.clear()
        self.record["status"] = "done"
        self.record.pop("error", None)

    def _save(self) -> None:
        text = json.dumps(self.record, indent=2, ensure_ascii=False) + "\n"
        write_atomically(self.path / "run.json", text)


def open_run(
    command: str,
    config: Mapping[str, Any],
    *,
    runs_dir: Path,
    run: Path | None = None,
    shared: bool = False,
) -> RunDir:
    """Make the next numbered run, or open the one that `run` names.

    Args:
        command: Such as `train-unet`.
        config: The resolved settings, JSON-ready.
        runs_dir: Where numbered runs live.
        run: The folder of `--run`; made when it is not there.
        shared: Several processes may work on this run at once.

    Raises:
        RicError: `run` holds something else, another command's run, other settings, or another
            process is at work there with a command that is one process's job.
    """
    if run is None:
        path, resumed = _next_numbered(runs_dir, command), False
        record: dict[str, Any] = {}
    else:
        path = run
        record, resumed = _existing(path, command, config)
    if not resumed:
        record = {"schema": SCHEMA, "command": command, "started": _now()}
    if resumed and status_of(record) == "running" and not shared:
        owner = record["process"]
        if owner != process_identity():
            raise RicError(
                f"Process {owner['pid']} on {owner['host']} is at work in {path}.",
                "Wait for it, or stop it and repeat the command to resume.",
            )
    if not (resumed and record["status"] == "done"):
        record |= {
            "argv": sys.argv,
            "config": dict(config),
            "parents": [],
            "process": process_identity(),
            "environment": environment_report(),
        }
        was = record.get("status")
        record["status"] = "running"
        opened = RunDir(path, record, runs_dir=runs_dir, resumed=resumed)
        if was is not None:
            _forget_failures(path)
        opened._save()
        return opened
    return RunDir(path, record, runs_dir=runs_dir, resumed=True)


def _existing(path: Path, command: str, config: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Read the run in `path`, if there is one; refuse what cannot be resumed."""
    if not (path / "run.json").is_file():
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise RicError(
                f"{path} exists and is no run (it has no run.json).",
                "Name a folder that is empty or not there yet, or leave --run away.",
            )
        path.mkdir(parents=True, exist_ok=True)
        return {}, False
    record = read_record(path)
    if record["command"] != command:
        raise RicError(
            f"{path} is a run of `ric {record['command']}`, not of `ric {command}`.",
            "Name another folder, or leave --run away.",
        )
    before, now = record["config"], dict(config)
    differences = [
        f"{key}: {before.get(key)!r} there, {now.get(key)!r} now"
        for key in sorted({*before, *now} - MAY_DIFFER)
        if before.get(key) != now.get(key)
    ]
    if differences:
        raise RicError(
            f"{path} was started with other settings: {'; '.join(differences)}.",
            "Repeat them to resume it, or name another folder.",
        )
    return record, True


def _forget_failures(path: Path) -> None:
    """A resumed run tries the failed samples again: their rows go, living writers' rows stay."""
    for file in row_files(path, "failures"):
        pid = file.stem.rpartition(".")[2]
        if not (pid.isdigit() and is_alive(process_identity() | {"pid": int(pid), "started": None})):
            file.unlink(missing_ok=True)


def _next_numbered(runs_dir: Path, command: str) -> Path:
    """Take the next number; two commands that start at once take two."""
    numbers = runs_dir / ".numbers"
    try:
        numbers.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RicError(
            f"Cannot make runs in {runs_dir}: {error.strerror}.",
            "Name a folder that can be written: --runs-dir DIR.",
        ) from None
    taken = [int(path.name) for path in numbers.iterdir() if path.name.isdigit()]
    number = max([*taken, *(_number_of(path) or 0 for path in runs_dir.iterdir())], default=0) + 1
    while True:
        try:
            os.close(os.open(numbers / f"{number:05d}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            number += 1
            continue
        path = runs_dir / f"{number:05d}-{command}"
        path.mkdir()
        return path


def _number_of(path: Path) -> int | None:
    match = re.fullmatch(r"(\d{5,})-[a-z-]+", path.name)
    return int(match[1]) if match else None


# --- finding runs -----------------------------------------------------------------------------


def read_record(path: Path) -> dict[str, Any]:
    """Read a run.json of this or an older schema.

    Raises:
        RicError: there is none, it cannot be read, or a newer `ric` wrote it.
    """
    try:
        record = json.loads((path / "run.json").read_text(encoding="utf-8"))
        schema = record["schema"]
    except FileNotFoundError:
        raise RicError(f"{path} is no run: it has no run.json.") from None
    except (json.JSONDecodeError, KeyError, TypeError):
        raise RicError(f"{path}/run.json cannot be read: it is no run record.") from None
    if schema > SCHEMA:
        raise RicError(
            f"{path} was written by a newer ric (schema {schema}; this one reads up to {SCHEMA}).",
            "Upgrade ric.",
        )
    return record


def list_runs(runs_dir: Path) -> list[tuple[Path, dict[str, Any]]]:
    """List the numbered runs with their records, oldest first; unreadable ones are left out."""
    found = []
    if runs_dir.is_dir():
        numbered = [path for path in runs_dir.iterdir() if _number_of(path) is not None]
        for path in sorted(numbered, key=lambda path: _number_of(path) or 0):
            try:
                found.append((path, read_record(path)))
            except RicError:
                continue
    return found


def parents_of(path: Path, record: Mapping[str, Any]) -> list[Path]:
    """List the runs that the run in `path` was made from."""
    return [
        Path(os.path.normpath(path / parent)) for parent in record.get("parents", [])
    ]


def status_of(record: Mapping[str, Any]) -> str:
    """Give a run's status; `killed` when it says running and its process on this host is gone."""
    process = record.get("process", {})
    here = process.get("host") == process_identity()["host"]
    if record["status"] == "running" and here and not is_alive(process):
        return "killed"
    return record["status"]


def find_run(reference: str, runs_dir: Path) -> Path | None:
    """Find the run that a path, a number or `@command` names; None when it names none of these.

    Raises:
        RicError: `@command` or a number that no run answers to.
    """
    if reference.startswith("@"):
        command = reference[1:]
        for path, record in reversed(list_runs(runs_dir)):
            if record["command"] == command and record["status"] == "done":
                return path
        raise RicError(
            f"No finished run of `ric {command}` in {runs_dir}.", "See which there are: ric runs ls"
        )
    if reference.isdigit():
        for path, _ in list_runs(runs_dir):
            if _number_of(path) == int(reference):
                return path
        if not Path(reference).is_dir():
            raise RicError(f"No run {reference} in {runs_dir}.", "See which there are: ric runs ls")
    path = Path(reference)
    return path if (path / "run.json").is_file() else None


def find_artifact(reference: str, artifact: str, runs_dir: Path) -> Path | None:
    """Find an artifact (`pipeline`, `region_encoder`, …) of the run that `reference` names.

    Returns:
        The artifact's path; None when `reference` names no run.

    Raises:
        RicError: the run has no such artifact, or is not finished.
    """
    path = find_run(reference, runs_dir)
    if path is None:
        return None
    record = read_record(path)
    if not (path / artifact).exists():
        raise RicError(
            f"{path} has no {artifact}: it is a run of `ric {record['command']}`, "
            f"{status_of(record)}.",
            "Name a finished run of the command that makes it.",
        )
    return path / artifact


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


