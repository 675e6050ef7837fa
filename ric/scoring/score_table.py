"""Several editors' scores side by side, as in the paper's tables.

Only rows over the same samples are comparable. A row over samples that some other editor lacks
carries a dagger, the notes say how many those are, and it is never marked as best.
"""

from __future__ import annotations

import csv
import io
import re
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ric.metric_table import OF_SCENES
from ric.metrics.intervals import holm, p_value
from ric.plain_line import plain_line
from ric.scoring.ranking import best
from ric.scoring.scores import (
    THE_SIX,
    Difference,
    Score,
    Scores,
    column_names,
    find_score,
    place_of,
)
from ric.table_text import in_csv, in_latex, in_markdown, in_prose

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ric.config import Layout

Cell = TypeVar("Cell")
_NUMBER = re.compile(r"(?:(?<!\w)-)?\d+(?:[.,]\d+)*")  # that of B-16 or 2-3 is no minus
NOT_AVAILABLE = "not available"
BOLD_DIFFERENCES = (
    "Bold: the difference is not 0 at the 5 % level, by Holm's correction over this table."
)


class ShownColumns(NamedTuple):
    """The names of the scores, by where a screen or a page shows them.

    Attributes:
        of_scenes: Those inside the masks, which come first: on whole pictures, doing nothing scores
            well.
        first: The six and KID; all but those of scenes where none of these has a number.
        others: The rest.
    """

    of_scenes: list[str]
    first: list[str]
    others: list[str]


def shown_columns(rows: Sequence[Scores], *, whole: bool = False) -> ShownColumns:
    """Choose the tables in which scores are shown, whether they have numbers or not.

    Args:
        rows: The scores.
        whole: All but those of scenes are shown first: a protocol's, or those asked for by name.
    """
    keys = {name: first_score(rows, name) for name in column_names(rows)}
    of_scenes = [name for name, score in keys.items() if score.key in OF_SCENES]
    rest = [name for name in keys if name not in of_scenes]
    first = [name for name in rest if whole or keys[name].is_shown_first]
    if not with_numbers(rows, first):
        first = rest
    return ShownColumns(of_scenes, first, [name for name in rest if name not in first])


def laid_out(grid: list[list[Cell]], layout: Layout) -> list[list[Cell]]:
    """Lay out a table of one row per editor; Tables 2 and 3 have one column per editor."""
    return grid if layout == "table-1" else [list(row) for row in zip(*grid, strict=True)]


def to_csv(tables: Mapping[str, Sequence[Scores | Difference]]) -> str:
    """Return one line per score: group, label, metric, value, interval, N and what it means.

    Those of a difference have the role `difference`, and `against` is what was subtracted; `p` is
    that it is 0, before Holm's correction.

    Args:
        tables: The rows of each group of samples, by its name; "" names all samples.
    """
    columns = ["group", "label", "role", "against", "metric", "value", "low", "high", "p"]
    columns += ["std", "n", "direction"]
    columns += ["definition", "note", "unavailable", "samples", "samples_shared", "photos"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for group, rows in tables.items():
        for row in rows:
            about = row.as_dict()
            for name, score in about.pop("scores").items():
                cells = {"group": group, "role": "difference", **about, "metric": name, **score}
                writer.writerow({key: in_csv(cell) for key, cell in cells.items()})
    return text.getvalue()


def to_markdown(
    rows: Sequence[Scores],
    differences: Sequence[Difference] = (),
    layout: Layout = "table-1",
) -> str:
    """Return the six and KID in a table, then differences, other scores and all meanings.

    Differences from one editor, or from the identity, are one table.

    A column without any number is left out; a line below says why.
    """
    names = with_numbers(rows, column_names(rows))
    first = [name for name in names if _is_shown_first(rows, name)]
    others = [name for name in names if name not in first]
    parts = [_markdown_table(rows, first, layout)] if first else []
    parts += [_differences_table(some) for some in by_subtrahend(differences)]
    if others:
        parts.append(_markdown_table(rows, others, layout))
    meanings = [f"- {in_prose(line)}" for line in _meanings(rows, names)]
    return "\n\n".join([*parts, "\n".join(meanings)]) + "\n"


def to_latex(
    rows: Sequence[Scores], layout: Layout = "table-1", *, all_columns: bool = False
) -> str:
    """Return the six as a `tabular` with booktabs rules; the best editor is bold.

    A protocol without scores of whole sets shows all of its scores; so does `all_columns`.
    """
    names = column_names(rows)
    if not all_columns and {"fid", "is"} & {score.key for row in rows for score in row.scores}:
        names = [name for name in names if _is_paper_column(rows, name)]
    winners = best(rows, layout)
    grid = [["", *(in_latex(first_score(rows, name).heading) for name in names)]]
    for row in rows:
        cells = []
        for name in names:
            score = find_score(row, name)
            number = (in_latex(score.number) if score else "") or "--"
            cells.append(f"\\textbf{{{number}}}" if row.label in winners.get(name, ()) else number)
        grid.append([in_latex(row.marked_label), *cells])
    turned = laid_out(grid, layout)
    first, *others = map(_latex_line, turned)
    columns = "l" + "c" * (len(turned[0]) - 1)
    begin = [f"\\begin{{tabular}}{{{columns}}}", "\\toprule", first, "\\midrule"]
    notes = (
        f"\\multicolumn{{{len(turned[0])}}}{{l}}{{\\footnotesize {_latex_note(rows, names)}}} \\\\"
    )
    end = ["\\midrule", notes, "\\bottomrule", "\\end{tabular}"]
    told = [f"% {plain_line(line)}" for line in which_samples(rows)]
    return "\n".join([*begin, *others, *end, *told]) + "\n"


def _latex_note(rows: Sequence[Scores], names: Sequence[str]) -> str:
    """Say on how many samples the numbers are, and what a spread is."""
    of_count: dict[str, list[str]] = {}
    for name in names:
        of_count.setdefault(_counts(rows, name), []).append(first_score(rows, name).heading)
    of_count.pop("", None)  # a score that no row has
    parts = ["N = " + next(iter(of_count), "0")]
    if len(of_count) > 1:
        parts = [f"N = {counts} for {', '.join(some)}" for counts, some in of_count.items()]
    scores = [score for row in rows for name in names if (score := find_score(row, name))]
    if any(score.std is not None for score in scores):
        parts.append("±: one standard deviation over the splits of IS")
    return in_latex("; ".join(parts) + ".")


def _counts(rows: Sequence[Scores], name: str) -> str:
    """Return N of each row that has a number, once if all agree."""
    held = [score for row in rows if (score := find_score(row, name)) and score.value is not None]
    return "/".join(dict.fromkeys(str(score.n) for score in held))


def _markdown_table(rows: Sequence[Scores], names: Sequence[str], layout: Layout) -> str:
    winners = best(rows, layout)
    grid = [["", *(first_score(rows, name).heading for name in names)]]
    for row in rows:
        cells = [
            _cell(find_score(row, name), bold=row.label in winners.get(name, ())) for name in names
        ]
        grid.append([in_markdown(row.marked_label), *cells])
    turned = laid_out(grid, layout)
    first, *others = [f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in turned]
    columns = len(turned[0])
    return "\n".join([first, "|---" * columns + "|", *others])


def by_subtrahend(differences: Sequence[Difference]) -> list[list[Difference]]:
    """Part differences by the row that is subtracted, in the order of their first."""
    tables: dict[str, list[Difference]] = {}
    for row in differences:
        if row.scores:
            tables.setdefault(row.against, []).append(row)
    return list(tables.values())


def _differences_table(differences: Sequence[Difference]) -> str:
    lines = ["| | " + " | ".join(in_markdown(row.heading) for row in differences) + " |"]
    lines.append("|---" * (len(differences) + 1) + "|")
    for heading, cells in difference_rows(differences):
        shown = [f"**{text}**" if sure else text for text, sure in cells]
        lines.append("| " + " | ".join([heading, *shown]) + " |")
    return "\n".join([*lines, "", BOLD_DIFFERENCES])


def difference_rows(
    differences: Sequence[Difference],
) -> list[tuple[str, list[tuple[str, bool]]]]:
    """Return one row per score: its heading, and each pair's difference with its interval.

    Each cell is a text and whether it is bold: a score that ranks editors differs from 0 at the 5 %
    level, by Holm's correction over all of the table's differences.
    """
    held = {score.name: score for row in differences for score in row.scores}
    names = sorted(held, key=lambda name: place_of(held[name].key))
    grid = {
        name: [next((one for one in row.scores if one.name == name), None) for row in differences]
        for name in names
    }
    tested = [
        # a run of an older version has no p: then as if each sample were of a photo of its own
        (
            score,
            p_value(score.value, score.interval, max(1, score.n - 1))
            if score.p is None
            else score.p,
        )
        for row in grid.values()
        for score in row
        if score is not None and score.value is not None and score.interval and score.ranks
    ]
    adjusted = holm([p for _, p in tested])
    sure = {id(score) for (score, _), p in zip(tested, adjusted, strict=True) if p < 0.05}
    return [
        (held[name].heading, [(_difference_cell(score), id(score) in sure) for score in row])
        for name, row in grid.items()
    ]


def _difference_cell(score: Score | None) -> str:
    if score is None or score.value is None:
        return ""
    digits = score.metric.digits
    if score.interval is None:
        return f"{score.value:+.{digits}f} (N = {score.n})"
    low, high = score.interval
    return f"{score.value:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}] (N = {score.n})"


def _cell(score: Score | None, *, bold: bool) -> str:
    if score is None or score.value is None:
        return NOT_AVAILABLE
    digits = score.metric.digits
    number = f"**{score.number}**" if bold else score.number
    if score.interval is None:
        return number
    low, high = score.interval
    return f"{number} [{low:.{digits}f}, {high:.{digits}f}]"


def _meanings(rows: Sequence[Scores], names: Sequence[str]) -> list[str]:
    """Return a line for each score that any row has, then the notes on all of them."""
    lines = [meaning(rows, name) for name in names]
    lines.append(
        "[low, high]: 95 % interval; of means by Student's t, of shares by Wilson's formula, of"
        " their differences by Newcombe's."
    )
    return [*lines, *not_available(rows), *which_samples(rows)]


def with_numbers(rows: Sequence[Scores], names: Sequence[str]) -> list[str]:
    """List those of `names` for which any row has a number."""
    return [name for name in names if any(_value(row, name) is not None for row in rows)]


def not_available(rows: Sequence[Scores], names: Sequence[str] | None = None) -> list[str]:
    """Return a line per reason: the scores that are missing, and whose if others have them."""
    lacking: dict[str, list[str]] = {}
    for name in column_names(rows) if names is None else names:
        labels: dict[str, list[str]] = {}
        for row in rows:
            score = find_score(row, name)
            if score is None or score.value is None:
                reason = score.unavailable if score else None
                labels.setdefault(reason or "not scored", []).append(row.label)
        for reason, some in labels.items():
            whose = "" if len(some) == len(rows) else f" of {', '.join(some)}"
            lacking.setdefault(reason, []).append(f"{name}{whose}")
    return [
        f"{NOT_AVAILABLE.capitalize()}: {', '.join(some)}: {reason.rstrip('.')}."
        for reason, some in lacking.items()
    ]


def meaning(rows: Sequence[Scores], name: str) -> str:
    """Describe a score in a line: N of each row (once if all agree), definition, notes."""
    scores = {row.label: score for row in rows if (score := find_score(row, name))}
    held = [score for score in scores.values() if score.value is not None]
    notes = {label: score.note for label, score in scores.items() if score.note}
    about = f"{name} (N = {_counts(rows, name)}): {held[0].definition.rstrip('.')}."
    return " ".join([about, *_notes_once(notes)])


def _notes_once(notes: Mapping[str, str]) -> list[str]:
    """List the sentences of all rows' notes, each once.

    One that differs between rows in its numbers alone has those of all rows, as 0.1/0.2; one that
    not all of them have begins with the labels of those that do.

    Args:
        notes: Each row's note, by its label.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for label, note in notes.items():
        for sentence in re.split(r"(?<=[.!?]) (?=[A-Z\d-])", note):
            found.setdefault(_NUMBER.sub("\0", sentence), {})[label] = _NUMBER.findall(sentence)
    lines = []
    for template, numbers in found.items():
        columns = zip(*numbers.values(), strict=True)
        joined = ["/".join(some) if len(set(some)) > 1 else some[0] for some in columns]
        parts = template.split("\0")
        sentence = "".join(chain.from_iterable(zip_longest(parts, joined, fillvalue="")))
        of_all = len(numbers) == len(notes)
        lines.append(sentence if of_all else f"{', '.join(numbers)}: {sentence}")
    return lines


def which_samples(rows: Sequence[Scores]) -> list[str]:
    """Say on how many samples each row with a dagger is scored, and how many photos there are.

    Also how many samples have a profile on one side alone. Nothing where all rows have the same
    samples, each of a photo of its own, and none has.
    """
    apart = [row for row in rows if row.is_apart]
    repeated = next((row for row in rows if row.photos not in (None, row.samples)), None)
    lines = []
    if repeated is not None:
        lines = [
            f"{repeated.samples} samples of {repeated.photos} photos: intervals are of photos,"
            " each with all of its samples."
        ]
    lines += [
        f"{row.label}: of {row.profiles_apart} of {row.samples} outputs and their references, only"
        " one has a colour profile that is not sRGB's. --decode ric converts its colours, --decode"
        " plain compares its levels as they are."
        for row in rows
        if row.profiles_apart
    ]
    if not apart:
        return lines
    counts = ", ".join(f"{row.label} on {row.samples}" for row in apart)
    return [
        *lines,
        f"† on other samples than the rest: {counts}; {apart[0].shared} have a picture of every"
        " editor that could be scored, and the source is scored on those, the ground truth on"
        " those with a target. Do not compare these rows with the others.",
    ]


def _is_paper_column(rows: Sequence[Scores], name: str) -> bool:
    """Tell the six from the rest; of two scores with one key, as two IS, the first is the six's."""
    return first_score(rows, name).key in THE_SIX and _is_shown_first(rows, name)


def _is_shown_first(rows: Sequence[Scores], name: str) -> bool:
    key = first_score(rows, name).key
    firsts = {row[key].name for row in rows if any(score.key == key for score in row.scores)}
    return first_score(rows, name).is_shown_first and name in firsts


def first_score(rows: Sequence[Scores], name: str) -> Score:
    """Return the first row's score of that name."""
    return next(score for row in rows if (score := find_score(row, name)))


def _value(row: Scores, name: str) -> float | None:
    score = find_score(row, name)
    return score.value if score else None


def _latex_line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + " \\\\"
