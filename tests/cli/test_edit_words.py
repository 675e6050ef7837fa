"""`ric edit A.jpg B.jpg FOLDER "make it night"`: what is a photo, and what is the instruction."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def photos(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    for name in ("a.jpg", "b.jpg", "more/c.png"):
        Image.new("RGB", (64, 64), (200, 90, 30)).save(tmp_path / name)


def settings(ric, *words: object) -> tuple[str, list[str], str | None]:
    said = ric("edit", *words, "--preset", "tiny", "--dry-run", "--json")
    assert said.code == 0, said.out
    told = json.loads(said.out)["settings"]
    return told["data"], told["also"], told["instruction"]


def test_the_last_word_is_the_instruction_and_all_others_are_photos(ric):
    assert settings(ric, "a.jpg", "make it night") == ("a.jpg", [], "make it night")
    told = "remove the sign that says b.jpg"
    assert settings(ric, "a.jpg", told) == ("a.jpg", [], told)
    assert settings(ric, "a.jpg", "b.jpg", "more", "night") == ("a.jpg", ["b.jpg", "more"], "night")


def test_where_captions_are_typed_or_a_file_tells_all_words_are_photos(ric, tmp_path):
    captions = ("--editor", "cds", "--source-caption", "day", "--target-caption", "night")
    assert settings(ric, "a.jpg", "b.jpg", *captions) == ("a.jpg", ["b.jpg"], None)
    (tmp_path / "mine.yaml").write_text("instruction: make it night\n")
    found = settings(ric, "a.jpg", "more", "b.jpg", "--config", "mine.yaml")
    assert found == ("a.jpg", ["more", "b.jpg"], "make it night")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("a.jpg", "b.jpg"), "Error: a.jpg needs an instruction.\n"),
        (("a.jpg", "lost.jpg"), "Error: There is no file 'lost.jpg', and it is hardly an"),
        (("a.jpg", "lost.jpg", "night"), "Error: 'lost.jpg' is not there.\n"),
        (("a.jpg", "mine.py", "night"), "Error: 'mine.py' is neither a photo nor a folder"),
        (("scenes:9@64", "b.jpg", "night"), "Error: 'scenes:9@64' is not there.\n"),
        (("a.jpg", ""), "Error: a.jpg needs an instruction.\n"),
        (("a.jpg", "night", "--mask", "lost.png"), "Error: --mask lost.png: there is no such file"),
        (("more", "night", "--out", "more/out"), "Error: --out more/out lies in more, which is"),
    ],
)
def test_what_is_wrong_with_the_words_is_one_line_before_anything_is_loaded(
    ric, tmp_path, words, line
):
    (tmp_path / "mine.py").write_text("")
    said = ric("edit", *words, "--preset", "tiny")
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith(line)
    assert not (tmp_path / "runs").exists()


def test_photos_are_edited_into_a_folder_and_its_name_is_printed(ric, tmp_path, tiny_family):
    words = ("a.jpg", "more", "make it night", "--out", "made", "--format", "webp")
    said = ric("edit", *words, "--preset", "tiny", "--steps", 1, "--device", "cpu")
    assert (said.code, said.out) == (0, "made\n"), said.err
    made = sorted(str(file.relative_to(tmp_path)) for file in (tmp_path / "made").rglob("*.*"))
    assert made == ["made/a.webp", "made/more/c.webp"]
