"""Which file is a photo's mask, and which mask is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ric.config import EditConfig
from ric.data.images import ImageError
from ric.data.photo_masks import read_mask
from ric.data.photos import find_photos
from ric.errors import RicError
from ric.settings import resolve_config


def put(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(folder / name, format="PNG")
    return folder


def masks(data: Path, **settings: Any) -> dict[str, str | None]:
    config = EditConfig(data=str(data), instruction="make it night", **settings)
    found = find_photos(config)
    return {photo.id: photo.mask and str(photo.mask.relative_to(data.parent)) for photo in found}


def test_a_mask_beside_its_photo_counts_unless_none_is_asked_for(tmp_path):
    data = put(tmp_path / "in", "cat.jpg", "cat_mask.png", "dog.jpg")
    assert masks(data) == {"cat": "in/cat_mask.png", "dog": None}
    assert masks(data, mask="data") == masks(data)
    assert masks(data, mask="none") == {"cat": None, "dog": None}


def test_a_single_photo_has_the_mask_beside_it(tmp_path):
    data = put(tmp_path / "in", "cat.jpg", "cat_mask.png")
    (photo,) = find_photos(EditConfig(data=str(data / "cat.jpg"), instruction="x"))
    assert photo.mask == data / "cat_mask.png"
    # a mask that is named alone is a photo like any other, and not its own mask
    (photo,) = find_photos(EditConfig(data=str(data / "cat_mask.png"), instruction="x"))
    assert (photo.id, photo.mask) == ("cat_mask", None)


def test_of_files_named_one_by_one_the_masks_are_not_photos(tmp_path):
    put(tmp_path, "cat.jpg", "cat_mask.png", "dog.jpg")
    first, *more = (str(tmp_path / name) for name in ("cat_mask.png", "cat.jpg", "dog.jpg"))
    found = find_photos(EditConfig(data=first, also=tuple(more), instruction="x"))
    assert [(photo.id, photo.mask is not None) for photo in found] == [
        ("cat", True),
        ("dog", False),
    ]


def test_in_a_tree_each_folder_has_its_own_masks(tmp_path):
    data = put(tmp_path / "in", "a/cat.jpg", "a/cat_mask.png", "b/cat.jpg", "b/dog_mask.png")
    assert masks(data, recursive=True) == {
        "a/cat": "in/a/cat_mask.png",
        "b/cat": None,
        "b/dog_mask": None,
    }


def test_one_mask_may_be_that_of_all_photos(tmp_path):
    data = put(tmp_path / "in", "cat.jpg", "cat_mask.png", "dog.jpg")
    put(tmp_path, "round.png")
    given = str(tmp_path / "round.png")
    assert masks(data, mask=given) == {"cat": "round.png", "dog": "round.png"}


def test_a_folder_of_masks_goes_by_the_photos_tree_and_takes_either_name(tmp_path):
    data = put(tmp_path / "in", "a/cat.jpg", "a/dog.jpg", "a/cow.jpg", "cat.jpg")
    put(tmp_path / "masks", "a/cat.png", "a/dog_mask.webp", "cat.png")
    assert masks(data, mask=str(tmp_path / "masks"), recursive=True) == {
        "a/cat": "masks/a/cat.png",
        "a/dog": "masks/a/dog_mask.webp",
        "a/cow": None,
        "cat": "masks/cat.png",
    }


def test_masks_that_lie_among_the_photos_are_not_edited(tmp_path):
    data = put(tmp_path / "in", "cat.jpg", "masks/cat.png")
    assert masks(data, mask=str(data / "masks"), recursive=True) == {"cat": "in/masks/cat.png"}
    put(data, "round.png")
    assert masks(data, mask=str(data / "round.png")) == {"cat": "in/round.png"}


def test_a_mask_that_is_not_there_is_one_line(tmp_path):
    data = put(tmp_path / "in", "cat.jpg")
    with pytest.raises(RicError, match=r"--mask nowhere\.png: there is no such file") as caught:
        masks(data, mask="nowhere.png")
    assert "data, none" in caught.value.hint


@pytest.mark.parametrize(
    ("settings", "flag"),
    [({"crop_to_mask": True}, "--crop-to-mask"), ({"feather": 3}, "--feather")],
)
def test_what_needs_a_mask_is_refused_without_one(settings, flag):
    with pytest.raises(RicError, match=f"{flag} needs a mask, and --mask is none"):
        resolve_config(EditConfig, {"data": "in", "mask": "none", **settings})


@pytest.mark.parametrize(
    ("settings", "flag"),
    [({"crop_to_mask": True}, "--crop-to-mask"), ({"feather": 3}, "--feather")],
)
def test_what_needs_a_mask_is_refused_where_no_photo_has_one(tmp_path, settings, flag):
    data = put(tmp_path / "in", "cat.jpg", "dog.jpg")
    with pytest.raises(RicError, match=f"{flag} needs masks, and no photo has one") as caught:
        masks(data, **settings)
    assert "NAME_mask.png" in caught.value.hint
    put(data, "cat_mask.png")
    assert masks(data, **settings) == {"cat": "in/cat_mask.png", "dog": None}


def test_the_photos_own_folder_may_be_named_as_that_of_the_masks(tmp_path):
    data = put(tmp_path / "in", "a/cat.jpg", "a/cat_mask.png", "a/dog.jpg")
    assert masks(data / "a", mask=str(data / "a")) == {"cat": "a/cat_mask.png", "dog": None}
    assert masks(data / "a", mask=str(data)) == {"cat": None, "dog": None}
    (photo,) = find_photos(
        EditConfig(data=str(data / "a/cat.jpg"), instruction="x", mask=str(data / "a"))
    )
    assert photo.mask == data / "a/cat_mask.png"  # not the photo itself


@pytest.mark.parametrize(("key", "flag"), [("mask", "--mask"), ("mask_text", "--mask-text")])
def test_an_empty_mask_of_a_shells_unset_variable_is_refused(key, flag):
    for empty in ("", "  "):
        with pytest.raises(RicError, match=f"{flag} is empty"):
            resolve_config(EditConfig, {"data": "in", key: empty})


# --- reading one ---------------------------------------------------------------------------------


def save(folder: Path, values: np.ndarray, **options: Any) -> Path:
    Image.fromarray(values.astype(np.uint8) * 255).save(folder / "mask.png", **options)
    return folder / "mask.png"


def half(height: int = 8, width: int = 12) -> np.ndarray:
    values = np.zeros((height, width), dtype=bool)
    values[: height // 2] = True
    return values


def test_a_mask_is_read_upright(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6
    file = save(tmp_path, half(), exif=turned)
    assert np.array_equal(read_mask(file, (8, 12), max_pixels=10**6), np.rot90(half(), -1))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (half(12, 8), r"The mask 'mask.png' is 8x12, and its photo is 12x8 once upright"),
        (np.zeros((8, 12)), "The mask is empty: it marks no pixel to edit"),
        (np.ones((8, 12)), r"The mask covers 100\.0% of the picture; the limit is 99%"),
    ],
    ids=["another shape", "empty", "everything"],
)
def test_a_mask_that_does_not_fit_is_refused_with_the_reason(tmp_path, values, reason):
    with pytest.raises(ImageError, match=reason):
        read_mask(save(tmp_path, values), (12, 8), max_pixels=10**6)
