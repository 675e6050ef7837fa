"""Answers, and what makes one unusable: it is then asked for again, with another seed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ric.config import What


class Answer(NamedTuple):
    """A describer's answer.

    Attributes:
        text: As it was written.
        tokens: How many tokens were written; 0 where that is not known.
        ended: Whether it ended by itself, and not because it reached the most tokens.
    """

    text: str
    tokens: int = 0
    ended: bool = True


EMPTY, CUT = "empty", "cut off"
LIST, PARAGRAPHS, LOOP, REFUSAL = "list", "several paragraphs", "repeats itself", "refusal"
UNNAMED, STILL_NAMED = "names nothing of the instruction", "names what is to be removed"

REPEATS = 4  # so often in a row are words repeated by a loop
LONGEST_LOOP = 30  # words that are repeated together
SENTENCES = 3  # so often, anywhere, is a whole sentence repeated by a loop

_LIST_MARK = re.compile(
    r"^\s*(?:[-*+\u2022\u2013\u2014\u25cf\u25aa]|\d{1,2}[.)]|#{1,6})\s+\S", re.M
)
_REFUSAL = re.compile(
    r"^\W*(?:(?:i['\u2019]?m|i am) (?:very |so )?(?:sorry|afraid)\b|(?:very |so )?sorry\b"
    r"|(?:i|we) (?:can(?:not|['\u2019]t| not)|could(?:n['\u2019]t| not)|am (?:un|not )able"
    r"|are (?:un|not )able|won['\u2019]t|will not"
    r"|do(?:n['\u2019]t| not) (?:see|have) (?:an|any|the) (?:image|picture))"
    r"|(?:unfortunately,? )?as an? (?:ai|artificial|language|text|large)\b"
    r"|(?:unfortunately,? )(?:i|we) can)",
    re.I,
)


def fault_of(answer: Answer) -> str | None:
    """Name the first thing that makes an answer unusable; None if it is a single paragraph."""
    text = answer.text.strip()
    if not text:
        return EMPTY
    if _REFUSAL.match(text):
        return REFUSAL
    if repeats_itself(text):
        return LOOP
    if not answer.ended:
        return CUT
    if _LIST_MARK.search(text):
        return LIST
    if re.search(r"\n\s*\n", text):
        return PARAGRAPHS
    return None


def repeats_itself(text: str) -> bool:
    """Tell whether a text has fallen into a loop.

    Words are repeated four times in a row, however many together, or a whole sentence of four words
    or more stands in it three times.
    """
    words = re.findall(r"\w+", text.lower())
    for length in range(1, min(LONGEST_LOOP, len(words) // REPEATS) + 1):
        run = 0
        for before, after in zip(words, words[length:], strict=False):
            run = run + 1 if before == after else 0
            if run >= length * (REPEATS - 1):
                return True
    sentences = [" ".join(re.findall(r"\w+", one)) for one in re.split(r"[.!?]+", text.lower())]
    long = [one for one in sentences if one.count(" ") >= 3]
    return any(long.count(one) >= SENTENCES for one in set(long))


_REMOVAL = re.compile(
    r"^\W*(?:please )?(?:remove|delete|erase|get rid of|eliminate|take (?:away|out|off)"
    r"|take(?=\b.*\b(?:away|out|off)\b))\b",
    re.I,
)
_PLACE = re.compile(
    r"\b(?:from|in|on|at|of|to|near|behind|beside|under|above|below|between|with|that|which|who|and"
    r"|so|left|right)\b.*",
    re.I | re.S,
)
_SMALL = """
a an the this that these those it its his her their your my our some any all both one two three of
in on at to from with into onto by for and or as is are be was were there here so then than very
more make makes let change turn add put place replace remove delete erase take away out off get rid
please picture image photo background scene left right up down next near behind beside under above
below between front color colour
"""
_SMALL_WORDS = frozenset(_SMALL.split())


def note_on(text: str, what: What, instruction: str) -> str | None:
    """Say if a text about the edited picture does not fit its instruction: a note, no fault.

    It should name something of the instruction, and nothing that the instruction removes. Words are
    compared by their first letters, so that `balls` names a `ball`.

    Args:
        text: About the picture after the edit.
        what: Texts about the picture before the edit, and instructions, are not looked at.
        instruction: An imperative sentence; nothing is said about an empty one.
    """
    if what in ("source-caption", "explicit-instruction"):
        return None
    said = _words(text)
    if removal := _REMOVAL.match(instruction):
        thing = _PLACE.sub("", instruction[removal.end() :])
        # the last word of "the old red car" names the thing
        return STILL_NAMED if _names(said, _words(thing)[-1:]) else None
    asked = _words(instruction)
    return UNNAMED if asked and not _names(said, asked) else None


def _words(text: str) -> list[str]:
    return [word for word in re.findall(r"[^\W\d_]+", text.lower()) if word not in _SMALL_WORDS]


def _names(said: Sequence[str], words: Sequence[str]) -> bool:
    stems = {_stem(word) for word in words}
    return any(_stem(word) in stems for word in said)


def _stem(word: str) -> str:
    """Take a plural's ending off a word."""
    for ending in ("ies", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word.removesuffix(ending)
    return word.removesuffix("y").removesuffix("e") if len(word) > 3 else word
