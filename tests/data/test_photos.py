"""Photos as DATA: which files are photos, and what their results are called."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from ric.config import EditConfig
from ric.data.photos import find_photos
from ric.errors import RicError

PHOTOS = Path(__file__).parents[2].parent / "shared" / "data" / "photos"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / name, format="PNG")


def found(data: Path, **changes: object) -> list[tuple[str, str]]:
    config = EditConfig(data=str(data), **{"instruction": "make it night", **changes})
    return [(photo.id, photo.path.name) for photo in find_photos(config)]


def test_a_folders_photos_are_listed_by_name_whatever_the_case_of_their_ending(folder):
    put(folder, "b.JPG", "a.webp", "c.png", "d.tiff", "e.avif")
    (folder / "notes.txt").write_text("no photo")
    (folder / "album.png").mkdir()
    assert [name for _, name in found(folder)] == ["a.webp", "b.JPG", "c.png", "d.tiff", "e.avif"]


def test_one_file_is_one_photo(folder):
    put(folder, "dog.png", "cat.png")
    assert found(folder / "dog.png") == [("dog", "dog.png")]


def test_a_mask_beside_its_photo_is_never_a_photo(folder):
    put(folder, "dog.jpg", "dog_mask.png", "cat.png", "cat_mask.webp")
    assert found(folder) == [("cat", "cat.png"), ("dog", "dog.jpg")]


def test_a_photo_of_a_mask_is_a_photo(folder):
    put(folder, "gas_mask.jpg", "dog.png")
    assert found(folder) == [("dog", "dog.png"), ("gas_mask", "gas_mask.jpg")]


def test_a_photo_and_its_mask_may_have_their_names_in_two_normal_forms(folder):
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    put(folder, f"{apart}.jpg", f"{composed}_mask.png")
    assert found(folder) == [(composed, f"{apart}.jpg")]


def test_hidden_files_are_no_photos(folder):
    put(folder, "dog.jpg", "._dog.jpg", ".thumbnail.png")
    assert found(folder) == [("dog", "dog.jpg")]


def test_two_photos_of_one_stem_get_two_names(folder):
    put(folder, "dog.jpg", "dog.png", "dog.webp", "dog.png.jpg")
    names = [name for name, _ in found(folder)]
    assert names[:2] == ["dog", "dog.png"]
    assert len(set(names)) == 4


def test_a_limit_takes_the_first_ones(folder):
    put(folder, "a.png", "b.png", "c.png")
    assert [name for name, _ in found(folder, limit=2)] == ["a", "b"]


@pytest.mark.parametrize("metadata", ["metadata.jsonl", "metadata.csv", "data/train.parquet"])
def test_a_dataset_is_no_folder_of_photos(folder, metadata):
    put(folder, "dog.png")
    (folder / metadata).parent.mkdir(exist_ok=True)
    (folder / metadata).write_text("")
    # a dataset has its own instructions
    assert found(folder, instruction=None) == []


def test_a_dataset_behind_a_linked_folder_is_no_folder_of_photos(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "train.parquet").write_text("")
    (folder / "data").symlink_to(tmp_path / "elsewhere")
    assert found(folder, instruction=None) == []


def test_photos_behind_a_linked_folder_are_told_as_those_in_subfolders(folder, tmp_path):
    put(tmp_path / "elsewhere", "dog.png")
    (folder / "more").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RicError, match="but in its subfolders") as caught:
        found(folder)
    assert caught.value.hint == (
        f"Edit them too: ric edit {folder} --recursive, or name one of them: {folder}/more"
    )


@pytest.mark.parametrize("instruction", [None, "", "  "])
def test_photos_without_an_instruction_are_refused(folder, instruction):
    put(folder, "dog.png")
    with pytest.raises(RicError, match=f"{folder} needs an instruction") as caught:
        found(folder, instruction=instruction)
    assert caught.value.hint == f'Say what to do: ric edit {folder} "make it night"'


def test_a_folder_with_neither_pictures_nor_metadata_is_refused(folder):
    (folder / "notes.txt").write_text("no photo")
    with pytest.raises(RicError, match=f"no pictures and no metadata in {folder}"):
        found(folder)


def test_the_hint_about_photos_can_be_pasted(tmp_path):
    put(tmp_path / "my photos", "dog.png")
    with pytest.raises(RicError) as caught:
        found(tmp_path / "my photos", instruction=None)
    place = f"'{tmp_path}/my photos'"
    assert caught.value.hint == f'Say what to do: ric edit {place} "make it night"'


def test_of_photos_that_lie_only_in_subfolders_the_error_says_how_to_edit_them(folder):
    put(folder, "new ones/dog.png")
    with pytest.raises(RicError) as caught:
        found(folder)
    assert caught.value.message == (
        f"There are no pictures and no metadata in {folder} itself, but in its subfolders."
    )
    assert caught.value.hint == (
        f"Edit them too: ric edit {folder} --recursive, or name one of them: '{folder}/new ones'"
    )
    assert found(folder, recursive=True) == [("new ones/dog", "dog.png")]


def test_a_photo_that_is_not_there_is_called_a_photo(folder):
    with pytest.raises(RicError, match=r"There is no photo '.*cow\.JPG'"):
        found(folder / "cow.JPG")


def test_what_is_no_path_is_left_to_the_datasets():
    assert find_photos(EditConfig(data="BryanW/HumanEdit")) == []


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="../shared is absent")
def test_the_shared_photos_are_all_found_and_none_of_their_masks():
    names = [name for _, name in found(PHOTOS)]
    assert "webp_named_png.png" in names
    assert not [name for name in names if "_mask" in name]
    masks = {file.name for file in PHOTOS.glob("*_mask.*")}
    assert masks
    assert {*names, *masks} == {file.name for file in PHOTOS.glob("*.*")}
