"""Several instructions and seeds for photos: which edits there are, and what they are called."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ric.config import EditConfig
from ric.data.photo_instructions import Oddities
from ric.data.photos import Photo, find_photos
from ric.errors import RicError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("cat.jpg", "dog.png", "deep/cat.jpg"):
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(file)
    return tmp_path / "photos"


def look(data: Path, odd: Oddities | None = None, **settings: Any) -> list[Photo]:
    config = EditConfig(data=str(data), **{"recursive": True, **settings})
    return find_photos(config, odd=odd)


def told(found: list[Photo]) -> list[tuple[str, str | None, int | None]]:
    return [(photo.id, photo.instruction, photo.seed) for photo in found]


def test_one_instruction_and_no_seeds_leave_the_photos_their_names(photos):
    assert told(look(photos, instruction="make it night")) == told(
        look(photos, more_instructions=("make it night", "make it night "))
    )
    found = look(photos, instruction="make it night")
    assert told(found) == [(name, "make it night", None) for name in ("cat", "deep/cat", "dog")]
    assert [photo.result for photo in found] == ["cat.jpg", "deep/cat.jpg", "dog.png"]


def test_several_instructions_and_seeds_are_an_edit_each_named_by_both(photos):
    found = look(photos / "dog.png", instruction="Make it night!", more_instructions=("snow",))
    assert told(found) == [
        ("dog_make-it-night", "Make it night!", None),
        ("dog_snow", "snow", None),
    ]
    found = look(photos / "dog.png", instruction="snow", seeds="0, 7")
    assert told(found) == [("dog_seed0", "snow", 0), ("dog_seed7", "snow", 7)]
    found = look(photos, more_instructions=("night", "snow"), seeds="1,2")
    assert len({photo.id for photo in found}) == len(found) == 12
    assert found[4].result == "deep/cat_night_seed1.jpg"


def test_instructions_that_read_alike_in_a_name_are_told_apart(photos):
    long = "turn the small red ball beside the old tree into a "
    alike = ("Snow", "snow!", long + "cube", long + "cone", "雪", "夜")
    found = look(photos / "dog.png", more_instructions=alike)
    assert len({photo.id for photo in found}) == len({photo.result for photo in found}) == 6
    assert all(len(photo.id) < 60 and photo.id.isascii() for photo in found)
    # a photo that is already called so keeps its name
    Image.new("L", (8, 8)).save(photos / "dog_snow.png")
    names = [photo.id for photo in look(photos, more_instructions=("snow", "night"))]
    assert len(set(names)) == len(names) == 8


def test_a_text_file_holds_an_instruction_a_line_for_every_photo(photos, tmp_path):
    (tmp_path / "todo.txt").write_text("\ufeffmake it night\r\n\n  add snow \n", "utf-8")
    found = look(photos, instructions=str(tmp_path / "todo.txt"))
    assert [photo.instruction for photo in found] == ["make it night", "add snow"] * 3
    (tmp_path / "empty.txt").write_text("\n\n")
    with pytest.raises(RicError, match=r"empty\.txt' holds no instruction"):
        look(photos, instructions=str(tmp_path / "empty.txt"))


def test_a_csv_names_photos_and_rows_that_cannot_be_used_are_failures(photos, tmp_path):
    file = tmp_path / "todo.csv"
    file.write_text(
        "file,instruction\ndog.png,night\ndog.png,snow\ndeep/cat.jpg,rain\nlost.jpg,sun\ncat.jpg,\n"
    )
    odd = Oddities()
    found = look(photos, odd, instructions=str(file))
    assert told(found) == [
        ("deep/cat", "rain", None), ("dog_night", "night", None), ("dog_snow", "snow", None),
    ]  # fmt: skip
    assert [(error.sample_id, error.reason) for error in odd.failures] == [
        ("todo.csv:5", "It names 'lost.jpg', which is not among the photos, or there are several."),
        ("todo.csv:6", "It has no instruction for 'cat.jpg'."),
    ]
    assert odd.notes == [f"1 of 3 photos have no row in {file}, and are left out"]
    # with another instruction for all
    found = look(photos, instruction="day", instructions=str(file))
    assert [photo.id for photo in found] == [
        "cat", "deep/cat_day", "deep/cat_rain", "dog_day", "dog_night", "dog_snow",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seeds": "1,x"}, "--seeds 1,x: it is not a list of whole numbers"),
        ({"seeds": "-1"}, "--seeds -1: it is not a list of whole numbers"),
        ({"seeds": "1,,2"}, "it is not a list of whole numbers"),
        ({"seeds": "9" * 19}, "it is not a list of whole numbers"),
        ({"seeds": "3,03"}, "--seeds 3,03 names a seed twice"),
        ({"instructions": "lost.txt"}, "lost.txt"),
        ({"instructions": "no-column.csv"}, "has the columns file, text"),
        ({"instructions": "other.csv"}, "No row of .*: other.csv:2: It names 'lost.jpg'"),
        ({"instruction": None, "more_instructions": (" ",)}, "needs an instruction"),
    ],
)
def test_what_cannot_be_read_is_one_error_before_anything_is_edited(
    photos, tmp_path, monkeypatch, settings, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "no-column.csv").write_text("file,text\ndog.png,snow\n")
    (tmp_path / "other.csv").write_text("file,instruction\nlost.jpg,snow\n")
    with pytest.raises(RicError, match=message):
        look(photos, **{"instruction": "x", **settings})


def test_a_limit_takes_the_first_photos_that_a_row_names_and_faults_no_other_row(photos, tmp_path):
    todo = _csv(tmp_path, "dog.png,snow", "deep/cat.jpg,sun", "deep/cat.jpg,rain")
    odd = Oddities()
    found = look(photos, odd, instructions=todo, limit=1)
    assert told(found) == [("deep/cat_sun", "sun", None), ("deep/cat_rain", "rain", None)]
    assert odd.failures == []
    # an edit's name does not depend on which photos have a row
    Image.new("L", (8, 8)).save(photos / "dog_snow.png")
    for rows in (["dog.png,snow", "dog.png,sun"], ["dog.png,snow", "dog.png,sun", "cat.jpg,sun"]):
        for limit in (1, None):
            names = [
                one.id for one in look(photos, instructions=_csv(tmp_path, *rows), limit=limit)
            ]
            assert "dog_snow" not in names


def test_two_edits_that_would_become_one_file_are_refused(photos, tmp_path):
    Image.new("L", (8, 8)).save(photos / "dog_snow.png")
    with pytest.raises(RicError, match="would both become"):
        look(
            photos,
            out=str(tmp_path / "out"),
            instructions=_csv(tmp_path, "dog.png,snow", "dog.png,sun", "dog_snow.png,sun"),
        )


def _csv(folder: Path, *lines: str) -> str:
    file = folder / "todo.csv"
    file.write_text("\n".join(["file,instruction", *lines, ""]))
    return str(file)


def test_listing_many_edits_takes_little_memory_each(tmp_path):
    for number in range(500):
        (tmp_path / f"p{number:05d}.png").touch()
    tracemalloc.start()
    found = look(
        tmp_path,
        out=str(tmp_path.with_name("out")),
        more_instructions=("night", "snow", "rain", "fog"),
        seeds="0,1",
    )
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == 4000
    # 800 MB for 100,000 photos of eight edits each
    assert most / len(found) < 1000
