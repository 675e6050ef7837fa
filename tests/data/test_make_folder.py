from __future__ import annotations

import errno
import json
import os
import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ric.data.images import pixel_hash
from ric.data.loose import pair_loose
from ric.data.sample import load_samples
from ric.errors import RicError, SampleError
from ric.progress import Silent
from ric.recipes.data import from_data, make_folder
from ric.splits import split_of

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared is absent")


class Notes(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


@pytest.fixture
def loose(tmp_path, noise):
    """Photos dog.png (with a mask beside it) and cat.jpg, and their edits in another folder."""
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    after.mkdir()
    noise().save(before / "dog.png")
    Image.fromarray(np.eye(12, 16, dtype=np.uint8) * 255).save(before / "dog_mask.png")
    noise(seed=1).save(before / "cat.jpg")
    noise(seed=2).save(after / "dog.webp", lossless=True)
    noise(seed=3).save(after / "cat.png")
    return before, after


def rows_of(folder) -> dict[str, dict]:
    lines = (folder / "metadata.jsonl").read_text().splitlines()
    return {row["id"]: row for row in map(json.loads, lines)}


def test_photos_masks_and_edits_are_paired_by_name(tmp_path, loose):
    before, after = loose
    texts = tmp_path / "texts.csv"
    texts.write_text("file,instruction,region_text\ndog.png,make it red,a red dog\ncat.jpg,wink,\n")
    report = make_folder(tmp_path / "out", source=before, target=after, texts=texts)
    assert (report.rows, report.targets, report.masks) == (2, 2, 1)
    assert (report.failures, report.unmatched, report.without_instruction) == ((), (), 0)
    assert rows_of(tmp_path / "out") == {
        "cat": {
            "id": "cat", "source_file_name": "source/cat.jpg", "target_file_name": "target/cat.png",
            "instruction": "wink",
        },
        "dog": {
            "id": "dog", "source_file_name": "source/dog.png",
            "target_file_name": "target/dog.webp", "mask_file_name": "mask/dog.png",
            "instruction": "make it red", "region_text": "a red dog",
        },
    }  # fmt: skip
    copied = tmp_path / "out/source/cat.jpg"
    assert copied.read_bytes() == (before / "cat.jpg").read_bytes()
    assert [s.id for s in load_samples(tmp_path / "out")] == ["cat", "dog"]


def test_running_it_again_changes_nothing(tmp_path, loose):
    first = make_folder(tmp_path / "out", source=loose[0])
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*")}
    assert make_folder(tmp_path / "out", source=loose[0]) == first
    after = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*")}
    assert {p: t for p, t in after.items() if p.is_file()} == {
        p: t for p, t in before.items() if p.is_file()
    }


def test_something_else_in_the_way_is_never_overwritten(tmp_path, loose, noise):
    out = tmp_path / "out"
    (out / "source").mkdir(parents=True)
    noise(seed=7).save(out / "source/dog.png")
    with pytest.raises(RicError, match=r"source/dog.png' is already there and differs"):
        make_folder(out, source=loose[0])
    assert not (out / "metadata.jsonl").exists()


@pytest.mark.parametrize("out", ["notes.txt", "notes.txt/out", "taken"])
def test_a_folder_that_cannot_be_written_is_named(tmp_path, loose, edits, out):
    (tmp_path / "notes.txt").write_text("a file in the way")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/source").write_text("a file where the pictures go")
    with pytest.raises(RicError, match=rf"The folder '.*/{out}' cannot be written: ") as caught:
        make_folder(tmp_path / out, source=loose[0])
    assert "Choose another folder" in str(caught.value.hint)
    with pytest.raises(RicError, match=rf"The folder '.*/{out}' cannot be written: "):
        from_data(tmp_path / out, load_samples(edits({})))


def test_a_folder_without_the_right_to_write_is_named(tmp_path, loose, monkeypatch):
    def denied(path: Path, **_: object) -> None:  # root is denied nothing by a folder's mode
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(RicError, match=r"/out' cannot be written: Permission denied"):
        make_folder(tmp_path / "out", source=loose[0])


def test_a_full_disk_is_named_and_leaves_no_metadata(tmp_path, loose, monkeypatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RicError, match=r"/out' cannot be written: No space left on device"):
        make_folder(tmp_path / "out", source=loose[0])
    assert not list((tmp_path / "out").glob("*metadata*"))


def test_a_photo_as_a_mask_is_a_failure(tmp_path, loose, noise):
    noise(seed=9).save(loose[0] / "dog_mask.png")
    report = make_folder(tmp_path / "out", source=loose[0])
    assert [(f.sample_id, f.stage) for f in report.failures] == [("dog", "mask")]
    assert "The mask looks like a photo" in report.failures[0].reason


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0, 0], "The mask is empty: it marks no pixel to edit."),
        ([255, 255], "The mask covers 100.0% of the picture; the limit is 99%."),
        ([0, 1, 2], "The mask holds the values 0, 1 and 2; a mask is white where to edit"),
        ([0, 1], None),
    ],
)
def test_a_mask_is_a_failure_here_where_it_would_be_one_in_training(tmp_path, loose, values, words):
    mask = Image.fromarray(np.array([values], np.uint8)).resize((16, 12), Image.Resampling.NEAREST)
    mask.save(loose[0] / "dog_mask.png")
    report = make_folder(tmp_path / "out", source=loose[0])
    if words:
        (failed,) = report.failures
        assert (failed.sample_id, failed.stage) == ("dog", "mask")
        assert failed.reason.startswith(words)
        assert list(rows_of(tmp_path / "out")) == ["cat"]
    else:
        assert report.failures == ()
        (sample,) = (s for s in load_samples(tmp_path / "out", need_instruction=False)
                     if s.has_mask)  # fmt: skip
        assert sample.load_mask().sum() == 8 * 12


def test_a_mask_is_a_photo_when_no_photo_has_its_name(tmp_path, noise):
    noise().save(tmp_path / "gas_mask.png")
    pairs, unmatched = pair_loose(tmp_path)
    assert [(p.name, p.mask) for p in pairs] == [("gas_mask", None)]
    assert unmatched == []


def test_a_folder_of_masks_goes_before_masks_beside_the_photos(tmp_path, loose):
    masks = tmp_path / "masks"
    masks.mkdir()
    for name in ("dog_mask", "cat", "horse"):
        Image.new("L", (16, 12), 255).save(masks / f"{name}.png")
    pairs, unmatched = pair_loose(loose[0], None, masks)
    assert [p.mask for p in pairs] == [masks / "cat.png", masks / "dog_mask.png"]
    assert unmatched == [loose[0] / "dog_mask.png", masks / "horse.png"]


def test_what_goes_with_nothing_is_listed(tmp_path, loose, noise):
    before, after = loose
    noise().save(after / "horse.png")
    (before / "notes.txt").write_text("notes")
    texts = tmp_path / "texts.csv"
    texts.write_text("id,instruction\nbird,fly\ndog,sit\n")
    report = make_folder(tmp_path / "out", source=before, target=after, texts=texts)
    assert [Path(name).name for name in report.unmatched] == [
        "horse.png", "notes.txt", "texts.csv: bird",
    ]  # fmt: skip


def test_a_photo_without_an_edit_is_a_failure_when_edits_are_given(tmp_path, loose):
    before, after = loose
    (after / "cat.png").unlink()
    report = make_folder(tmp_path / "out", source=before, target=after)
    assert [(f.sample_id, f.stage) for f in report.failures] == [("cat", "target")]
    assert "No picture of that name in" in report.failures[0].reason
    assert list(rows_of(tmp_path / "out")) == ["dog"]


def test_a_broken_photo_is_a_failure_and_leaves_no_files(tmp_path, loose):
    before, after = loose
    (before / "cat.jpg").write_bytes((before / "cat.jpg").read_bytes()[:300])
    report = make_folder(tmp_path / "out", source=before, target=after)
    assert [(f.sample_id, f.stage) for f in report.failures] == [("cat", "source")]
    assert sorted(p.name for p in (tmp_path / "out").rglob("cat*")) == []


def test_extensions_follow_the_content_and_other_formats_become_png(tmp_path, noise):
    photos = tmp_path / "photos"
    photos.mkdir()
    noise().save(photos / "a.png", "WEBP", lossless=True)
    noise(seed=1).save(photos / "b.tiff")
    make_folder(tmp_path / "out", source=photos)
    rows = rows_of(tmp_path / "out")
    assert rows["a"]["source_file_name"] == "source/a.webp"
    assert rows["b"]["source_file_name"] == "source/b.png"
    samples = list(load_samples(tmp_path / "out", need_instruction=False))
    assert pixel_hash(samples[1].load_source()) == pixel_hash(noise(seed=1))


def test_rows_without_an_instruction_are_counted_and_said(tmp_path, loose):
    notes = Notes()
    report = make_folder(tmp_path / "out", source=loose[0], progress=notes)
    assert report.without_instruction == 2
    assert notes.notes[0].startswith("2 rows have no instruction: add them to")


def test_two_pictures_of_one_name_are_that_photo_s_failure(tmp_path, noise):
    for folder in ("photos", "targets"):
        (tmp_path / folder).mkdir()
        for name in ("a.png", "a.jpg", "a.webp", "b.png"):
            noise().save(tmp_path / folder / name)
    photos, targets = tmp_path / "photos", tmp_path / "targets"
    report = make_folder(tmp_path / "out", source=photos, target=targets)
    assert report.rows == 1
    (failed,) = report.failures
    places = [tmp_path / folder / f"a.{end}" for folder in ("photos", "targets")
              for end in ("jpg", "png", "webp")]  # fmt: skip
    named = " and ".join(f"'{place}'" for place in places)
    assert (failed.sample_id, failed.stage) == ("a", "source")
    assert failed.reason.startswith(f"{named} share a name")


COMPOSED, APART = unicodedata.normalize("NFC", "piña"), unicodedata.normalize("NFD", "piña")


def test_names_are_paired_in_whatever_normal_form_each_folder_has_them(tmp_path, noise):
    places = {"photos": APART, "targets": COMPOSED, "masks": f"{APART}_mask"}
    for folder, name in places.items():
        (tmp_path / folder).mkdir()
        noise(seed=len(folder)).save(tmp_path / folder / f"{name}.png")
    mask = Image.new("L", (16, 12))
    mask.paste(255, (2, 2, 9, 9))
    mask.save(tmp_path / "masks" / f"{APART}_mask.png")
    texts = tmp_path / "texts.csv"
    texts.write_text(f"file,instruction\n{COMPOSED}.png,drink\n", encoding="utf-8")
    report = make_folder(
        tmp_path / "out", source=tmp_path / "photos", target=tmp_path / "targets",
        mask=tmp_path / "masks", texts=texts,
    )  # fmt: skip
    assert (report.failures, report.unmatched) == ((), ())
    (row,) = rows_of(tmp_path / "out").values()
    assert (row["id"], row["instruction"]) == (COMPOSED, "drink")
    assert {"target_file_name", "mask_file_name"} <= row.keys()


def test_two_names_that_look_alike_are_told_apart_by_their_letters(tmp_path, noise):
    for name in (COMPOSED, APART):
        noise().save(tmp_path / f"{name}.png")
    (pair,) = pair_loose(tmp_path)[0]
    with pytest.raises(SampleError, match="share a name") as caught:
        pair.refuse_doubles()
    assert r"/pin\u0303a.png' and " in caught.value.reason
    assert r"/pi\xf1a.png' share a name" in caught.value.reason


def test_a_name_that_is_not_utf8_is_one_failure_and_the_rest_goes_on(tmp_path, noise):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in (b"pi\xf1a.png", b"dog.png"):
        noise().save(photos / os.fsdecode(name), "PNG")
    (photos / os.fsdecode(b"not\xe9s.txt")).write_text("notes")
    report = make_folder(tmp_path / "out", source=photos)
    assert list(rows_of(tmp_path / "out")) == ["dog"]
    (failed,) = report.failures
    assert failed.sample_id == r"pi\xf1a.png"
    assert failed.reason == r"Its name is not UTF-8: pi\xf1a. Rename the file."
    assert [name.rpartition("/")[2] for name in report.unmatched] == [r"not\xe9s.txt"]


def test_an_empty_or_missing_folder_is_an_error(tmp_path):
    with pytest.raises(RicError, match="No picture in"):
        pair_loose(tmp_path)
    with pytest.raises(RicError, match="cannot be read: No such file"):
        pair_loose(tmp_path / "none")


def test_texts_need_a_key_and_a_text(tmp_path, loose):
    texts = tmp_path / "texts.csv"
    texts.write_text("name,words\ndog,sit\n")
    with pytest.raises(RicError, match="have the columns name, words") as caught:
        make_folder(tmp_path / "out", source=loose[0], texts=texts)
    assert "They need 'id' or 'file'" in str(caught.value.hint)
    with pytest.raises(RicError, match=r"gone.csv' does not exist"):
        make_folder(tmp_path / "out", source=loose[0], texts=tmp_path / "gone.csv")
    texts.write_text("id,instruction,mood\ndog,sit,glad\n")
    notes = Notes()
    make_folder(tmp_path / "out", source=loose[0], texts=texts, progress=notes)
    assert "not used: mood" in notes.notes[0]


def test_any_data_can_be_written_as_our_folder(tmp_path, edits):
    folder = edits({"group_id": "p1"}, {"split": "dev", "region_text": "a ball"}, {"id": "test-1"})
    (folder / "source/2.png").write_bytes(b"broken")
    report = from_data(tmp_path / "out", load_samples(folder))
    assert (report.rows, report.targets, report.masks) == (2, 2, 2)
    assert [f.sample_id for f in report.failures] == ["test-1"]
    for before, after in zip(load_samples(folder), load_samples(tmp_path / "out"), strict=False):
        assert (before.id, before.region_text, before.split) == (
            after.id, after.region_text, after.split,
        )  # fmt: skip
        assert before.group() == after.group()
        assert pixel_hash(before.load_target()) == pixel_hash(after.load_target())
        assert np.array_equal(before.load_mask(), after.load_mask())
        assert split_of(before.group()) == split_of(after.group())


def test_context_masks_of_any_kind_are_written_white_on_black(tmp_path, noise, encoded):
    source = noise()
    erased = source.convert("RGBA")
    erased.paste((0, 0, 0, 0), (2, 3, 8, 9))
    row = {"before": encoded(source), "prompt": "wink", "around": encoded(erased)}
    (tmp_path / "data").mkdir()
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "data/edits.parquet")
    columns = "source=before,instruction=prompt,context_mask=around"
    report = from_data(tmp_path / "out", load_samples(tmp_path / "data", columns=columns))
    assert (report.rows, report.failures) == (1, ())
    (sample,) = load_samples(tmp_path / "out")
    expected = np.zeros((12, 16), bool)
    expected[3:9, 2:8] = True
    assert np.array_equal(sample.load_context_mask(), expected)


@needs_shared
def test_a_folder_of_real_photos_finds_their_masks(tmp_path):
    report = make_folder(tmp_path / "out", source=SHARED / "photos")
    assert (report.rows, report.masks, report.failures) == (7, 4, ())
    rows = rows_of(tmp_path / "out")
    assert rows["webp_named_png"]["source_file_name"] == "source/webp_named_png.webp"
    for sample in load_samples(tmp_path / "out", need_instruction=False):
        assert sample.load_source().mode == "RGB"
        if sample.has_mask:
            assert 0 < sample.load_mask().mean() < 0.9
