"""What a terminal would obey, and what breaks a line, is shown as an escape; all else stays."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from ric.plain_line import is_plain_line, plain_line

BIDI = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
MARKS = {"\u061c", "\u200e", "\u200f"}  # the rest of Unicode's Bidi_Control


def test_every_control_separator_and_bidi_mark_of_unicode_is_an_escape_and_nothing_else():
    for number in range(sys.maxunicode + 1):
        character = chr(number)
        odd = unicodedata.category(character) in {"Cc", "Zl", "Zp", "Cs"}
        odd = odd or unicodedata.bidirectional(character) in BIDI or character in MARKS
        assert is_plain_line(character) != odd, hex(number)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("\x9b2J", "\\x9b2J"),
        ("photo\u202egnp.exe", "photo\\u202egnp.exe"),
        ("menu\udce9", "menu\\udce9"),
        ("für 中 ± \U0001f468\u200d\U0001f373", "für 中 ± \U0001f468\u200d\U0001f373"),
    ],
)
def test_an_escape_tells_which_character_it_was(text, shown):
    assert plain_line(text) == shown
    assert is_plain_line(shown)
