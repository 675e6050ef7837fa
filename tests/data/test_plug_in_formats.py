"""Files that Pillow alone cannot read are named for what they are, with what reads them."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
from PIL import Image, ImageFile

from ric.config import EditConfig
from ric.data.images import ImageError, open_image
from ric.data.loose import pair_loose
from ric.data.photos import find_photos
from ric.data.sample import load_samples
from ric.errors import RicError
from ric.recipes.data import make_folder

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
JXL, BOXED_JXL = b"\xff\x0a\xfa\x1f", b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl "
NEEDS_HEIF = "is HEIC, which needs a package: pip install pillow-heif."
NEEDS_JXL = "is JPEG XL, which needs a package: pip install pillow-jxl-plugin."
UNREAD = {
    "a.heic": (HEIC, NEEDS_HEIF),
    "a.jpg": (HEIC, NEEDS_HEIF),  # as phones and chats name it
    "a.jxl": (JXL, NEEDS_JXL),
    "b.jxl": (BOXED_JXL, NEEDS_JXL),
    "a.png": (POINTER, "is a git-lfs pointer and not the file itself: get it with `git lfs pull`."),
    "a.gif": (b"nothing known", "is not a picture that can be read."),
}


@pytest.fixture
def no_plug_ins(monkeypatch):
    for name in ("pillow_heif", "pillow_jxl"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it fails


@pytest.mark.parametrize("name", list(UNREAD))
def test_a_file_that_cannot_be_read_is_named_for_what_it_is(tmp_path, no_plug_ins, name):
    content, words = UNREAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError) as caught:
        open_image(tmp_path / name)
    assert caught.value.message == f"'{tmp_path / name}' {words}"


class StandIn(ImageFile.ImageFile):
    """What a package that reads HEIC registers with Pillow."""

    format = "HEIF"

    def _open(self) -> None:
        self._size, self._mode, self.tile = (2, 1), "RGB", []

    def load(self):
        self.im = Image.new("RGB", (2, 1), (1, 2, 3)).im
        return super().load()


def test_an_installed_package_reads_its_format(tmp_path, monkeypatch):
    package = ModuleType("pillow_heif")
    package.register_heif_opener = lambda: Image.register_open("HEIF", StandIn)
    monkeypatch.setitem(sys.modules, "pillow_heif", package)
    monkeypatch.setattr(Image, "ID", [*Image.ID])
    monkeypatch.setattr(Image, "OPEN", {**Image.OPEN})
    (tmp_path / "a.heic").write_bytes(HEIC)
    assert open_image(tmp_path / "a.heic").getpixel((0, 0)) == (1, 2, 3)


def test_pictures_that_cannot_be_read_yet_and_dead_links_are_listed_and_not_passed_over(
    tmp_path, noise, no_plug_ins
):
    photos = tmp_path / "photos"
    photos.mkdir()
    noise().save(photos / "dog.png")
    (photos / "bird.heic").write_bytes(HEIC)
    (photos / "cat.jxl").write_bytes(JXL)
    (photos / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    names = ["bird", "cat", "dog", "gone"]
    config = EditConfig(data=str(photos), instruction="make it night")
    assert [photo.id for photo in find_photos(config)] == names
    assert [pair.name for pair in pair_loose(photos)[0]] == names
    report = make_folder(tmp_path / "out", source=photos)
    told = {error.sample_id: error.reason for error in report.failures}
    assert told.keys() == {"bird", "cat", "gone"}
    assert told["bird"].endswith(NEEDS_HEIF)
    assert told["cat"].endswith(NEEDS_JXL)
    nowhere = tmp_path / "nowhere.jpg"
    assert told["gone"].endswith(f"is a link to '{nowhere}', which does not exist.")


@pytest.mark.parametrize(
    "name", ["metadata.jsonl", "metadata.csv", "metadata.parquet", "rows.parquet", "rows.arrow"]
)
def test_a_git_lfs_pointer_in_place_of_a_table_is_told_as_one(tmp_path, name):
    (tmp_path / name).write_bytes(POINTER)
    with pytest.raises(RicError, match=rf"{name}' is a git-lfs pointer and not the file itself"):
        list(load_samples(tmp_path).reporting(lambda _: None))
