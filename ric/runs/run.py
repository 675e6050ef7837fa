"""A run: one numbered folder that holds what a command was asked, what it made, and from what.

    runs/00004-train-unet/
      run.json            schema, command, argv, config, parents, resolved, data, status, versions,
                          times
      metrics.jsonl       one row per logged step
      failures.jsonl      one row per sample that could not be processed
      checkpoints/        where something trains
      <artifact>/         what the next command reads

Used as a context manager: leaving it sets the status to done, interrupted or failed. Repeating a
command with `--run DIR` on an unfinished run resumes it, with the runs it took at first; with
other settings or other data it is refused.
"""

from __future__ import annotations

import json
import math
import os
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ric.addresses import redacted
from ric.errors import RicError, SampleError
from ric.interrupt import Interrupted, StopRequest, signals_held
from ric.runs.claims import WHOLE_RUN, Claims, process_identity
from ric.runs.record import SCHEMA, find_run, number_of, read_record
from ric.runs.rows import (
    append_row,
    create_atomically,
    merge_rows,
    read_lines,
    read_rows,
    row_files,
    write_atomically,
    writer_name,
)
from ric.runs.strays import half_written, of_gone_writer, refuse_links_out, remove

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

# Where a run is executed does not change what it is: these may differ when it is resumed.
MAY_DIFFER = frozenset({"device", "weights", "track"})
# rows that list what a run was given; a sample that stands there need not be finished
LISTED = "samples"


class RunDir:
    """An open run; see the module's text for its layout.

    Attributes:
        path: The folder.
        runs_dir: Where its sisters live, by number or `@command`.
        record: What run.json holds.
        resumed: True when an earlier attempt left work here.
        shared: True when other processes may be at work on it too.
        finished_before: True when this very run was already done; nothing is left to do.
        listeners: Are told each row that is logged to metrics.jsonl.
    """

    def __init__(
        self,
        path: Path,
        record: dict[str, Any],
        *,
        runs_dir: Path,
        resumed: bool,
        shared: bool = False,
    ) -> None:
        """Hold an opened run; `open_run` makes one."""
        self.path = path
        self.runs_dir = runs_dir
        self.record = record
        self.resumed = resumed
        self.shared = shared
        self.finished_before = resumed and record["status"] == "done"
        self.claims = Claims(path / "claims", lambda writer: _finished_by(path, writer))
        self.failures = 0
        self.listeners: list[Callable[[Mapping[str, Any]], None]] = []
        self._beating = ExitStack()
        self._writer = writer_name()

    # --- what the command knows -------------------------------------------------------------

    def note(self, **values: Any) -> None:
        """Add facts to run.json: `weights=…`, `unavailable=[…]`."""
        self.record.update(redacted(values))
        self._save()

    def note_data(self, name: str, fingerprint: str | None) -> None:
        """Note which data this run reads.

        Args:
            name: What the command line calls it.
            fingerprint: Of its content; None is not compared.

        Raises:
            RicError: the run has read data with another fingerprint, in any of its attempts.
        """
        known = self.record.get("data", {}).get("fingerprint")
        if fingerprint is not None:
            known = known or self.claims.settle("data", fingerprint)
            if known != fingerprint:
                raise RicError(
                    f"The data {redacted(name)!r} has changed since this run began: fingerprint "
                    f"{known[:16]} then, {fingerprint[:16]} now.",
                    "Use a new run (omit --run), or restore the data.",
                )
        data = {"name": redacted(name), "fingerprint": known}
        if self.record.get("data") != data:
            self.note(data=data)

    def resolve(self, reference: str) -> Path | None:
        """Find the run that a reference names, and take the same one in every later attempt.

        The first of several processes decides for all. What was found is kept in run.json as
        `resolved`, relative to this run's folder, so that a folder of runs can be moved.

        Args:
            reference: A path, a number or `@command`.

        Returns:
            The run's folder; None when `reference` names no run.

        Raises:
            RicError: `@command` or a number that no run answers to, or the run that was taken
                at first is gone.
        """
        resolved = self.record.get("resolved", {})
        if reference not in resolved:
            found = find_run(reference, self.runs_dir)
            if found is None:
                return None
            first = self.claims.settle(f"run {reference}", self._relative(found))
            self.note(resolved={**resolved, reference: first})
            if first == self._relative(found):
                return found
        path = Path(os.path.normpath(self.path.resolve() / self.record["resolved"][reference]))
        if not (path / "run.json").is_file():
            raise RicError(
                f"{path} is gone, which {self.path} took for {reference!r} when it began.",
                "Put it back, or use a new run (omit --run).",
            )
        return path

    def add_parent(self, path: Path) -> None:
        """Record that this run is made from the run in `path`.

        It is kept relative to this run's folder, so that a folder of runs can be moved.
        """
        parents = self.record.get("parents", [])
        self.note(parents=list(dict.fromkeys([*parents, self._relative(path)])))

    def log_metrics(self, row: Mapping[str, float | int | str | None]) -> None:
        """Append one row to metrics.jsonl; it names its `step`."""
        append_row(self.path / "metrics.jsonl", dict(row))
        for show in self.listeners:
            show(row)

    def metrics(self) -> list[dict[str, Any]]:
        """Read metrics.jsonl."""
        path = self.path / "metrics.jsonl"
        return list(read_lines(path)) if path.is_file() else []

    def forget_metrics_after(self, step: int) -> None:
        """Drop rows of steps that a resumed run is about to repeat, so that none stands twice."""
        path = self.path / "metrics.jsonl"
        if path.is_file():
            kept = [row for row in read_lines(path) if _step_of(row) <= step]
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
        row = {"id": error.sample_id, "stage": error.stage, "reason": redacted(error.reason)}
        self.append("failures", row)

    # --- life ---------------------------------------------------------------------------------

    def __enter__(self) -> RunDir:
        """Say that the run is running, and show signs of life until the block ends.

        Raises:
            Interrupted: a signal came meanwhile; the run says so.
        """
        if self.finished_before:
            return self
        try:
            with signals_held() as stop, ExitStack() as entered:
                entered.enter_context(self.claims.beating())
                self.note(status="running")
                self._beating = entered.pop_all()
            stop.raise_if_set()
            return self
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the run: merge its rows and say in run.json how it ended.

        Ctrl-C and SIGTERM wait until that is said.

        Raises:
            RicError: another process began samples that it has not finished, or every sample of
                a shared run has failed.
            Interrupted: a signal came meanwhile, and nothing else is being raised.
        """
        with signals_held() as stop:
            refused = self._close(error, stop)
        if refused:
            raise refused
        if error is None:
            stop.raise_if_set()

    def _close(self, error: BaseException | None, stop: StopRequest) -> RicError | None:
        """Do what `__exit__` says; return why the run is not done though nothing was raised."""
        self._beating.close()
        if self.finished_before:
            return None
        # listed before asking who is at work: whoever joins later writes files of its own
        kinds = {file.name.split("-")[0] for file in self.path.glob("[!.]*-*.jsonl")}
        files = {name: row_files(self.path, name) for name in sorted(kinds)}
        if self.shared:
            self.claims.leave()
            if self.claims.at_work():
                return None  # the last one to leave says how the run ended
        refused, ending = None, error
        status = "interrupted"
        reason: BaseException | None = None
        try:
            if error is None:
                refused = self._refuse_undone()
                if not refused and self._merge(files, stop):
                    refused = reason = self._refuse_failed() if self.shared else None
                    status = "failed" if refused else "done"
        except Exception as broken:
            ending = broken
        if ending and not isinstance(ending, (Interrupted, KeyboardInterrupt)):
            status, reason = "failed", ending
        self._say_how_it_ended(status, reason, may_fail=ending is not None)
        if ending is not None and ending is not error:
            raise ending
        if status == "done":
            self.claims.clear()
        return refused

    def _say_how_it_ended(
        self, status: str, reason: BaseException | None, *, may_fail: bool
    ) -> None:
        """Write the status into run.json, and show that nobody is at work any more."""
        self.record |= {"status": status, "ended": _now()}
        if reason is not None:
            self.record["error"] = redacted(str(reason) or type(reason).__name__)
        try:
            self._save()
        except OSError:
            # a full disk must not hide why the run really ended
            if not may_fail:
                raise
        finally:
            self.claims.leave()

    def _refuse_undone(self) -> RicError | None:
        """Refuse to be done while a sample that was left to others has neither row nor failure."""
        left = self.claims.left_to_others
        undone = sorted(left - _finished_by(self.path, "*")) if left else []
        if not undone:
            return None
        return RicError(
            f"{len(undone)} samples ({', '.join(undone[:3])}) were begun in {self.path} by another "
            "process that is gone, and are not done.",
            f"Repeat the command with --run {self.path}",
        )

    def _refuse_failed(self) -> RicError | None:
        """Refuse to be done where there are failures and nothing else."""
        failed = list(self.rows("failures"))
        if not failed or _finished_by(self.path, "*") - {row["id"] for row in failed}:
            return None
        reasons = "; ".join(f"{row['id']}: {row.get('reason')}" for row in failed[:3])
        return RicError(
            f"All {len(failed)} samples failed. {reasons}",
            f"They are listed in {self.path / 'failures.jsonl'}. What is mended is tried again "
            f"with --run {self.path}",
        )

    def _merge(self, files: Mapping[str, list[Path]], stop: StopRequest) -> bool:
        """Merge the rows of each kind; False when a signal came before all were merged."""
        for name, paths in files.items():
            if stop:
                return False
            merge_rows(self.path, name, paths)
        return True

    def _relative(self, path: Path) -> str:
        return os.path.relpath(path.resolve(), self.path.resolve())

    def _save(self) -> None:
        write_atomically(self.path / "run.json", _as_text(self.record))


class FollowedRun(RunDir):
    """A run that the main process of the same command writes and this one only reads."""

    def __init__(self, path: Path, *, runs_dir: Path) -> None:
        """Follow the run that the main process has opened."""
        super().__init__(path, read_record(path), runs_dir=runs_dir, resumed=True)

    def note(self, **values: Any) -> None:
        """Know facts that the main process notes."""
        self.record.update(values)

    def log_metrics(self, row: Mapping[str, float | int | str | None]) -> None:
        """Leave metrics.jsonl to the main process."""

    def forget_metrics_after(self, step: int) -> None:
        """Leave metrics.jsonl to the main process."""

    def append(self, kind: str, row: Mapping[str, Any]) -> None:
        """Leave rows to the main process, which sees the same samples or hears of them."""

    def __enter__(self) -> FollowedRun:
        """Claim nothing."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close nothing: the main process says how the run ended."""


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
    config = redacted(dict(config))
    path = _next_numbered(runs_dir, command) if run is None else run
    record = {"schema": SCHEMA, "command": command, "started": _now(), "parents": []}
    record |= _attempt(config, path)
    resumed = not _create(path, record)
    if resumed:
        record = read_record(path)
        _refuse_another(path, record, command, config)
        refuse_links_out(path)
        if record["status"] == "done":
            # a kill may have come between saying so and this
            Claims(path / "claims").clear()
            return RunDir(path, record, runs_dir=runs_dir, resumed=True)
    opened = RunDir(path, record, runs_dir=runs_dir, resumed=resumed, shared=shared)
    if not shared:
        _take_alone(opened)
    opened.claims.heartbeat()
    # listed before asking who is at work: whoever joins later may write aside
    left = half_written(path)
    resumes = resumed and len(opened.claims.at_work()) == 1
    remove([one for one in left if resumes or of_gone_writer(one)])
    if resumes:
        # whoever was at work may have finished since we looked
        opened.record = read_record(path)
        opened.finished_before = opened.record["status"] == "done"
        if opened.finished_before:
            opened.claims.leave()
        else:
            for name in ("error", "ended"):
                opened.record.pop(name, None)
            # the failed samples are tried again
            for file in row_files(path, "failures"):
                file.unlink(missing_ok=True)
            opened.note(**_attempt(config, path))
    return opened


def _take_alone(opened: RunDir) -> None:
    """Claim the whole run (Raises RicError where another process has)."""
    if opened.claims.take(WHOLE_RUN):
        return
    owner = opened.claims.owner_of(WHOLE_RUN)
    who = f"Process {owner['pid']} on {owner['host']}" if owner else "Another process"
    raise RicError(
        f"{who} is at work in {opened.path}.",
        "Wait for it, or stop it and repeat the command to resume.",
    )


def _attempt(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Describe one attempt at a run: what was asked, by which process, with what.

    Until it is entered, it stands there as interrupted: whatever ends it before that is no work.
    """
    # its imports take 25 ms, which `ric --help` need not pay
    from ric.runs.provenance import environment_report

    return {
        "argv": redacted(sys.argv),
        "config": dict(config),
        "process": process_identity(),
        "environment": environment_report(path),
        "status": "interrupted",
    }


def _create(path: Path, record: Mapping[str, Any]) -> bool:
    """Make a run in `path`; False when there is one. Of two that start at once one makes it."""
    if (path / "run.json").is_file():
        return False
    try:
        # .run.json.…: another process is making the run at this moment
        if path.exists() and not (
            path.is_dir() and all(file.name.startswith(".run.json") for file in path.iterdir())
        ):
            if (path / "run.json").is_file():
                return False
            raise RicError(
                f"{path} exists and is not a run (it has no run.json).",
                "Name a folder that is empty or not there yet, or omit --run.",
            )
        path.mkdir(parents=True, exist_ok=True)
        return create_atomically(path / "run.json", _as_text(record))
    except OSError as error:
        raise RicError(
            f"Cannot make a run in {path}: {error.strerror}.", "Name another folder: --run DIR."
        ) from None


def _refuse_another(
    path: Path, record: Mapping[str, Any], command: str, config: Mapping[str, Any]
) -> None:
    """Refuse to go on with another command's run, or with other settings."""
    if record["command"] != command:
        raise RicError(
            f"{path} is a run of `ric {record['command']}`, not of `ric {command}`.",
            "Name another folder, or omit --run.",
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


def _finished_by(path: Path, writer: str) -> set[str]:
    """Collect the samples that `writer` (`*`: any) has finished or failed in the run in `path`."""
    files = [*path.glob(f"[!.]*-{writer}.jsonl"), *path.glob("[!.]*[!0-9].jsonl")]
    return {
        row["id"]
        for file in files
        if not file.name.startswith(LISTED)
        for row in read_lines(file)
        if isinstance(row.get("id"), str)
    }


def _step_of(row: Mapping[str, Any]) -> float:
    """Give the step of a row of metrics; one that tells none stands after all others."""
    step = row.get("step")
    return step if isinstance(step, (int, float)) else math.inf


def _as_text(record: Mapping[str, Any]) -> str:
    return json.dumps(record, indent=2, ensure_ascii=False) + "\n"


def _next_numbered(runs_dir: Path, command: str) -> Path:
    """Take the next number; two commands that start at once take two."""
    numbers = runs_dir / ".numbers"
    try:
        numbers.mkdir(parents=True, exist_ok=True)
        taken = [int(path.name) for path in numbers.iterdir() if path.name.isdigit()]
        taken += [number_of(path) or 0 for path in runs_dir.iterdir()]
        number = max(taken, default=0) + 1
        while True:
            try:
                (numbers / f"{number:05d}").touch(exist_ok=False)
                break
            except FileExistsError:
                number += 1
        path = runs_dir / f"{number:05d}-{command}"
        path.mkdir()
    except OSError as error:
        raise RicError(
            f"Cannot make runs in {runs_dir}: {error.strerror}.",
            "Name a folder that can be written: --runs-dir DIR.",
        ) from None
    return path


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
