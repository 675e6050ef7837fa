"""Texts that name a wrong attribute: a sample's own text with one word of it changed.

Choice 22: with `--attribute-negatives`, such a text is a further negative of the sample's picture
in Eq. 11: of "a small red ball" it may be "a small green ball". In a batch the other texts differ
in many words, so a judge can tell them apart without ever looking at a colour (Yuksekgonul et al.
2023, who change captions likewise). A text without a word of the table has no such negative.
"""

from __future__ import annotations

import random
import re

# each word may stand in the place of each other of its row; a plural's number is not mended
ATTRIBUTES = tuple(
    row.split()
    for row in (
        "red orange yellow green blue purple pink brown black white grey",
        "small large",
        "tiny huge",
        "short tall",
        "glossy matte",
        "wooden metal glass stone",
        "two three four five six",
        "left right",
        "above below",
        "before behind",
        "open closed",
        "young old",
    )
)
_ROW_OF = {word: row for row in ATTRIBUTES for word in row}
_WORD = re.compile(r"\b(" + "|".join(_ROW_OF) + r")\b", re.IGNORECASE)


def wrong_text(text: str, seed: int, name: str) -> str | None:
    """Return a text with one attribute replaced by another of its kind; None if it has none.

    Args:
        text: What a picture shows.
        seed: The fit's; with the name it decides which word is replaced by which.
        name: The sample's id.
    """
    found = list(_WORD.finditer(text))
    if not found:
        return None
    draw = random.Random(f"{seed} {name}")
    place = draw.choice(found)
    right = place.group()
    wrong = draw.choice([word for word in _ROW_OF[right.lower()] if word != right.lower()])
    if right[0].isupper():
        wrong = wrong.capitalize()
    return text[: place.start()] + wrong + text[place.end() :]
