"""Escape others' text in tables and cards: shown literally, interpreted by no reader."""

from __future__ import annotations

import re
import unicodedata

from ric.plain_line import plain_line

_LATEX = {
    "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}",
    "↑": "$\\uparrow$", "↓": "$\\downarrow$", "±": "$\\pm$", "†": "$\\dagger$",
} | {character: f"\\{character}" for character in "&%$#_{}"}  # fmt: skip


def in_markdown(text: str) -> str:
    """Return text that Markdown renders literally: no markup, no HTML, no end of a cell."""
    return re.sub(r"([\\`*_\[\]<>|~]|&(?=[#\w]+;))", r"\\\1", plain_line(text))


def in_prose(text: str) -> str:
    """Return a sentence that Markdown renders without HTML, code or links from a label in it.

    Names of scores, such as `clip_i[tiny]`, stay readable in the file.
    """
    return re.sub(r"([\\`*<>~]|&(?=[#\w]+;)|(?<=\])\()", r"\\\1", plain_line(text))


def in_latex(text: str) -> str:
    """Return text that LaTeX prints literally, also at the start of a row."""
    escaped = "".join(_LATEX.get(character, character) for character in plain_line(text))
    # after a line break LaTeX would read these as its arguments
    return "{}" + escaped if escaped.startswith(("[", "*")) else escaped


def in_csv(value: object) -> object:
    """Return a cell that a spreadsheet does not evaluate: text that begins a formula is quoted.

    Numbers stay numbers.
    """
    if not isinstance(value, str):
        return value
    text = plain_line(value)
    # a full-width sign counts as well
    first = unicodedata.normalize("NFKC", text.lstrip())[:1]
    return f"'{text}" if first in tuple("=+-@") else text
