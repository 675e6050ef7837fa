"""Classify an instruction by its verb as an addition, a removal or a change.

The verb that stands first decides. "Put", "place" and "draw" add only what is new: "put a ball" is
an addition, "put the ball behind the tree" a change.
"""

from __future__ import annotations

import re
from typing import Literal

Action = Literal["add", "change", "remove"]

NEW = (
    r"(?:an?|some|another|more|many|several|few|extra|one|two|three|four|five|six|seven|eight|nine"
    r"|ten|\d+)"
)
RULES: tuple[tuple[Action, str], ...] = (
    ("remove", r"(?:remov|eras|delet|eliminat)(?:es?|ed|ing)"),
    ("remove", r"(?:get(?:ting)?|gets) rid of"),
    ("remove", r"(?:take|taking|cut|edit|crop|photoshop) (?:[\w'-]+ )*?(?:away|out|off)"),
    ("add", r"(?:add|insert|includ)(?:s|es?|ed|ing)?"),
    ("add", rf"(?:put|place|draw|paint|hang|plant|have|there (?:should )?be) (?:in |on )?{NEW}"),
    (
        "change",
        r"(?:chang|replac|mak|turn|mov|swap|transform|convert|chang)(?:es?|s|ed|ing)?",
    ),
)
_RULES = [(action, re.compile(rf"\b{pattern}\b")) for action, pattern in RULES]


def action_of(instruction: str) -> Action:
    """Return what an instruction asks for; without a known verb it is a change."""
    text = re.sub(r"[^\w'-]+", " ", instruction.lower())
    found = [(match.start(), action) for action, rule in _RULES if (match := rule.search(text))]
    return min(found)[1] if found else "change"
