"""Opening a run: the next numbered folder, or the one that `--run` names, which is resumed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ric.addresses import redacted, refuse_addresses
from ric.errors import RicError
from ric.runs.claims import WHOLE_RUN, Claims, process_identity
from ric.runs.record import SCHEMA, as_text, now, number_of, read_record
from ric.runs.rows import create_atomically, row_files
from ric.runs.run import RunDir
from ric.runs.strays import half_written, of_gone_writer, refuse_links_out, remove
from ric.settings import unread_settings, usual_settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# Settings that may differ when a run is resumed: they do not change its results.
MAY_DIFFER = frozenset({"device", "weights", "track"})
# Those of one command: where its model answers, how much at once, and what is tried again.
OF_COMMAND = {
    "describe": frozenset({"base_url", "batch_size", "concurrency", "retry_failed", "timeout"}),
    # 0.1.0 recorded a dtype; scores have always been float32
    "eval": frozenset({"base_url", "concurrency", "dtype", "judge_batch_size", "timeout"}),
}
# Those that besides may differ where the recipe compares each sample with its row: they say which
# samples there are, of what, and which to make anew.
COMPARED = frozenset(
    {
        "also", "captions", "export", "instruction", "instructions", "limit", "mask",
        "more_instructions", "overwrite", "recursive", "redo", "retry_failed", "seeds",
        "source_caption", "target_caption",
    }
)  # fmt: skip


def open_run(
    command: str,
    config: Mapping[str, Any],
    *,
    runs_dir: Path,
    run: Path | None = None,
    shared: bool = False,
    compares: bool = False,
) -> RunDir:
    """Create the next numbered run, or open the one that `run` names.

    A finished run is opened again if it has failures and the config says `retry_failed`.

    Args:
        command: Such as `train-unet`.
        config: The resolved settings, JSON-ready.
        runs_dir: The folder of numbered runs.
        run: The folder of `--run`; created if missing.
        shared: Several processes may work on this run at once.
        compares: The recipe compares each sample with its row, so that a finished run is opened
            again, failures are kept for it, and settings in `COMPARED` may differ.

    Raises:
        RicError: `run` or `runs_dir` is an address; or `run` is not a run, belongs to another
            command, has other settings, has a link out of it or cannot be written, or another
            process is at work there and `shared` is off.
    """
    refuse_addresses(run, runs_dir)
    config = recorded_settings(config)
    path = next_numbered(runs_dir, command) if run is None else run
    record = {"schema": SCHEMA, "command": command, "started": now(), "parents": []}
    record |= _attempt(config, path)
    resumed = not _create(path, record)
    reopens = compares or bool(config.get("retry_failed") and row_files(path, "failures"))
    if resumed:
        record = read_record(path)
        _refuse_another(path, record, command, config, COMPARED if compares else frozenset())
        refuse_links_out(path)
        if record["status"] == "done" and not reopens:
            # a kill may have come between writing the status and this
            Claims(path / "claims").clear()
            return RunDir(path, record, runs_dir=runs_dir, resumed=True)
    opened = RunDir(path, record, runs_dir=runs_dir, resumed=resumed, shared=shared)
    opened.finished_before = False
    if not shared:
        _take_alone(opened)
    opened.claims.heartbeat()
    # listed before checking who is at work: a process that joins later may write files of its own
    left = half_written(path)
    resumes = resumed and len(opened.claims.at_work()) == 1
    remove([one for one in left if resumes or of_gone_writer(one)])
    if resumes:
        # another process may have finished it since we looked
        opened.record = read_record(path)
        opened.finished_before = opened.record["status"] == "done" and not reopens
        if opened.finished_before:
            opened.claims.leave()
        else:
            _begin_again(opened, config, keeps_failures=compares)
    return opened


def _begin_again(opened: RunDir, config: Mapping[str, Any], *, keeps_failures: bool) -> None:
    for name in ("error", "ended"):
        opened.record.pop(name, None)
    opened.claims.begin_again()
    # failed samples are tried again
    for file in () if keeps_failures else row_files(opened.path, "failures"):
        file.unlink(missing_ok=True)
    opened.note(**_attempt(config, opened.path))


def recorded_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as a run records them: without secrets, and with what `--dtype auto` means.

    So a run says what it was computed in, and does not change it on another machine.
    """
    settings: dict[str, Any] = redacted(dict(config))
    if settings.get("dtype") == "auto":
        from ric.device import pick_device, resolve_dtype  # torch takes a second

        settings["dtype"] = resolve_dtype("auto", pick_device(settings["device"]))
    return settings


def _take_alone(opened: RunDir) -> None:
    """Claim the whole run (raises RicError if another process has)."""
    if opened.claims.take(WHOLE_RUN):
        return
    owner = opened.claims.owner_of(WHOLE_RUN)
    who = f"Process {owner['pid']} on {owner['host']}" if owner else "Another process"
    raise RicError(
        f"{who} is at work in {opened.path}.",
        "Wait for it, or stop it and repeat the command to resume.",
    )


def _attempt(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Describe one attempt at a run: its command, settings, process and environment.

    Until the run is entered, its status is `interrupted`: no work has been done yet.
    """
    # its imports take 25 ms, which `ric --help` should not pay
    from ric.runs.provenance import environment_report

    return {
        "argv": redacted(sys.argv),
        "config": dict(config),
        "process": process_identity(),
        "environment": environment_report(path),
        "status": "interrupted",
    }


def _create(path: Path, record: Mapping[str, Any]) -> bool:
    """Create a run in `path`; False if there is one. Of two that start at once, one creates it."""
    if (path / "run.json").is_file():
        return False
    try:
        # .run.json.…: another process is creating the run at this moment
        if path.exists() and not (
            path.is_dir() and all(file.name.startswith(".run.json") for file in path.iterdir())
        ):
            if (path / "run.json").is_file():
                return False
            raise RicError(
                f"{path} exists and is not a run (it has no run.json).",
                "Name a folder that is empty or does not exist yet, or omit --run.",
            )
        path.mkdir(parents=True, exist_ok=True)
        return create_atomically(path / "run.json", as_text(record))
    except OSError as error:
        raise RicError(
            f"Cannot create a run in {path}: {error.strerror}.", "Name another folder: --run DIR."
        ) from None


def _refuse_another(
    path: Path,
    record: Mapping[str, Any],
    command: str,
    config: Mapping[str, Any],
    may_differ: frozenset[str],
) -> None:
    """Refuse to resume another command's run, or one with other settings."""
    may_differ |= OF_COMMAND.get(command, frozenset())
    if record["command"] != command:
        raise RicError(
            f"{path} is a run of `ric {record['command']}`, not of `ric {command}`.",
            "Name another folder, or omit --run.",
        )
    if differing := differences(record, config, may_differ):
        raise RicError(
            f"{path} was started with other settings: {'; '.join(differing)}.",
            "Use the same settings to resume it, or name another folder.",
        )


def differences(
    record: Mapping[str, Any], config: Mapping[str, Any], may_differ: frozenset[str] = frozenset()
) -> list[str]:
    """Say in which settings a run differs from a config.

    Passed over are `MAY_DIFFER`, `may_differ`, and settings that its editor, describer or judge
    does not read.
    """
    may_differ |= unread_settings(record["command"], record["config"])
    before, now = dict(record["config"]), dict(config)
    # a run of an older version lacks newer settings, and was made as they are by default
    usual = usual_settings(record["command"], before)
    before |= {key: usual[key] for key in now.keys() - before.keys() if key in usual}
    return [
        f"{key}: {before.get(key)!r} there, {now.get(key)!r} now"
        for key in sorted({*before, *now} - MAY_DIFFER - may_differ)
        if before.get(key) != now.get(key)
    ]


def next_numbered(runs_dir: Path, command: str) -> Path:
    """Reserve the next number; two commands that start at once get different ones."""
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
            f"Cannot create runs in {runs_dir}: {error.strerror}.",
            "Name a writable folder: --runs-dir DIR.",
        ) from None
    return path
