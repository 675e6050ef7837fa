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
        (("a.jpg", "lost.jpg"), "Error: There is no file 'lost.jpg', and it does not look like an"),
        (("a.jpg", "lost.jpg", "night"), "Error: There is no photo 'lost.jpg'.\n"),
        (("a.jpg", "mine.py", "night"), "Error: 'mine.py' is neither a photo nor a folder"),
        (("scenes:9@64", "b.jpg", "night"), "Error: 'scenes:9@64' is not there.\n"),
        (("a.jpg", ""), "Error: a.jpg needs an instruction.\n"),
        (("a.jpg", "night", "--mask", "lost.png"), "Error: --mask lost.png: there is no such file"),
        (("a.jpg", "--instruction", " "), "Error: a.jpg needs an instruction.\n"),
        (("a.jpg", "night", "--seeds", "1,x"), "Error: --seeds 1,x: it is not a list of whole"),
        (("a.jpg", "--instruction", "x", "--editor", "none"), "Error: --editor none reads no ins"),
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


def test_a_repeated_command_finds_its_run_by_out_and_another_one_overwrites_nothing(ric, tmp_path):
    words = ("more", "make it night", "--out", "made", "--editor", "none")
    few = ("--preset", "tiny", "--device", "cpu")
    said = ric("edit", *words, *few)
    assert (said.code, said.out) == (0, "made\n"), said.err
    Image.new("RGB", (64, 64), (9, 9, 9)).save(tmp_path / "more/d.png")
    said = ric("edit", *words, *few)
    assert said.code == 0, said.err
    assert "1 kept, 1 new" in said.err
    assert [path.name for path in (tmp_path / "runs").glob("0*")] == ["00001-edit"]
    assert "2 kept\n" in ric("edit", *words, *few).err
    # other photos go there, too, in a run of their own; the same names do not
    assert ric("edit", "a.jpg", *words[1:], *few).code == 0
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "made").iterdir()}
    said = ric("edit", *words, *few, "--format", "png")
    assert said.code == 1
    assert "2 of the results' files are in made already" in said.err
    assert "--overwrite" in said.err
    assert {file: file.stat().st_mtime_ns for file in before} == before
    said = ric("edit", *words, *few, "--format", "png", "--overwrite")
    assert said.code == 0, said.err
    kept = [file.name for file, then in before.items() if file.stat().st_mtime_ns == then]
    assert kept == ["a.jpg"]


def test_instructions_seeds_and_ids_are_typed_as_the_help_says(ric, tmp_path, tiny_family):
    few = ("--preset", "tiny", "--device", "cpu", "--steps", 1, "--run", "mine")
    words = ("a.jpg", "make it night", "--instruction", "add snow", "--seeds", "0,1")
    said = ric("edit", *words, *few)
    assert said.code == 0, said.err
    lines = (tmp_path / "mine/edits.jsonl").read_text().splitlines()
    ids = [json.loads(line)["id"] for line in lines]
    assert json.loads(ric("edit", *words, *few, "--dry-run", "--json").out)["data"]["samples"] == 4
    texts = ("make-it-night", "add-snow")
    assert ids == [f"a_{text}_seed{seed}" for text in texts for seed in (0, 1)]
    again = ric("edit", *words, *few, "--redo", ids[0], "--redo", ids[3])
    assert "2 kept, 2 asked for again" in again.err, again.err
