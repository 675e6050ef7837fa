"""A label is shown as it stands in Markdown, LaTeX and spreadsheets, and obeyed by none."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace

import pytest

from ric.plain_line import is_plain_line
from ric.scoring.score_table import to_csv, to_latex, to_markdown
from ric.scoring.scores import Difference, Score, Scores
from ric.table_text import in_csv, in_latex, in_markdown, in_prose

# what each would do: a tag, a link, a row, a command, a formula, a terminal's colour, a new line
ODD = "<b>|[a](javascript:x)\\input{x}%\x1b[31m\u202e`c`\n| = |"


def test_markdown_shows_every_character_of_markup_as_it_stands():
    markup = "\\`*_[]<>|~"
    assert in_markdown(markup) == "".join(f"\\{character}" for character in markup)
    assert in_markdown("B & C &amp; &#38;") == "B & C \\&amp; \\&#38;"
    assert in_markdown("IP2P (with) 2.0") == "IP2P (with) 2.0"


def test_a_sentence_keeps_names_of_scores_and_makes_no_link_or_tag():
    assert in_prose("clip_i[tiny] (N = 5): a cosine.") == "clip_i[tiny] (N = 5): a cosine."
    assert in_prose("[a](b) <i> `c`") == "[a]\\(b) \\<i\\> \\`c\\`"


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=1+2", "'=1+2"), ("+1", "'+1"), ("-1", "'-1"), ("@SUM(A1)", "'@SUM(A1)"),
        ("  =1", "'  =1"), ("\uff1d1", "'\uff1d1"), ("\t=1", "\\t=1"), ("a=1", "a=1"), ("", ""),
        (-0.5, -0.5), (None, None),
    ],
)  # fmt: skip
def test_a_spreadsheet_is_given_texts_and_numbers_and_no_formula(cell, written):
    assert in_csv(cell) == written


def test_latex_prints_a_label_that_begins_as_an_argument():
    assert in_latex("[red]") == "{}[red]"
    assert in_latex("*star_{2}") == "{}*star\\_\\{2\\}"


def rows(label: str) -> list[Scores]:
    score = Score(key="clip_i", value=0.5, n=3, definition="a cosine", note=label)
    return [
        Scores(label, (score,), "editor", 3, 3),
        Scores("theirs", (replace(score, note=None),), "editor", 5, 3),
    ]


def test_a_table_of_odd_labels_keeps_its_rows_and_columns_everywhere():
    differences = [Difference(ODD, ODD, (Score(key="clip_i", value=0.1, n=3),), 3)]
    markdown = to_markdown(rows(ODD), differences)
    tables = [part.splitlines() for part in markdown.split("\n\n")]
    for table in tables[:2]:
        columns = {len(re.findall(r"(?<!\\)\|", line)) for line in table}
        assert len(columns) == 1
    assert not re.search(r"(?<!\\)[<\[`]", tables[0][2].split(" | ")[0])
    latex = to_latex(rows(ODD)).splitlines()
    shown = [line for line in latex if not line.startswith("% ")]
    assert len(shown) == 8 + 2  # two rows, headings, rules, the end; N, below a rule
    assert len(latex) > len(shown)  # what N and the spreads are
    assert "\\input" not in "\n".join(shown)
    written = to_csv({ODD: rows("=cmd|x")})
    first = next(csv.DictReader(io.StringIO(written)))
    assert (first["label"], first["note"], first["value"]) == ("'=cmd|x", "'=cmd|x", "0.5")
    for text in (markdown, to_latex(rows(ODD)), written):
        assert all(map(is_plain_line, text.split("\n")))
