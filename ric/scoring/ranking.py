"""Find the best editor in each column of a table, where there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ric.scoring.scores import OF_SETS, Score, Scores, column_names, find_score

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ric.config import Layout


def best(rows: Sequence[Scores], layout: Layout = "table-1") -> dict[str, set[str]]:
    """Return, by the score's name, the labels of the best editors.

    Numbers that print alike are best together. With fewer than two editors over the same samples
    none is best; the identity and the ground truth are not editors. In the layout of the paper's
    Table 2 each pair of editors, without and with, has its own best.

    FID, KID and IS vary with the pictures: there none is best that another editor may equal
    (`Score.spread`). FID against the targets of the same samples ranks none (`Score.ranks`).
    """
    editors = [row for row in rows if row.role == "editor"]
    size = 2 if layout == "table-2" else max(len(editors), 1)
    among = [editors[start : start + size] for start in range(0, len(editors), size)]
    winners: dict[str, set[str]] = {}
    for name in column_names(rows):
        for all_of_them in among:
            some = [row for row in all_of_them if not row.is_apart]
            winners.setdefault(name, set()).update(_best_of(some, name) if len(some) > 1 else ())
    return {name: labels for name, labels in winners.items() if labels}


def _best_of(editors: Sequence[Scores], name: str) -> set[str]:
    held = {row.label: score for row in editors if (score := find_score(row, name))}
    values = {label: score for label, score in held.items() if score.value is not None}
    if not values:
        return set()
    first = next(iter(values.values()))
    if not first.ranks:
        return set()
    pick = max if first.direction == "up" else min
    top = pick(values.values(), key=lambda score: score.value or 0.0).value
    shown = f"{top:z.{first.metric.digits}f}"
    winners = {label for label, score in values.items() if score.number.split(" ")[0] == shown}
    if first.key in OF_SETS and not _stand_apart(list(values.values())):
        return set()
    return winners


def _stand_apart(scores: Sequence[Score]) -> bool:
    """Tell whether the spread of the best score overlaps no other's."""
    ordered = sorted(
        scores, key=lambda score: score.value or 0.0, reverse=scores[0].direction == "down"
    )
    spreads = [score.spread for score in ordered]
    if None in spreads:
        return False
    *others, (low, high) = [spread for spread in spreads if spread]
    if scores[0].direction == "up":
        return all(low > other[1] for other in others)
    return all(high < other[0] for other in others)
