"""The questions that `ric eval --judge` asks, and the prompts that ask them.

A judge sees the source and the edit, or the edit alone, and grades parts of it. The parts and their
ranges are those of VIEScore (Ku et al. 2023, arXiv 2312.14867) and ImgEdit (Ye et al. 2025, arXiv
2505.20275); the words are ric's own, so that figures are not those of either paper.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ric.data.text_tables import whole_text
from ric.describers.prompt import PLACE
from ric.errors import RicError
from ric.metric_table import metrics_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ric.config import EvalConfig

# in a prompt, what says which picture is which: "first" or "second"
SOURCE, EDITED = "{source}", "{edited}"
SUFFIX = ".txt"

SEMANTICS_PROMPT = """\
Two pictures are shown. The {source} picture is a photo before an edit, the {edited} picture the \
same photo after it. The edit was to carry out this instruction: "{edit_prompt}"

Give two grades, each a whole number from 0 to 10:
1. Success: how far the edited picture shows what the instruction asks for. 0: nothing of it; 10: \
all of it, exactly.
2. Restraint: how far everything that the instruction does not concern is as it was before. 0: it \
is another picture; 10: nothing else has changed.

Compare the two pictures first. Then answer with one line of JSON and nothing after it, the grades \
in this order: {"reasoning": "one or two sentences", "score": [success, restraint]}"""

QUALITY_PROMPT = """\
The picture was made or changed by a computer. Judge only how it looks, whatever it shows.

Give two grades, each a whole number from 0 to 10:
1. Naturalness: whether it could be a real photo, in its light, shadows, distances and sense of \
place. 0: it is plainly impossible; 10: nothing gives it away.
2. Cleanness: whether it is free of traces of the computer, such as blur, seams, noise, smears, \
and faces, hands or things that are out of shape. 0: they are everywhere; 10: there are none.

Answer with one line of JSON and nothing after it, the grades in this order: \
{"reasoning": "one or two sentences", "score": [naturalness, cleanness]}"""

IMGEDIT_PROMPT = """\
Two pictures are shown. The {source} picture is a photo before an edit, the {edited} picture the \
same photo after it. The edit was to carry out this instruction: "{edit_prompt}"

Give three grades, each a whole number from 1, very bad, to 5, perfect:
1. Compliance: the right thing was changed, in the way that was asked for, and nothing else.
2. Seamlessness: the change belongs to the picture in style, colour and sharpness, without visible \
borders.
3. Plausibility: light, shadows, reflections, contacts and details are right, and what had to stay \
is intact.
An edit that does not do what was asked for cannot be saved by its looks: neither the second nor \
the third grade is above the first.

Answer with one line of JSON and nothing after it, the grades in this order: \
{"reasoning": "one or two sentences", "score": [compliance, seamlessness, plausibility]}"""


class Question(NamedTuple):
    """A question about an edit.

    Attributes:
        prompt: ric's own words.
        grades: How many grades the answer holds.
        least: The lowest grade.
        most: The highest one.
        shows_source: Whether the source is shown beside the edit, and the instruction told.
    """

    prompt: str
    grades: int
    least: int
    most: int
    shows_source: bool


QUESTIONS = {
    "vie_semantics": Question(SEMANTICS_PROMPT, 2, 0, 10, shows_source=True),
    "vie_quality": Question(QUALITY_PROMPT, 2, 0, 10, shows_source=False),
    "imgedit": Question(IMGEDIT_PROMPT, 3, 1, 5, shows_source=True),
}
# the questions whose answers a metric is computed from
ASKED_FOR = {
    "vie_semantics": ("vie_semantics",),
    "vie_quality": ("vie_quality",),
    "vie_overall": ("vie_semantics", "vie_quality"),
    "imgedit": ("imgedit",),
}


def questions_of(config: EvalConfig) -> tuple[str, ...]:
    """List the questions that the metrics of `ric eval` need, each once."""
    asked = {one for name in metrics_of(config) for one in ASKED_FOR.get(name, ())}
    return tuple(name for name in QUESTIONS if name in asked)


def judge_prompts_of(config: EvalConfig) -> dict[str, str]:
    """Return the prompt of each question; `QUESTION-TYPE` is that for one type of edit.

    Raises:
        RicError: a file of `--judge-prompts` cannot be read, is empty, is named after no question,
            or lacks a place that is to be filled; or `--judge-swap` would do nothing.
    """
    asked = questions_of(config)
    if config.judge_swap and not any(QUESTIONS[name].shows_source for name in asked):
        raise RicError(
            "--judge-swap has nothing to swap: the judge sees the edit alone.",
            "Omit it, or ask about pairs: --metrics vie,imgedit",
        )
    prompts = {name: QUESTIONS[name].prompt for name in asked}
    if config.judge_prompts is not None:
        own = _read_folder(Path(config.judge_prompts))
        prompts |= {name: text for name, text in own.items() if question_of(name) in asked}
    for name, text in prompts.items():
        _refuse_without_places(name, text, config)
    return prompts


def question_of(name: str) -> str:
    """Return the question of a prompt's name: `imgedit` for `imgedit-style`."""
    return name.partition("-")[0]


def prompt_name(question: str, editing_type: str | None, prompts: Mapping[str, str]) -> str:
    """Return the name of the prompt that asks about an edit of a type."""
    of_type = f"{question}-{editing_type}"
    return of_type if of_type in prompts else question


def _read_folder(folder: Path) -> dict[str, str]:
    if not folder.is_dir():
        raise RicError(
            f"--judge-prompts: there is no folder '{folder}'.",
            f"It holds {', '.join(f'{name}{SUFFIX}' for name in QUESTIONS)}, or some of them.",
        )
    found: dict[str, str] = {}
    for file in sorted(folder.glob(f"*{SUFFIX}")):
        if question_of(file.stem) not in QUESTIONS:
            raise RicError(
                f"'{file}' is the prompt of no question.",
                f"Name it after one of {', '.join(QUESTIONS)}, or as imgedit-TYPE{SUFFIX}.",
            )
        if not (text := whole_text(file).strip()):
            raise RicError(f"{file}, a prompt, is empty.")
        found[file.stem] = text
    if not found:
        raise RicError(f"'{folder}' holds no prompt: no file there ends in {SUFFIX}.")
    return found


def _refuse_without_places(name: str, text: str, config: EvalConfig) -> None:
    """Refuse a prompt that cannot be filled as it must be (raises RicError)."""
    if not QUESTIONS[question_of(name)].shows_source:
        return
    if PLACE not in text:
        raise RicError(
            f"The prompt {name} has no place for the instruction.",
            f"Write {PLACE} where it belongs.",
        )
    if config.judge_swap and not (SOURCE in text and EDITED in text):
        raise RicError(
            f"The prompt {name} does not say which picture is which, so that --judge-swap would"
            " mislead the judge.",
            f"Write {SOURCE} and {EDITED}, which become 'first' and 'second': the {SOURCE} picture"
            " is the original.",
        )
