"""The key of a human study, and its voters' answers: read, checked and joined.

The page of `ric report --study` knows pairs by their place alone. Its answers name the study by the
hash of what the page shows, and the key says which editor stood on which side.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from ric.errors import RicError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

KEY_SUFFIX = ".key.json"
CHOICES = ("a", "b", "none")  # and null where a pair was passed over
LARGEST = 4_000_000  # bytes of a key or of answers; 200 pairs take 40 thousand


class KeyPair(NamedTuple):
    """A pair of a study: the sample, its photo, and the editors on sides A and B."""

    sample: str
    photo: str
    a: str
    b: str


class StudyKey(NamedTuple):
    """The part of a study that its page does not tell.

    Attributes:
        study: The hash of what the page shows.
        editors: Their labels, in the order of the runs.
        pairs: In the order of the page.
    """

    study: str
    editors: list[str]
    pairs: list[KeyPair]


class Vote(NamedTuple):
    """One answer: who gave it, on which photo, between whom, and the winner or None."""

    voter: str
    photo: str
    editors: tuple[str, str]
    winner: str | None


class Votes(NamedTuple):
    """All answers to a study.

    Attributes:
        votes: One for each pair that a voter has judged.
        voters: How many voters there are.
        unanswered: How many pairs voters have passed over.
        notes: A line for each file that does not count, or not again.
    """

    votes: list[Vote]
    voters: int
    unanswered: int
    notes: list[str]


class _Answers(NamedTuple):
    name: str
    voter: str
    saved: datetime
    answers: list[str | None]


def read_key(file: Path) -> StudyKey:
    """Read the key of a study.

    Raises:
        RicError: it is missing or is no key.
    """
    hint = "Name the key that was written with the study's page: --key FILE"
    if not file.is_file():
        raise RicError(f"No key of a study at {file}.", hint)
    try:
        told = _read_json(file)
        pairs = [
            KeyPair(*(_text(pair[name]) for name in ("sample", "photo", "a", "b")))
            for pair in told["pairs"]
        ]
        key = StudyKey(_text(told["study"]), [_text(one) for one in told["editors"]], pairs)
        known = set(key.editors)
        if any(pair.a == pair.b or not {pair.a, pair.b} <= known for pair in pairs):
            raise ValueError("a pair is not of two of its editors")
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise RicError(f"{file} is no key of a study.", hint) from None
    return key


def read_votes(places: Sequence[Path], key: StudyKey) -> Votes:
    """Read answers to a study; of the files of one voter the one that was saved last counts.

    Files that cannot be read, or that answer another study, become notes.

    Args:
        places: Files of answers, or folders of such.
        key: The study's.

    Raises:
        RicError: there are no files, or none of them can be used: the first one's fault.
    """
    refused: list[RicError] = []
    notes: list[str] = []
    by_voter: dict[str, _Answers] = {}
    for file in _files(places):
        try:
            found = _read_answers(file, key)
        except RicError as error:
            refused.append(error)
            continue
        other = by_voter.get(found.voter)
        if other is None:
            by_voter[found.voter] = found
            continue
        older, newer = sorted((other, found), key=lambda one: one.saved)
        by_voter[found.voter] = newer
        if other.answers == found.answers:
            notes.append(f"{found.name} repeats the answers of {other.name}, and counts once.")
        else:
            notes.append(
                f"{older.name} does not count: its voter has saved {newer.name}"
                f"{' later' if older.saved < newer.saved else ', too'}."
            )
    if not by_voter and refused:
        raise refused[0]
    notes += [f"{error.message} {error.hint}." for error in refused]
    votes = [
        _vote(answers.voter, pair, choice)
        for answers in by_voter.values()
        for pair, choice in zip(key.pairs, answers.answers, strict=True)
        if choice is not None
    ]
    passed_over = len(by_voter) * len(key.pairs) - len(votes)
    return Votes(votes, len(by_voter), passed_over, notes)


def _files(places: Sequence[Path]) -> list[Path]:
    """List files of answers: those named, and all of folders but keys."""
    files: list[Path] = []
    for place in places:
        if not place.is_dir():
            files.append(place)
            continue
        held = sorted(file for file in place.glob("*.json") if not file.name.endswith(KEY_SUFFIX))
        if not held:
            raise RicError(f"{place} has no answers: no JSON file.", "Name files: --votes FILE")
        files += held
    return files


def _read_answers(file: Path, key: StudyKey) -> _Answers:
    """Read one voter's answers (raises RicError)."""
    if not file.is_file():
        raise RicError(f"No answers at {file}.", "Name the file that the study's page saved")
    try:
        told = _read_json(file)
        study, voter = _text(told["study"]), _text(told["voter"])
        saved = datetime.fromisoformat(_text(told["saved"]))
        if saved.tzinfo is None:
            raise ValueError("saved has no time zone")
        answers = told["answers"]
        if study == key.study:  # of another study there may be another number
            _check_choices(answers, len(key.pairs))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RicError(
            f"{file} holds no answers to a study: {_fault(error)}.",
            "Save them again on the study's page",
        ) from None
    if study != key.study:
        raise RicError(
            f"{file} answers study {study[:8]}, and the key is that of {key.study[:8]}.",
            "Name the key that was written with its page: --key FILE",
        )
    return _Answers(str(file), voter, saved, answers)


def _read_json(file: Path) -> dict[str, Any]:
    if file.stat().st_size > LARGEST:
        raise ValueError(f"it is larger than {LARGEST // 1_000_000} MB")
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        raise ValueError("it is not JSON") from None
    if not isinstance(told, dict):
        raise ValueError("it is no JSON object")
    return told


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError("a text is missing")
    return value


def _check_choices(answers: object, count: int) -> None:
    if not isinstance(answers, list) or len(answers) != count:
        raise ValueError(f"answers is no list of {count}")
    for place, answer in enumerate(answers, 1):
        if answer is not None and answer not in CHOICES:
            raise ValueError(f"answer {place} is none of a, b, none and null")


def _fault(error: Exception) -> str:
    """Say in words what is wrong with a file."""
    if isinstance(error, KeyError):
        return f"it has no {error.args[0]!r}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return str(error)


def _vote(voter: str, pair: KeyPair, choice: str) -> Vote:
    winner = {"a": pair.a, "b": pair.b}.get(choice)
    return Vote(voter, pair.photo, (pair.a, pair.b), winner)
