"""Read the score tables of finished eval runs: their scores.json."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

from ric.errors import RicError
from ric.metric_table import Metric
from ric.scoring.scores import Difference, Score, Scores

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")


def read_scores(run: Path) -> list[Scores]:
    """Read the score table of a finished eval run.

    Raises:
        RicError: its scores.json is missing or cannot be read.
    """
    return _read(run / "scores.json", _read_rows)


def read_judge(run: Path) -> dict[str, Any]:
    """Read what a finished eval run tells of its judge; empty where it had none.

    Raises:
        RicError: its scores.json is missing or cannot be read.
    """
    return _read(run / "scores.json", lambda told: dict(told.get("judge", {})))


def read_groups(run: Path) -> dict[str, list[Scores]]:
    """Read the tables of `--group-by`, by the groups' names.

    Raises:
        RicError: its scores.json is missing or cannot be read.
    """

    def read(told: dict[str, Any]) -> dict[str, list[Scores]]:
        return {name: _read_rows(group) for name, group in told.get("groups", {}).items()}

    return _read(run / "scores.json", read)


def _read_rows(told: dict[str, Any]) -> list[Scores]:
    return [
        Scores(
            row["label"],
            tuple(_read_score(name, about) for name, about in row["scores"].items()),
            row["role"],
            row.get("samples", 0),
            row.get("samples_shared"),
            row.get("photos"),
            row.get("profiles_apart", 0),
        )
        for row in told["editors"]
    ]


def read_differences(run: Path) -> list[Difference]:
    """Read the differences of later editors from the first; empty in runs of older versions.

    Raises:
        RicError: its scores.json is missing or cannot be read.
    """

    def read(told: dict[str, Any]) -> list[Difference]:
        return [
            Difference(
                row["label"],
                row["against"],
                tuple(_read_score(name, about) for name, about in row["scores"].items()),
                row["samples"],
            )
            for row in told.get("differences", ())
        ]

    return _read(run / "scores.json", read)


def _read(file: Path, read: Callable[[dict[str, Any]], T]) -> T:
    try:
        return read(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise RicError(
            f"The scores in {file} cannot be read.", "Score again without --run."
        ) from None


def _read_score(name: str, about: dict[str, Any]) -> Score:
    key, _, marker = name.partition("[")
    fields = ("definition", "value", "n", "p", "std", "note", "unavailable", "ranks")
    known = {field: about[field] for field in fields if field in about}
    interval = (about["low"], about["high"]) if "low" in about else None
    own = None
    if "heading" in about:  # a metric that is not ric's
        own = Metric(about["heading"], about["direction"] == "up", about["digits"])
    return Score(key=key, marker=marker.removesuffix("]"), interval=interval, own=own, **known)
