"""The grades in a judge's answer, or what is wrong with it; and the scores that grades make.

A judge is told to end with `{"score": [7, 9]}`. Taken are also such a list alone, and lines that
end in a grade, `Compliance: 4`, which the published prompts of ImgEdit ask for. Nothing is guessed:
an answer with too few or too many grades, with one out of range, or with two different lists is
malformed.
"""

from __future__ import annotations

import re
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

from ric.describers.quality import CUT, EMPTY, LOOP, REFUSAL, fault_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ric.describers.quality import Answer
    from ric.scoring.judge_prompts import Question

    Grades = tuple[float, ...]

NO_GRADES, OTHER_COUNT = "no grades", "another number of grades"
OUT_OF_RANGE, SEVERAL = "a grade out of range", "several lists of grades"

_NUMBER = r"-?[0-9]{1,9}(?:\.[0-9]{1,9})?"
_LIST = re.compile(r"\bscores?\b[\"'*]{0,3}\s{0,9}[:=]\s{0,9}\[([^\[\]]*)\]", re.I)
_BARE_LIST = re.compile(r"\s*\[([^\[\]]*)\]\s*")
_LINE = re.compile(rf"[^A-Za-z]*[A-Za-z][^:]*:[\s*_]*({_NUMBER})[\s*_.]*")
_WHOLE_NUMBER = re.compile(_NUMBER)


def grades_of(answer: Answer, question: Question) -> Grades | str:
    """Return an answer's grades, as many as the question asks for, or name its fault."""
    found = _lists(answer.text)
    if len(found) > 1:
        return SEVERAL
    if not found:
        fault = fault_of(answer)
        return fault if fault in (EMPTY, REFUSAL, LOOP, CUT) else NO_GRADES
    (grades,) = found
    if len(grades) != question.grades:
        return OTHER_COUNT
    if not all(question.least <= grade <= question.most for grade in grades):
        return OUT_OF_RANGE
    return grades


def _lists(text: str) -> set[Grades]:
    """Find the different lists of grades in a text; a list of words, as in a format, is none."""
    told = [match[1] for match in _LIST.finditer(text)]
    if not told and (bare := _BARE_LIST.fullmatch(text)):
        told = [bare[1]]
    found = {numbers for one in told if (numbers := _numbers(one))}
    if not found:
        lines = (_LINE.fullmatch(line) for line in text.splitlines())
        grades = tuple(float(line[1]) for line in lines if line)
        found = {grades} if grades else set()
    return found


def _numbers(text: str) -> Grades:
    parts = [part.strip() for part in text.split(",")]
    if not all(map(_WHOLE_NUMBER.fullmatch, parts)):
        return ()
    return tuple(map(float, parts))


def lowest(grades: Sequence[float]) -> float:
    """Return VIEScore's score of one part: the lowest of its grades, so that each has a veto."""
    return float(min(grades))


def mean(grades: Sequence[float]) -> float:
    """Return ImgEdit's score: the mean of its grades."""
    return float(np.mean(grades))


SCORE_OF: dict[str, Callable[[Sequence[float]], float]] = {
    "vie_semantics": lowest,
    "vie_quality": lowest,
    "imgedit": mean,
}


def scores_of(answers: Mapping[str, float | None]) -> dict[str, float | None]:
    """Return every metric that follows from the scores of a sample's questions.

    VIEScore's overall score is the geometric mean of semantics and quality, and so is GEdit's (Liu
    et al. 2025, arXiv 2504.17761); where one of the two is missing, so is the overall score.
    """
    semantics, quality = answers.get("vie_semantics"), answers.get("vie_quality")
    if semantics is None or quality is None:
        return dict(answers)
    return {**answers, "vie_overall": sqrt(semantics * quality)}
