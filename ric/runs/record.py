"""Reading existing runs: their records and status, and finding the one that a command names."""

from __future__ import annotations

import json
import math
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ric.addresses import redacted
from ric.errors import RicError
from ric.runs.claims import Claims, is_alive
from ric.runs.strays import refuse_links_out

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SCHEMA = 1
LARGEST = 2**24  # bytes of a run.json; ric's take about 10 kB
NEEDED = {"command": str, "status": str, "config": dict, "started": str}
OPTIONAL: dict[str, type] = {
    "argv": list, "data": dict, "ended": str, "environment": dict, "error": str,
    "memory_plan": dict, "parents": list, "process": dict, "resolved": dict,
    "unavailable": list, "weights": dict,
}  # fmt: skip
# the types of the values in lists and dicts that are read
WITHIN: dict[str, type] = {
    "argv": str, "parents": str, "resolved": str, "unavailable": str, "weights": dict,
}  # fmt: skip


def number_of(path: Path) -> int | None:
    """Read the number in a run folder's name; None if it has none."""
    match = re.fullmatch(r"(\d{5,})-[a-z-]+", path.name)
    return int(match[1]) if match else None


def read_record(path: Path) -> dict[str, Any]:
    """Read a run.json of this or an older schema; secrets in addresses are redacted.

    Raises:
        RicError: there is none, it cannot be read, or a newer `ric` wrote it.
    """
    file = path / "run.json"
    try:
        if not file.is_file():  # reading a device or a pipe would never end
            raise FileNotFoundError
        if file.stat().st_size > LARGEST:
            raise ValueError
        record = json.loads(file.read_text(encoding="utf-8"))
        schema = int(record["schema"])
    except (FileNotFoundError, NotADirectoryError):
        raise RicError(f"{path} is not a run: it has no run.json.") from None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise RicError(f"{file} cannot be read: it is not a run record.") from None
    except OSError as error:
        raise RicError(f"{file} cannot be read: {error.strerror}.") from None
    if schema > SCHEMA:
        raise RicError(
            f"{path} was written by a newer ric (schema {schema}; this one reads up to {SCHEMA}).",
            "Upgrade ric.",
        )
    if any(key not in record for key in NEEDED):
        raise RicError(f"{file} cannot be read: it is not a run record.")
    if wrong := _misshapen(record):
        raise RicError(f"{file} cannot be read: its {wrong!r} does not have the expected type.")
    return dict(redacted(record))


def _misshapen(record: dict[str, Any]) -> str | None:
    """Name the first entry of a record that does not have the expected type."""
    for key, kind in {**NEEDED, **OPTIONAL}.items():
        if key in record and not isinstance(record[key], kind):
            return key
    for key, kind in WITHIN.items():
        held = record.get(key, ())
        values = held.values() if isinstance(held, dict) else held
        if not all(isinstance(value, kind) for value in values):
            return key
    data = record.get("data", {"name": ""})
    fingerprint = data.get("fingerprint")
    is_told = isinstance(data.get("name"), str) and isinstance(fingerprint, (str, type(None)))
    return None if is_told else "data"


def list_runs(
    runs_dir: Path, on_unreadable: Callable[[RicError], None] = lambda error: None
) -> list[tuple[Path, dict[str, Any]]]:
    """List the runs in `runs_dir` with their records, oldest first, numbered or named.

    Of those that started in the same second the lower number comes first, names last.

    Args:
        runs_dir: Their folder.
        on_unreadable: Called for each run.json that cannot be read; that run is left out, as are
            folders without one.
    """
    found = []
    for path in runs_dir.iterdir() if runs_dir.is_dir() else ():
        try:
            found.append((path, read_record(path)))
        except RicError as error:
            if os.path.lexists(path / "run.json"):
                on_unreadable(error)

    def age(run: tuple[Path, dict[str, Any]]) -> tuple[str, float, str]:
        number = number_of(run[0])
        return str(run[1]["started"]), math.inf if number is None else number, run[0].name

    return sorted(found, key=age)


def parents_of(path: Path, record: Mapping[str, Any]) -> list[Path]:
    """List the runs that the run in `path` was made from."""
    return [Path(os.path.normpath(path / parent)) for parent in record.get("parents", [])]


def resolved_run(path: Path, record: Mapping[str, Any], reference: str) -> Path | None:
    """Return the run that the run in `path` found for a reference; None if it has looked for none.

    It may be gone since.
    """
    found = record.get("resolved", {}).get(reference)
    return None if found is None else Path(os.path.normpath(path.resolve() / found))


def status_of(record: Mapping[str, Any], path: Path | None = None) -> str:
    """Return a run's status; `killed` if it says running and no process is at work on it.

    Args:
        record: Its run.json.
        path: Its folder, whose heartbeats show processes on other hosts and those that joined
            later.
    """
    if record["status"] != "running" or is_alive(record.get("process", {})):
        return record["status"]
    others = Claims(path / "claims").at_work() if path is not None else []
    return "running" if others else "killed"


def find_run(reference: str, runs_dir: Path) -> Path | None:
    """Find the run that a path, a number, its numbered name or `@command` names.

    None if it is none of these.

    `@command` is the command's finished run that ended last.

    Raises:
        RicError: there is no run for `@command` or the number.
    """
    if reference.startswith("@"):
        command = reference[1:]
        finished = [
            (str(record.get("ended", record["started"])), age, path)
            for age, (path, record) in enumerate(list_runs(runs_dir))
            if record["command"] == command and record["status"] == "done"
        ]
        if finished:
            return max(finished)[2]
        raise RicError(
            f"No finished run of `ric {command}` in {runs_dir}.", "List the runs: ric runs ls"
        )
    if reference.isdecimal():
        for path, _ in list_runs(runs_dir):
            if number_of(path) == int(reference):
                return path
        if not Path(reference).is_dir():
            raise RicError(f"No run {reference} in {runs_dir}.", "List the runs: ric runs ls")
    paths = [Path(reference)]
    if paths[0].name == reference and number_of(paths[0]) is not None:
        paths.append(runs_dir / reference)
    return next((path for path in paths if (path / "run.json").is_file()), None)


def find_artifact(reference: str, artifact: str, runs_dir: Path) -> Path | None:
    """Find an artifact (`pipeline`, `region_encoder`, …) of the run that `reference` names.

    Returns:
        The artifact's path; None when `reference` names no run.

    Raises:
        RicError: the run has no such artifact, or is not finished.
    """
    path = find_run(reference, runs_dir)
    return None if path is None else artifact_of(path, artifact)


def artifact_of(path: Path, artifact: str) -> Path:
    """Find an artifact of the run in `path`.

    Raises:
        RicError: the run has no such artifact, it is not finished and may still change, or a link
            leads out of it.
    """
    record = read_record(path)
    status = status_of(record, path)
    if not (path / artifact).exists():
        raise RicError(
            f"{path} has no {artifact}: it is a run of `ric {record['command']}`, {status}.",
            "Name a finished run of the command that writes it.",
        )
    if status != "done":
        raise RicError(
            f"{path} is not finished ({status}): {artifact} may still change.",
            "Wait for it, or repeat its command with --run to finish it.",
        )
    refuse_links_out(path, artifact)
    return path / artifact


def as_text(record: Mapping[str, Any]) -> str:
    """Format a record as the text of run.json."""
    return json.dumps(record, indent=2, ensure_ascii=False) + "\n"


def now() -> str:
    """Return the current time as in a record: UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
