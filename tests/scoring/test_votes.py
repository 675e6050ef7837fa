"""Answers to a study are joined with its key, and what is none of them is told in a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ric.errors import RicError
from ric.scoring.votes import read_key, read_votes

STUDY = "5" * 64
PAIRS = [("s0", "Ours", "Theirs"), ("s1", "Theirs", "Ours"), ("s2", "Ours", "Theirs")]
KEY = {
    "study": STUDY,
    "editors": ["Ours", "Theirs"],
    "pairs": [{"sample": name, "photo": name, "a": a, "b": b} for name, a, b in PAIRS],
}


@pytest.fixture
def key(tmp_path) -> Any:
    (tmp_path / "study.key.json").write_text(json.dumps(KEY))
    return read_key(tmp_path / "study.key.json")


def answer(
    file: Path,
    *answers: str | None,
    voter: str = "v",
    saved: str = "2026-01-02T03:04:05.678Z",
    study: str = STUDY,
) -> Path:
    told = {"study": study, "voter": voter, "saved": saved, "answers": answers}
    file.write_text(json.dumps(told))
    return file


def winners(votes: Any) -> list[str | None]:
    return [vote.winner for vote in votes.votes]


def test_a_choice_is_a_vote_for_who_stood_on_that_side(key, tmp_path):
    votes = read_votes([answer(tmp_path / "1.json", "a", "a", "none")], key)
    assert winners(votes) == ["Ours", "Theirs", None]
    assert [vote.photo for vote in votes.votes] == ["s0", "s1", "s2"]
    assert (votes.voters, votes.unanswered, votes.notes) == (1, 0, [])


def test_voters_add_up_and_pairs_that_were_passed_over_are_counted(key, tmp_path):
    files = [
        answer(tmp_path / "1.json", "a", None, "b", voter="one"),
        answer(tmp_path / "2.json", None, "b", None, voter="two"),
    ]
    votes = read_votes(files, key)
    assert winners(votes) == ["Ours", "Theirs", "Ours"]
    assert (votes.voters, votes.unanswered) == (2, 3)


def test_two_voters_of_one_mind_are_two(key, tmp_path):
    files = [answer(tmp_path / f"{name}.json", "a", "a", "a", voter=name) for name in "xy"]
    assert len(read_votes(files, key).votes) == 6


def test_a_repeated_file_counts_once_under_any_name(key, tmp_path):
    first, again = (answer(tmp_path / name, "a", "b", "b") for name in ("1.json", "copy.json"))
    votes = read_votes([first, first, again], key)
    assert winners(votes) == ["Ours", "Ours", "Theirs"]
    assert votes.notes == [
        f"{first} repeats the answers of {first}, and counts once.",
        f"{again} repeats the answers of {first}, and counts once.",
    ]


@pytest.mark.parametrize("turned", [False, True])
def test_of_one_voters_files_the_last_saved_counts_in_any_order(key, tmp_path, turned):
    early = answer(tmp_path / "1.json", "a", None, None, saved="2026-01-02T03:04:05Z")
    # a later moment, though it is an earlier text
    late = answer(tmp_path / "2.json", "b", "a", None, saved="2026-01-02T02:34:05-01:00")
    votes = read_votes([late, early] if turned else [early, late], key)
    assert winners(votes) == ["Theirs", "Theirs"]
    assert votes.notes == [f"{early} does not count: its voter has saved {late} later."]


def test_a_folder_is_all_its_answers_and_not_its_key(key, tmp_path):
    for name in "xy":
        answer(tmp_path / f"{name}.json", "a", "a", "a", voter=name)
    assert read_votes([tmp_path], key).voters == 2
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(RicError, match="has no answers"):
        read_votes([empty], key)


def test_answers_to_another_study_are_refused_and_both_are_named(key, tmp_path):
    other = answer(tmp_path / "1.json", "a", study="7" * 64)
    with pytest.raises(RicError, match=r"answers study 77777777.*that of 55555555") as refused:
        read_votes([other], key)
    assert "--key FILE" in (refused.value.hint or "")


BAD = {
    "it is not JSON": "{",
    "it is no JSON object": "[]",
    "it has no 'study'": "{}",
    "a text is missing": json.dumps({"study": 5, "voter": "v"}),
    "answers is no list of 3": {"answers": ["a", "b"]},
    "answer 2 is none of a, b, none and null": {"answers": ["a", "Ours", "b"]},
    "answer 3 is none of": {"answers": ["a", "b", ["a"]]},
    "Invalid isoformat string": {"saved": "yesterday"},
    "saved has no time zone": {"saved": "2026-01-02T03:04:05"},
    "it has no 'answers'": {"answers": ...},
    "it is nested too deeply": "[" * 200_000,
}


@pytest.mark.parametrize("fault", BAD)
def test_a_malformed_file_is_told_in_a_line_and_the_others_count(key, tmp_path, fault):
    good = answer(tmp_path / "good.json", "a", "b", "none")
    bad = answer(tmp_path / "bad.json", "a", "b", "none", voter="w")
    content = BAD[fault]
    if isinstance(content, dict):
        told = json.loads(bad.read_text()) | content
        content = json.dumps({name: value for name, value in told.items() if value is not ...})
    bad.write_text(content)
    with pytest.raises(RicError, match=fault) as refused:
        read_votes([bad], key)
    assert refused.value.message.startswith(f"{bad} holds no answers to a study: ")
    assert "\n" not in refused.value.message
    assert refused.value.hint == "Save them again on the study's page"
    votes = read_votes([bad, good], key)
    assert winners(votes) == ["Ours", "Ours", None]
    assert votes.notes == [f"{refused.value.message} {refused.value.hint}."]


def test_a_picture_or_no_file_is_no_answers(key, tmp_path):
    (tmp_path / "picture.json").write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe")
    with pytest.raises(RicError, match="it is not JSON"):
        read_votes([tmp_path / "picture.json"], key)
    with pytest.raises(RicError, match="No answers at"):
        read_votes([tmp_path / "absent.json"], key)


@pytest.mark.parametrize(
    "change",
    [
        {"pairs": [{"sample": "s", "photo": "s", "a": "Ours", "b": "Ours"}]},
        {"pairs": [{"sample": "s", "photo": "s", "a": "Ours", "b": "Who"}]},
        {"pairs": [{"sample": "s", "a": "Ours", "b": "Theirs"}]},
        {"pairs": 3},
        {"study": None},
    ],
)
def test_what_is_no_key_is_refused(tmp_path, change):
    file = tmp_path / "study.key.json"
    file.write_text(json.dumps(KEY | change))
    with pytest.raises(RicError, match="is no key of a study") as refused:
        read_key(file)
    assert "--key FILE" in (refused.value.hint or "")
    with pytest.raises(RicError, match="No key of a study at"):
        read_key(tmp_path / "absent.key.json")
