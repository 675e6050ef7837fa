"""The runs that a run was made from, each with its settings, versions and weights."""

from __future__ import annotations

import shlex
from datetime import datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

from ric.errors import RicError
from ric.report.line_chart import Chart, charts_of
from ric.runs.artifacts import licence_of, public_name
from ric.runs.record import parents_of, read_record, status_of
from ric.runs.rows import read_lines
from ric.settings import usual_settings
from ric.weights import find_weight

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path


class ChainRun(NamedTuple):
    """A run as a page shows it; of paths on this machine only the last part.

    Attributes:
        path: Its folder.
        name: The folder's name.
        command: What made it, such as `train-unet`.
        status: done, interrupted, failed, …
        started: UTC, to the minute.
        took: In words; "" while it is not ended.
        line: The command line.
        data: DATA as it was named.
        parents: The names of the runs that it was made from.
        settings: Each setting with its value, and whether it is the usual one of its preset.
        software: Packages with their versions, Python's and the commit among them.
        machine: What it ran on.
        weights: Each model that it read: what it served as, and its id and revision.
        charts: Of a training: its curves.
    """

    path: Path
    name: str
    command: str
    status: str
    started: str
    took: str
    line: str
    data: str
    parents: list[str]
    settings: list[tuple[str, str, bool]]
    software: list[tuple[str, str]]
    machine: str
    weights: list[tuple[str, str, str]]
    charts: list[Chart]


class UsedWeights(NamedTuple):
    """A pretrained weight that some run of the chain read, with its terms."""

    id: str
    revision: str
    served: list[str]
    licence: str
    conditions: str


def read_chain(runs: Iterable[Path]) -> tuple[list[ChainRun], list[str]]:
    """Read runs and all that they were made from, oldest first.

    Returns:
        The runs, and a line for each one that is gone or cannot be read.

    Raises:
        RicError: one of `runs` itself cannot be read.
    """
    todo = [(path.resolve(), read_record(path)) for path in runs]
    found: dict[Path, Mapping[str, Any]] = {}
    missing: list[str] = []
    while todo:
        path, record = todo.pop()
        if path in found:
            continue
        found[path] = record
        for parent in parents_of(path, record):
            try:
                todo.append((parent.resolve(), read_record(parent)))
            except RicError:
                missing.append(f"{path.name} was made from {parent.name}, which is gone.")
    in_order = sorted(found.items(), key=lambda one: (str(one[1]["started"]), one[0].name))
    return [_shown(path, record) for path, record in in_order], list(dict.fromkeys(missing))


def _shown(path: Path, record: Mapping[str, Any]) -> ChainRun:
    about = record.get("environment", {})
    commit = about.get("git") or {}
    versions = {"python": about.get("python"), **about.get("versions", {})}
    if commit:
        versions["commit"] = str(commit.get("commit"))[:12] + (
            " and local changes" if commit.get("dirty") else ""
        )
    metrics = path / "metrics.jsonl"
    return ChainRun(
        path=path,
        name=path.name,
        command=str(record["command"]),
        status=status_of(record, path),
        started=str(record["started"])[:16].replace("T", " "),
        took=_duration(record),
        line=_command_line(record.get("argv", [])),
        data=in_public(record.get("data", {}).get("name", "")),
        parents=[parent.name for parent in parents_of(path, record)],
        settings=_settings(record),
        software=[(name, str(version)) for name, version in versions.items() if version],
        machine=", ".join(str(one) for one in (about.get("machine"), *(about.get("gpus") or []))),
        weights=[
            (served, _model_name(record, weight), str(weight.get("revision") or ""))
            for served, weight in record.get("weights", {}).items()
        ],
        charts=charts_of(list(read_lines(metrics))) if metrics.is_file() else [],
    )


def _model_name(record: Mapping[str, Any], weight: Mapping[str, Any]) -> str:
    """Name a model: the run that `@command` or a number meant, else the weights."""
    name = weight.get("id")
    run = record.get("resolved", {}).get(name)
    return in_public(name) if run is None else PurePath(run).name


def in_public(name: object) -> str:
    """Name data or weights without the folders of this machine; a run's reference stays."""
    return str(public_name(name))


def _settings(record: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    config = record["config"]
    usual = usual_settings(str(record["command"]), config)
    rows = [
        (key, _in_words(public_name(value)), key in usual and usual[key] == value)
        for key, value in config.items()
        if key != "data"
    ]
    return sorted(rows, key=lambda row: row[2])  # stable: those that were chosen first


def _in_words(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    known = {None: "none", True: "yes", False: "no"}
    return known[value] if value is None or isinstance(value, bool) else str(value)


def _command_line(argv: Sequence[str]) -> str:
    words = []
    for word in argv[1:]:
        # --runs-dir=/home/… and Label=/home/…
        before, equals, after = word.rpartition("=")
        words.append(f"{before}{equals}{public_name(after)}")
    return shlex.join(["ric", *words]) if words else ""


def _duration(record: Mapping[str, Any]) -> str:
    try:
        begin, end = (datetime.fromisoformat(record[key]) for key in ("started", "ended"))
        seconds = round((end - begin).total_seconds())
    except (KeyError, ValueError, TypeError):
        return ""
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def weights_of(chain: Sequence[ChainRun]) -> list[UsedWeights]:
    """List the pretrained weights of a chain with their licences; not what its own runs made."""
    own = {name for run in chain for name in (run.name, *run.parents)}
    found: dict[tuple[str, str], UsedWeights] = {}
    for run in chain:
        for served, name, revision in run.weights:
            if name in own or name.startswith("@"):  # older runs do not say which one that was
                continue
            known = find_weight(name)
            used = found.setdefault(
                (name, revision),
                UsedWeights(
                    name, revision, [], licence_of(name), known.conditions if known else ""
                ),
            )
            used.served.append(f"{served} of {run.name}")
    return list(found.values())
