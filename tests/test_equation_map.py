"""Every row of docs/paper.md names a file that says what the row says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGE = (ROOT / "docs" / "paper.md").read_text()


def rows(title: str) -> list[list[str]]:
    table = PAGE.split(f"## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


EQUATIONS = rows("The paper's equations, and where they are")
CHOICES = rows("Choices the paper leaves open")


def cited_equations(text: str) -> set[int]:
    """Read `Eq. 5`, `Eqs. 12-16`, `Eqs. 1, 2`, `Eqs. 6 to 8` as the numbers they mean."""
    found: set[int] = set()
    for group in re.findall(r"Eqs?\. ([\d, \-]+(?:(?:to|and) \d+)?)", text):
        for part in re.findall(r"(\d+)(?:\s*(?:-|to)\s*(\d+))?", group):
            first, last = int(part[0]), int(part[1] or part[0])
            found |= set(range(first, last + 1))
    return found


@pytest.mark.parametrize("row", EQUATIONS, ids=lambda row: f"{row[0]} {row[2]}")
def test_every_equation_row_names_a_file_that_cites_it_and_defines_its_name(row):
    equation, _, names, file = row
    text = (ROOT / file).read_text()
    if equation.startswith("Eq."):
        assert int(equation.removeprefix("Eq. ")) in cited_equations(text)
    else:
        assert equation in text
    for name in re.findall(r"`(\w+)`", names):
        assert re.search(rf"^(?:def|class) {name}\b|^{name} =", text, re.MULTILINE), name


def test_the_table_holds_every_equation_of_the_paper():
    numbers = {int(row[0].removeprefix("Eq. ")) for row in EQUATIONS if row[0].startswith("Eq.")}
    assert numbers == set(range(1, 17))


@pytest.mark.parametrize("row", CHOICES, ids=lambda row: f"choice {row[0]}")
def test_every_choice_stands_in_the_file_that_settles_it(row):
    number, _, file = row
    assert re.search(rf"[Cc]hoices? (\d+, )*{number}\b", (ROOT / file).read_text())


def test_every_choice_that_the_code_names_is_listed():
    named = set()
    for path in (ROOT / "ric").rglob("*.py"):
        for numbers in re.findall(r"[Cc]hoices? (\d+(?:(?:, | and )\d+)*)", path.read_text()):
            named |= set(map(int, re.findall(r"\d+", numbers)))
    assert [int(row[0]) for row in CHOICES] == sorted(named)


def test_the_readme_names_only_files_that_exist_and_has_at_most_200_lines():
    for path in re.findall(r"\b(?:ric|ric_cli|tests|docs|benchmarks)/[\w/]+\.(?:py|md)", README):
        assert (ROOT / path).exists(), path
    assert len(README.splitlines()) <= 200


def test_equation_citations_are_read_in_every_form_that_is_used():
    assert cited_equations("Eqs. 12-16") == {12, 13, 14, 15, 16}
    assert cited_equations("Eqs. 6, 7") == {6, 7}
    assert cited_equations("Eqs. 1 and 2 ; Eq. 11") == {1, 2, 11}
    assert cited_equations("Eqs. 8 to 10") == {8, 9, 10}
