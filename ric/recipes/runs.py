"""`ric runs join`: shards of one command, run apart, as the run that they would have been."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

from ric.addresses import redacted
from ric.errors import RicError
from ric.progress import Progress, Silent
from ric.recipes.describe import sum_up
from ric.report.edit_notes import note_outcome
from ric.runs.finished import why_failed
from ric.runs.open_run import OF_COMMAND, differences, open_run
from ric.runs.record import parents_of, read_record, resolved_run, status_of
from ric.runs.rows import key_of, read_rows
from ric.runs.strays import refuse_links_out
from ric.settings import shard_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ric.runs.run import RunDir

    Record = Mapping[str, Any]

ROWS = ("descriptions", "edits", "failures", "uploads")
FOLDERS = ("images", "intermediates")
KEPT = ("data", "out", "prompts", "weights")  # of the record of the first shard
SAME = ("command", "prompts", "out")  # of the records of all shards
# each machine may have a folder of its own, and have made some edits again
DIFFER = frozenset({"shard", "export", "overwrite", "redo", "retry_failed"})


def join_shards(
    shards: Sequence[Path],
    *,
    runs_dir: Path,
    run: Path | None = None,
    progress: Progress | None = None,
) -> RunDir:
    """Copy finished shards of `ric describe` or `ric edit` into one new run, and return it.

    Args:
        shards: Their folders, all of them, in any order.
        runs_dir: The folder of numbered runs.
        run: The new run's folder; None: the next number.
        progress: Hears what the command would have said at its end.

    Raises:
        RicError: one is not a finished shard, is of another command, data or settings than the
            first, has an edit or text of another, or is missing; or `run` exists.
    """
    records = [(path, _finished_shard(path)) for path in shards]
    _refuse_others(records)
    _refuse_made_twice(shards)
    _, record = records[0]
    if run is not None and (run / "run.json").is_file():
        raise RicError(f"{run} is already a run.", "Name another folder, or omit --run.")
    config = {**record["config"], "shard": None, "export": None}
    config = {key: value for key, value in config.items() if key in record["config"]}
    joined = open_run(record["command"], config, runs_dir=runs_dir, run=run)
    with joined:
        for path, of_shard in records:
            _copy(path, of_shard, joined)
        kept = {name: record[name] for name in KEPT if name in record}
        names = [os.path.relpath(path.resolve(), joined.path.resolve()) for path in shards]
        joined.note(**kept, shards=names)
        if record["command"] == "edit":
            note_outcome(joined, progress or Silent())
        elif "quality" in record:
            sum_up(joined, progress or Silent())
    return joined


def _finished_shard(path: Path) -> Record:
    """Read the record of a shard (raises RicError if it is none, or not finished)."""
    record = read_record(path)
    if record["config"].get("shard") is None:
        raise RicError(
            f"{path} is not a shard: it was made without --shard.",
            "Name the runs of: ric describe DATA --shard I/N, or ric edit",
        )
    failed = why_failed(path)  # of which nothing came, and nothing would
    is_over = failed is not None and record.get("error") == redacted(failed.message)
    if record["status"] != "done" and not is_over:
        raise RicError(
            f"{path} is not finished ({status_of(record, path)}).",
            f"Finish it by repeating its command with --run {path}",
        )
    refuse_links_out(path)
    return record


def _refuse_others(records: Sequence[tuple[Path, Record]]) -> None:
    """Refuse runs that are not all shards of one command (raises RicError)."""
    first, record = records[0]
    _, count = shard_of(str(record["config"]["shard"]))
    may_differ = DIFFER | OF_COMMAND.get(record["command"], frozenset())
    by_part: dict[int, Path] = {}
    for path, other in records:
        part, of = shard_of(str(other["config"]["shard"]))
        differing = differences(record, other["config"], may_differ)
        differing += [name for name in SAME if record.get(name) != other.get(name)]
        if record.get("data", {}).get("fingerprint") != other.get("data", {}).get("fingerprint"):
            differing.append("data")
        if differing or of != count:
            reason = "; ".join(differing) if differing else f"{of} shards in place of {count}"
            raise RicError(
                f"{path} is no shard of the same command as {first}: {reason}.",
                "Join the runs of one command with the same settings.",
            )
        if part in by_part:
            raise RicError(f"{by_part[part]} and {path} are both shard {part}/{count}.")
        by_part[part] = path
    if missing := [f"{part}/{count}" for part in range(1, count + 1) if part not in by_part]:
        raise RicError(
            f"{', '.join(missing)} of the shards {'is' if len(missing) == 1 else 'are'} missing.",
            f"Name all {count} runs.",
        )


def _refuse_made_twice(shards: Sequence[Path]) -> None:
    """Refuse shards that share an edit or a text (raises RicError): they divided other lists.

    Lists of photos have no fingerprint.
    """
    made: dict[str | None, Path] = {}
    for path in shards:
        for kind in ("descriptions", "edits"):
            for row in read_rows(path, kind):
                if key_of(row) in made:
                    raise RicError(
                        f"{made[key_of(row)]} and {path} both have {key_of(row)!r}: they have"
                        " divided different lists of samples.",
                        "Repeat one of them on the samples of the other.",
                    )
            made |= {key_of(row): path for row in read_rows(path, kind)}


def _copy(path: Path, record: Record, joined: RunDir) -> None:
    """Copy a shard's rows, pictures and parents."""
    for kind in ROWS:
        for row in read_rows(path, kind):
            joined.append(kind, row)
    for name in FOLDERS:
        if (path / name).is_dir():
            shutil.copytree(path / name, joined.path / name, dirs_exist_ok=True)
    for parent in parents_of(path, record):
        joined.add_parent(parent)
    resolved = {
        reference: os.path.relpath(found.resolve(), joined.path.resolve())
        for reference in record.get("resolved", {})
        if (found := resolved_run(path, record, reference)) is not None
    }
    joined.note(resolved={**resolved, **joined.record.get("resolved", {})})
