"""Score tables as a page shows them: what `ric eval` prints, cell by cell, with its intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ric.report.chain import in_public
from ric.runs.record import read_record
from ric.scoring.judge_words import judge_in_words
from ric.scoring.ranking import best
from ric.scoring.read_scores import read_differences, read_groups, read_scores
from ric.scoring.score_table import (
    by_subtrahend,
    difference_rows,
    first_score,
    meaning,
    not_available,
    shown_columns,
    which_samples,
    with_numbers,
)
from ric.scoring.scores import column_names, find_score

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ric.config import Layout
    from ric.scoring.scores import Score, Scores


class Cell(NamedTuple):
    """One number of a table: as text, with its interval or "", and whether it is the best."""

    number: str
    interval: str
    is_best: bool
    why_none: str


class ScoreTable(NamedTuple):
    """A table with a row per editor.

    Attributes:
        headings: Of the columns.
        rows: Label, role and cells.
    """

    headings: list[str]
    rows: list[tuple[str, str, list[Cell]]]


class ScoredRun(NamedTuple):
    """The scores of an eval run.

    Attributes:
        name: The run's.
        data: What was scored, its split and the protocol.
        samples: How many.
        first: The tables to be read first.
        others: Those of the other scores, and of groups by their names.
        differences: A table for each row that is subtracted: its headings, and per score its
            heading and each cell's text and whether it is bold.
        meanings: A line for each score, then the notes.
    """

    name: str
    data: str
    samples: int
    first: list[ScoreTable]
    others: list[tuple[str, ScoreTable]]
    differences: list[tuple[list[str], list[tuple[str, list[tuple[str, bool]]]]]]
    meanings: list[str]


def read_scored_run(path: Path) -> ScoredRun:
    """Read the tables of an eval run.

    Raises:
        RicError: its scores cannot be read.
    """
    record = read_record(path)
    config, rows = record["config"], read_scores(path)
    layout: Layout = "table-2" if config.get("layout") == "table-2" else "table-1"
    names = with_numbers(rows, column_names(rows))
    of_scenes, shown, rest = (with_numbers(rows, some) for some in shown_columns(rows))
    others = [("Other scores", _table(rows, rest, layout))] if rest else []
    groups = read_groups(path)
    others += [
        (group, _table(some, with_numbers(some, [*of_scenes, *shown]), layout))
        for group, some in groups.items()
    ]
    differences = [
        ([row.heading for row in some], difference_rows(some))
        for some in by_subtrahend(read_differences(path))
    ]
    protocol = config.get("protocol", "none")
    about = [in_public(record.get("data", {}).get("name", "")), f"split {config.get('split')}"]
    return ScoredRun(
        path.name,
        ", ".join([*about, *([f"protocol {protocol}"] if protocol != "none" else [])]),
        max((row.samples for row in rows), default=0),
        [_table(rows, some, layout) for some in (of_scenes, shown) if some],
        others,
        differences,
        [
            *(meaning(rows, name) for name in names),
            *not_available(rows),
            *which_samples(rows),
            *(judge_in_words(record["judge"]) if "judge" in record else ()),
        ],
    )


def _table(rows: Sequence[Scores], names: Sequence[str], layout: Layout) -> ScoreTable:
    winners = best(rows, layout)
    firsts = [first_score(rows, name) for name in names]
    return ScoreTable(
        [score.heading for score in firsts],
        [
            (
                row.marked_label,
                row.role,
                [
                    _cell(find_score(row, name), is_best=row.label in winners.get(name, ()))
                    for name in names
                ],
            )
            for row in rows
        ],
    )


def _cell(score: Score | None, *, is_best: bool) -> Cell:
    if score is None or score.value is None:
        return Cell("", "", False, (score and score.unavailable) or "not scored")
    digits = score.metric.digits
    interval = ""
    if score.interval is not None:
        low, high = score.interval
        interval = f"{low:z.{digits}f} to {high:z.{digits}f}"
    return Cell(score.number, interval, is_best, "")
