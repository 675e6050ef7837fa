"""Reading existing runs: their records and status, and finding the one that a command names."""

from __future__ import annotations

import json
import math
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from types import NoneType
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
TEXT = (str, NoneType)
# What is read of an entry: a type or several; [of each item]; {"name": of its value}, where a name
# that may be absent ends in a "?" and "*" is every name.
SHAPES: dict[str, Any] = {
    "argv": [str],
    "data": {"name": str, "fingerprint?": TEXT},
    "descriptions": {"fingerprint?": str},
    "ended": str,
    "environment": {"git?": (dict, NoneType), "versions?": dict, "gpus?": (list, NoneType)},
    "error": str,
    "judge": {
        "back_end": str, "seed": int, "model?": TEXT, "revision?": TEXT, "questions?": int,
        "malformed?": {"*": int}, "unanswered?": int,
        "position_bias?": {"*": {
            "mean": float, "low": (float, NoneType), "high": (float, NoneType), "equal": float,
            "n": int,
        }},
        "agreement?": {
            "model": TEXT, "run": str,
            "metrics": {"*": {
                "spearman": (float, NoneType), "kendall": (float, NoneType),
                "mean_difference": float, "n": int,
            }},
        },
    },
    "large_masks": [str],
    "memory_plan": dict,
    "out": TEXT,
    "parents": [str],
    "process": dict,
    "prompts": {"*": {"sha256": str}},
    "resolved": {"*": str},
    "unavailable": [str],
    "weights": {"*": {"id?": TEXT, "revision?": TEXT}},
}  # fmt: skip
MOST = 1e300  # a whole number may be too large to be written as a float


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
    for key, shape in {**NEEDED, **SHAPES}.items():
        if key in record and not _fits(record[key], shape):
            return key
    return None


def _fits(value: Any, shape: Any) -> bool:
    """Tell whether a value is of a shape of `SHAPES`."""
    if isinstance(shape, tuple):
        return any(_fits(value, one) for one in shape)
    if isinstance(shape, list):
        return isinstance(value, list) and all(_fits(one, shape[0]) for one in value)
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return False
        if "*" in shape:
            return all(_fits(one, shape["*"]) for one in value.values())
        return all(
            _fits(value[key.rstrip("?")], one) if key.rstrip("?") in value else key.endswith("?")
            for key, one in shape.items()
        )
    if shape in (int, float):
        is_number = isinstance(value, (int, shape)) and not isinstance(value, bool)
        return is_number and not abs(value) > MOST
    return isinstance(value, shape)


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
