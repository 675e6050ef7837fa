"""Reading runs that are there: their records, their status, and how a command names one."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ric.claims import Claims, is_alive
from ric.errors import RicError

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA = 1


def number_of(path: Path) -> int | None:
    """Read the number in a run folder's name; None where it has none."""
    match = re.fullmatch(r"(\d{5,})-[a-z-]+", path.name)
    return int(match[1]) if match else None


def read_record(path: Path) -> dict[str, Any]:
    """Read a run.json of this or an older schema.

    Raises:
        RicError: there is none, it cannot be read, or a newer `ric` wrote it.
    """
    try:
        record = json.loads((path / "run.json").read_text(encoding="utf-8"))
        schema = int(record["schema"])
        whole = all(key in record for key in ("command", "status", "config", "started"))
    except (FileNotFoundError, NotADirectoryError):
        raise RicError(f"{path} is no run: it has no run.json.") from None
    except (ValueError, KeyError, TypeError):
        raise RicError(f"{path}/run.json cannot be read: it is no run record.") from None
    except OSError as error:
        raise RicError(f"{path}/run.json cannot be read: {error.strerror}.") from None
    if schema > SCHEMA:
        raise RicError(
            f"{path} was written by a newer ric (schema {schema}; this one reads up to {SCHEMA}).",
            "Upgrade ric.",
        )
    if not whole:
        raise RicError(f"{path}/run.json cannot be read: it is no run record.")
    return record


def list_runs(runs_dir: Path) -> list[tuple[Path, dict[str, Any]]]:
    """List the numbered runs with their records, oldest first; unreadable ones are left out."""
    found = []
    if runs_dir.is_dir():
        numbered = [path for path in runs_dir.iterdir() if number_of(path) is not None]
        for path in sorted(numbered, key=lambda path: number_of(path) or 0):
            try:
                found.append((path, read_record(path)))
            except RicError:
                continue
    return found


def parents_of(path: Path, record: Mapping[str, Any]) -> list[Path]:
    """List the runs that the run in `path` was made from."""
    return [Path(os.path.normpath(path / parent)) for parent in record.get("parents", [])]


def status_of(record: Mapping[str, Any], path: Path | None = None) -> str:
    """Give a run's status; `killed` when it says running and nobody is at work on it.

    Args:
        record: Its run.json.
        path: Its folder, whose heartbeats tell of processes on other hosts and of late joiners.
    """
    if record["status"] != "running" or is_alive(record.get("process", {})):
        return record["status"]
    others = Claims(path / "claims").at_work() if path is not None else []
    return "running" if others else "killed"


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
    if reference.isdecimal():
        for path, _ in list_runs(runs_dir):
            if number_of(path) == int(reference):
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
            f"{status_of(record, path)}.",
            "Name a finished run of the command that makes it.",
        )
    return path / artifact
