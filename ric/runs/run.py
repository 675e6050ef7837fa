"""A run: one numbered folder with a command's settings, its results and their provenance.

    runs/00004-train-unet/
      run.json            schema, command, argv, config, parents, resolved, data, status, versions,
                          times
      metrics.jsonl       one row per logged step
      failures.jsonl      one row per sample that could not be processed
      checkpoints/        of a command that trains
      <artifact>/         what the next command reads

Used as a context manager: leaving it sets the status to done, interrupted or failed. Repeating a
command with `--run DIR` on an unfinished run resumes it, with the same input runs; other settings
or other data are refused. A run of `ric edit` is opened again even if it is done: the recipe
compares each sample with its row (`ric.runs.kept_edits`).
"""

from __future__ import annotations

import json
import math
import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ric.addresses import redacted
from ric.errors import RicError, SampleError
from ric.interrupt import Interrupted, StopRequest, signals_held
from ric.runs.claims import Claims
from ric.runs.finished import finished_by, why_failed, why_undone
from ric.runs.record import as_text, find_run, now, read_record, resolved_run
from ric.runs.rows import (
    append_row,
    merge_rows,
    read_lines,
    read_rows,
    row_files,
    write_atomically,
    writer_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

    from ric.data.opened import Opened


LARGEST = 2**53  # of the whole numbers in metrics.jsonl: those that a float can hold


class RunDir:
    """An open run; see the module's text for its layout.

    Attributes:
        path: The folder.
        runs_dir: The folder in which numbers and `@command` are looked up.
        record: The contents of run.json.
        resumed: Whether the run existed before.
        shared: Whether other processes may be at work on it too.
        finished_before: Whether the run was already done; nothing is left to do.
        was_done: Whether it was done before it was opened again.
        listeners: Called with each row that is logged to metrics.jsonl.
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
        """Wrap a run's folder; use `open_run` to open one."""
        self.path = path
        self.runs_dir = runs_dir
        self.record = record
        self.resumed = resumed
        self.shared = shared
        self.finished_before = resumed and record["status"] == "done"
        self.was_done = self.finished_before
        self.claims = Claims(path / "claims", lambda writer: finished_by(path, writer))
        self.failures = 0
        self.listeners: list[Callable[[Mapping[str, Any]], None]] = []
        self.opened: Opened | None = None  # DATA, where the command's checks have opened it
        self._passing: list[str] = []
        self._beating = ExitStack()
        self._writer = writer_name()

    # --- the record -------------------------------------------------------------------------

    def note(self, **values: Any) -> None:
        """Add facts to run.json: `weights=…`, `unavailable=[…]`."""
        self.record.update(redacted(values))
        self._save()

    def note_data(self, name: str, fingerprint: str | None, *, may_change: bool = False) -> None:
        """Record which data this run reads.

        Args:
            name: Its name on the command line.
            fingerprint: Of its content; None is not compared.
            may_change: Do not compare it: the recipe looks at each sample.

        Raises:
            RicError: an earlier attempt, or another process, read data with another fingerprint.
        """
        known = self.record.get("data", {}).get("fingerprint")
        if may_change:
            known = fingerprint
        elif fingerprint is not None:
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
        """Find the run that a reference names, and use the same one in every later attempt.

        The first of several processes decides for all. The run is recorded in run.json as
        `resolved`, relative to this run's folder, so that a folder of runs can be moved.

        Args:
            reference: A path, a number or `@command`.

        Returns:
            The run's folder; None if `reference` names no run.

        Raises:
            RicError: there is no run for `@command` or the number, or the run that was used at
                first is gone.
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
        path = resolved_run(self.path, self.record, reference)
        assert path is not None  # just noted
        if not (path / "run.json").is_file():
            raise RicError(
                f"{path}, which {self.path} used for {reference!r} when it began, is gone.",
                "Put it back, or use a new run (omit --run).",
            )
        return path

    def add_parent(self, path: Path) -> None:
        """Record that this run was made from the run in `path`.

        The path is relative to this run's folder, so that a folder of runs can be moved.
        """
        parents = self.record.get("parents", [])
        self.note(parents=list(dict.fromkeys([*parents, self._relative(path)])))

    def log_metrics(self, row: Mapping[str, float | int | str | None]) -> None:
        """Append one row, which has a `step`, to metrics.jsonl; call the listeners."""
        append_row(self.path / "metrics.jsonl", dict(row))
        for show in self.listeners:
            show(row)

    def metrics(self) -> list[dict[str, Any]]:
        """Read metrics.jsonl; a damaged row is left out."""
        path = self.path / "metrics.jsonl"
        return [row for row in read_lines(path) if _is_logged(row)] if path.is_file() else []

    def forget_metrics_after(self, step: int) -> None:
        """Drop rows of later steps, which a resumed run will repeat, so that none appears twice."""
        path = self.path / "metrics.jsonl"
        if path.is_file():
            kept = [row for row in read_lines(path) if _step_of(row) <= step]
            write_atomically(path, "".join(json.dumps(row) + "\n" for row in kept))

    # --- rows of samples ----------------------------------------------------------------------

    def append(self, kind: str, row: Mapping[str, Any]) -> None:
        """Append a sample's row (with its `id`) to this process's `<kind>-<writer>.jsonl`."""
        append_row(self.path / f"{kind}-{self._writer}.jsonl", dict(row))

    def rows(self, kind: str) -> Iterator[dict[str, Any]]:
        """Yield the rows of `kind` that any process has written, one of each `rows.key_of`."""
        return read_rows(self.path, kind)

    def fail(self, error: SampleError, **about: Any) -> None:
        """Record a sample that could not be processed; the others continue.

        Args:
            error: Names the sample.
            about: Further entries of the row, such as which of the sample's texts failed.
        """
        self.failures += 1
        row = {"id": error.sample_id, "stage": error.stage, "reason": redacted(error.reason)}
        self.append("failures", {**row, **about})

    def remove_when_done(self, name: str) -> None:
        """Remove a folder of the run once it is done: until then an attempt may need it."""
        self._passing.append(name)

    # --- life ---------------------------------------------------------------------------------

    def __enter__(self) -> RunDir:
        """Set the status to running, and keep a heartbeat until the block ends.

        Raises:
            Interrupted: a signal came meanwhile; the status becomes interrupted.
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
        """Close the run: merge its rows and write to run.json how it ended.

        Ctrl-C and SIGTERM are deferred until that is written.

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
        """Close the run for `__exit__`; return why it is not done although nothing was raised."""
        self._beating.close()
        if self.finished_before:
            return None
        # listed before checking who is at work: a process that joins later writes other files
        kinds = {file.name.split("-")[0] for file in self.path.glob("[!.]*-*.jsonl")}
        files = {name: row_files(self.path, name) for name in sorted(kinds)}
        if self.shared:
            self.claims.leave()
            if self.claims.at_work():
                return None  # the last one to leave records how the run ended
        refused, ending = None, error
        status = "interrupted"
        reason: BaseException | None = None
        try:
            if error is None:
                refused = why_undone(self.path, self.claims.left_to_others)
                if not refused and self._merge(files, stop):
                    refused = reason = why_failed(self.path) if self.shared else None
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
            for name in self._passing:
                shutil.rmtree(self.path / name, ignore_errors=True)
        return refused

    def _say_how_it_ended(
        self, status: str, reason: BaseException | None, *, may_fail: bool
    ) -> None:
        """Write the status to run.json, and remove the heartbeat."""
        self.record |= {"status": status, "ended": now()}
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

    def _merge(self, files: Mapping[str, list[Path]], stop: StopRequest) -> bool:
        """Merge the rows of each kind; False if a signal came before all were merged."""
        for name, paths in files.items():
            if stop:
                return False
            merge_rows(self.path, name, paths)
        return True

    def _relative(self, path: Path) -> str:
        return os.path.relpath(path.resolve(), self.path.resolve())

    def _save(self) -> None:
        write_atomically(self.path / "run.json", as_text(self.record))


class FollowedRun(RunDir):
    """A run that the main process of the same command writes, and this process only reads."""

    def __init__(self, path: Path, *, runs_dir: Path) -> None:
        """Follow the run that the main process has opened."""
        super().__init__(path, read_record(path), runs_dir=runs_dir, resumed=True)

    def note(self, **values: Any) -> None:
        """Add facts in memory only; the main process writes them."""
        self.record.update(values)

    def log_metrics(self, row: Mapping[str, float | int | str | None]) -> None:
        """Leave metrics.jsonl to the main process."""

    def forget_metrics_after(self, step: int) -> None:
        """Leave metrics.jsonl to the main process."""

    def append(self, kind: str, row: Mapping[str, Any]) -> None:
        """Leave rows to the main process, which sees the same samples or is sent them."""

    def __enter__(self) -> FollowedRun:
        """Claim nothing."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close nothing: the main process records how the run ended."""


def _is_logged(row: Mapping[str, Any]) -> bool:
    """Tell whether a row has a step, and besides numbers, words or nothing."""
    step = row.get("step")
    if not isinstance(step, int) or isinstance(step, bool) or step < 0:
        return False
    numbers = [value for value in row.values() if isinstance(value, int)]
    return all(isinstance(value, (int, float, str, type(None))) for value in row.values()) and all(
        abs(value) <= LARGEST for value in numbers
    )


def _step_of(row: Mapping[str, Any]) -> float:
    """Return the step of a metrics row; one without a step sorts after all others."""
    step = row.get("step")
    return step if isinstance(step, (int, float)) else math.inf
