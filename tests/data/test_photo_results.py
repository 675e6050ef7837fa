"""What results are called, and that they overwrite neither photos nor each other."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ric.config import EditConfig
from ric.data.photo_results import refuse_existing, result_format, result_name
from ric.data.photos import find_photos
from ric.errors import RicError


def put(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(folder / name, format="PNG")
    return folder


def look(data: Path, out: Path, **settings: Any) -> list[str]:
    config = EditConfig(data=str(data), out=str(out), instruction="x", **settings)
    return [photo.name for photo in find_photos(config)]


@pytest.mark.parametrize(
    ("name", "held", "wanted", "result"),
    [
        ("dog.JPG", "JPEG", None, "dog.JPG"),
        ("dog.jpg", "JPEG", "png", "dog.png"),
        ("a/dog.v2.jpeg", "JPEG", "webp", "a/dog.v2.webp"),
        ("dog.jpeg", "JPEG", "jpg", "dog.jpeg"),
        ("dog.png", "WEBP", None, "dog.png.webp"),  # mislabelled
        ("dog.gif", "GIF", None, "dog.gif.png"),  # not written
        ("dog.heic", "HEIF", None, "dog.heic.png"),
        ("dog.tif", "TIFF", None, "dog.tif"),
    ],
)
def test_a_result_keeps_its_photos_name_and_format_unless_another_is_asked_for(
    name, held, wanted, result
):
    assert result_name(name, result_format(held, wanted), wanted) == result


def test_a_tree_is_mirrored_and_several_folders_stay_apart(tmp_path):
    put(tmp_path / "one", "cat.jpg", "deep/dog.jpg")
    put(tmp_path / "two", "cat.jpg")
    out, deep = tmp_path / "out", {"recursive": True}
    assert look(tmp_path / "one", out, **deep) == ["cat.jpg", "deep/dog.jpg"]
    assert look(tmp_path / "one", out, also=(str(tmp_path / "two"),), **deep) == [
        "one/cat.jpg", "one/deep/dog.jpg", "two/cat.jpg",
    ]  # fmt: skip


@pytest.mark.parametrize("out", ["photos", "photos/out", "linked/out"])
def test_an_out_folder_inside_the_photos_is_refused(tmp_path, out):
    put(tmp_path / "photos", "cat.jpg")
    (tmp_path / "linked").symlink_to(tmp_path / "photos")
    with pytest.raises(RicError, match=r"lies in .*photos, which is edited") as caught:
        look(tmp_path / "photos", tmp_path / out)
    assert caught.value.hint == "Name a folder beside it."


def test_an_out_folder_that_would_overwrite_a_single_photo_is_refused(tmp_path):
    put(tmp_path, "cat.jpg")
    with pytest.raises(RicError, match=r"would overwrite the photo '.*cat\.jpg'"):
        look(tmp_path / "cat.jpg", tmp_path)
    assert look(tmp_path / "cat.jpg", tmp_path, format="png") == ["cat.jpg"]


@pytest.mark.parametrize(
    ("names", "settings"),
    [
        (("a/cat.jpg", "b/cat.jpg"), {}),
        (("a/cat.jpg", "a/cat.png"), {"format": "webp"}),
    ],
)
def test_two_photos_that_would_become_one_file_are_refused(tmp_path, names, settings):
    put(tmp_path, *names)
    first, second = (str(tmp_path / name) for name in names)
    with pytest.raises(RicError, match=f"'{first}' and '{second}' would both become") as caught:
        look(Path(first), tmp_path / "out", also=(second,), **settings)
    assert "two folders" in caught.value.hint


def test_files_that_are_there_already_are_never_overwritten(tmp_path):
    put(tmp_path / "out", "deep/cat.png")
    config = EditConfig(data="in", out=str(tmp_path / "out"), format="png")
    refuse_existing(config, ["cat.jpg", "deep/dog.jpg"])
    with pytest.raises(RicError, match=r"1 of the results' files are in .*deep/cat\.png"):
        refuse_existing(config, ["cat.jpg", "deep/cat.jpg"])


def test_an_out_that_is_a_file_is_refused(tmp_path):
    put(tmp_path, "in/cat.jpg", "file.png")
    with pytest.raises(RicError, match=r"file\.png' is not a folder"):
        look(tmp_path / "in", tmp_path / "file.png" / "out")


def test_an_out_with_a_file_in_the_way_of_a_folder_is_refused(tmp_path):
    put(tmp_path, "in/cat.jpg", "in/trips/north/dog.jpg", "out/trips")
    with pytest.raises(RicError, match=r"out/trips' is not a folder") as caught:
        look(tmp_path / "in", tmp_path / "out", recursive=True)
    assert caught.value.hint == "Name another folder."
    assert look(tmp_path / "in", tmp_path / "out") == ["cat.jpg"]


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder that not even root can write to."""
    folder = tmp_path / "read-only"
    folder.mkdir(mode=0o555)
    if os.geteuid() != 0:
        yield folder
        return
    mount = ["mount", "-t", "tmpfs", "-o", "ro,size=64k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small tmpfs cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_an_out_that_cannot_be_written_to_is_refused_before_anything_is_edited(tmp_path, read_only):
    put(tmp_path, "in/cat.jpg")
    for out in (read_only, read_only / "new"):
        with pytest.raises(RicError, match=f"'{read_only}' cannot be written to"):
            look(tmp_path / "in", out)


@pytest.mark.parametrize(
    "settings",
    [{"out": "o"}, {"format": "png"}, {"quality": 9}, {"recursive": True}, {"also": ("x",)}],
)
def test_settings_of_photos_are_refused_for_a_dataset(tmp_path, settings):
    (tmp_path / "metadata.jsonl").write_text("")
    with pytest.raises(RicError, match=r"with photos|neither a photo|is not there"):
        find_photos(EditConfig(data=str(tmp_path), **settings))
