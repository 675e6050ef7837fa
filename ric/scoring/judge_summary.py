"""The judge of `ric eval` beside its scores: malformed answers, position bias, agreement."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from ric.errors import RicError
from ric.metric_table import JUDGED
from ric.metrics.agreement import kendall, spearman
from ric.metrics.intervals import mean_interval
from ric.runs.artifacts import public_name
from ric.runs.record import find_run, read_record
from ric.runs.rows import read_lines
from ric.scoring.judge_answers import SCORE_OF
from ric.scoring.judge_prompts import QUESTIONS, questions_of
from ric.scoring.kept_samples import photos_of
from ric.scoring.scores import Score, within_range

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ric.config import EvalConfig
    from ric.runs.run import RunDir
    from ric.scoring.write_tables import Table

    Row = Mapping[str, Any]


def note_judge(config: EvalConfig, run: RunDir, table: Table) -> None:
    """Add to the run's record of its judge what its answers are like.

    Raises:
        RicError: the run of `--agree-with` has no scores of a judge for these pictures.
    """
    rows = list(chain.from_iterable(table.per_sample.values()))
    editors = {row.label for row in table.rows if row.role == "editor"}
    edits = [row for label, some in table.per_sample.items() if label in editors for row in some]
    found: dict[str, Any] = {**run.record["judge"], **_faults(rows)}
    if config.judge_swap:
        bias = {one: _bias(edits, one) for one in questions_of(config)}
        found["position_bias"] = {one: told for one, told in bias.items() if told is not None}
    if config.agree_with:
        found["agreement"] = _agreement(config.agree_with, edits, run)
    run.note(judge=found)


def _questions(row: Row) -> dict[str, Any]:
    """Return what was told of each question about an edit, by order."""
    told = row.get("judge") or {}
    return {name: orders for name, orders in told.items() if name in QUESTIONS}


def _faults(rows: Sequence[Row]) -> dict[str, Any]:
    """Count questions, malformed answers, and the questions that have no other.

    A question that several editors share, since their pictures are the same, is one.
    """
    asked: dict[str, dict[str, Any]] = {
        told["answer"]: told
        for row in rows
        for orders in _questions(row).values()
        for told in orders.values()
    }
    faults = Counter(chain.from_iterable(told["faults"] for told in asked.values()))
    return {
        "questions": len(asked),
        "malformed": dict(faults.most_common()),
        "unanswered": sum(told["grades"] is None for told in asked.values()),
    }


def _bias(rows: Sequence[Row], question: str) -> dict[str, Any] | None:
    """Compare a question's scores in both orders; None where no edit has both.

    Returns:
        The mean of the score with the source first less that with the edit first, its 95 %
        interval, the share of edits with equal scores, and how many edits there are.
    """
    held, apart = [], []
    for row in rows:
        orders = _questions(row).get(question, {}).values()
        scores = [SCORE_OF[question](one["grades"]) for one in orders if one["grades"] is not None]
        if len(scores) == 2:
            held.append(row)
            apart.append(scores[0] - scores[1])
    if not held:
        return None
    told = Score(key=question, interval=mean_interval(apart, photos=photos_of(held)))
    low, high = within_range(told, difference=True).interval or (None, None)
    return {
        "mean": float(np.mean(apart)),
        "low": low,
        "high": high,
        "equal": sum(one == 0 for one in apart) / len(apart),
        "n": len(apart),
    }


def _agreement(reference: str, rows: Sequence[Row], run: RunDir) -> dict[str, Any]:
    """Compare a judge's scores with those that another run's judge gave the same pictures."""
    path = judged_run(run.resolve(reference), reference)
    run.add_parent(path)
    record = read_record(path)
    theirs: dict[tuple[str, str], Row] = {}
    for row in read_lines(path / "per_sample.jsonl"):
        if shown := (row.get("judge") or {}).get("shown"):
            theirs.setdefault((str(row.get("id")), shown), row)
    metrics: dict[str, Any] = {}
    for key in JUDGED:
        pairs = [
            (row[key], other[key])
            for row in rows
            if (other := theirs.get((row["id"], (row.get("judge") or {}).get("shown", ""))))
            and row.get(key) is not None
            and other.get(key) is not None
        ]
        if pairs:
            ours, others = zip(*pairs, strict=True)
            metrics[key] = {
                "spearman": spearman(ours, others),
                "kendall": kendall(ours, others),
                "mean_difference": float(np.mean(np.subtract(ours, others))),
                "n": len(pairs),
            }
    if not metrics:
        raise RicError(
            f"{path} has no judge's score of a picture that is scored here.",
            "Name an eval run over the same edits with one of the same --metrics of a judge, or"
            " omit --agree-with.",
        )
    about = record.get("judge", {})
    return {"run": path.name, "model": public_name(about.get("model")), "metrics": metrics}


def find_judged_run(reference: str, runs_dir: Path) -> Path:
    """Find the run of `--agree-with` (raises RicError as `judged_run`)."""
    return judged_run(find_run(reference, runs_dir), reference)


def judged_run(path: Path | None, reference: str) -> Path:
    """Return the run that a reference was resolved to.

    Raises:
        RicError: there is none, it is not a finished run of `ric eval`, or it has no judge.
    """
    if path is None:
        raise RicError(f"--agree-with: there is no run {reference!r}.", "See: ric runs ls")
    record = read_record(path)
    if record.get("command") != "eval" or record.get("status") != "done":
        raise RicError(
            f"--agree-with: {path} is no finished run of ric eval.", "Finish it, or name another."
        )
    if "judge" not in record:
        raise RicError(
            f"--agree-with: {path} was scored without a judge.", "Name a run with --judge."
        )
    return path
