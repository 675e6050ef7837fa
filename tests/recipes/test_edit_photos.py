"""`ric edit` of photos: exact outside a mask, and a photo stays a photo."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from display_p3 import display_p3
from noting import Noting
from PIL import Image, ImageDraw

from ric.config import EditConfig, as_dict
from ric.data.masks import Mask
from ric.data.photograph import Photograph
from ric.data.sample import load_samples
from ric.editors.editor import EditRequest
from ric.editors.instruct_pix2pix import InstructPix2Pix
from ric.editors.masked import feathered, put_back
from ric.errors import RicError
from ric.recipes.edit import edit
from ric.runs.open_run import open_run

EDITORS = '''
"""Editors without a network: what they make is known."""
import os, time
from PIL import Image, ImageOps

class Inverts:
    def __init__(self, model, config, device):
        self.size = config.image_size

    def edit(self, requests, between_steps=lambda: None):
        between_steps()
        time.sleep(float(os.environ.get("RIC_TEST_PAUSE", 0)))
        return [self.one(request) for request in requests]

    def one(self, request):
        return ImageOps.invert(request.image)

    def describe(self):
        return {}

    def working_size(self, width, height):
        scale = self.size / max(width, height)
        return max(1, round(width * scale)), max(1, round(height * scale))

class Flags(Inverts):
    "As a pipeline whose safety checker flags what is mostly red."
    def one(self, request):
        red, green, _ = request.image.resize((1, 1)).getpixel((0, 0))
        return Image.new("RGB", request.image.size) if red > green else super().one(request)

class Shrinks(Inverts):
    def one(self, request):
        return request.image.resize((4, 4))

class RefusesRed(Inverts):
    "Raises for one picture of a batch."
    def one(self, request):
        red, green, _ = request.image.resize((1, 1)).getpixel((0, 0))
        if red > green:
            raise ValueError("no red, please\\nor at least less of it")
        return super().one(request)

class LeavesRedOut(RefusesRed):
    "Returns fewer pictures than were asked for."
    def edit(self, requests, between_steps=lambda: None):
        made = []
        for request in requests:
            try:
                made.append(self.one(request))
            except ValueError:
                pass
        return made

class GivesOneMore(Inverts):
    def edit(self, requests, between_steps=lambda: None):
        made = super().edit(requests)
        return made + made[:1]

class GivesBytesForRed(RefusesRed):
    def one(self, request):
        try:
            return super().one(request)
        except ValueError:
            return request.image.tobytes()

class CannotBeMade:
    def __init__(self, model, config, device):
        raise OSError("the licence server is asleep")
'''


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


@pytest.fixture
def own(tiny: Callable[..., EditConfig], tmp_path: Path) -> Callable[..., EditConfig]:
    """Settings of an edit by an editor of the file above."""
    file = tmp_path / "editors.py"
    file.write_text(EDITORS)

    def make(data: Path | str, **changes: Any) -> EditConfig:
        usual = {"editor": f"{file}:Inverts", "instruction": "invert it", "image_size": 64}
        return tiny(EditConfig, data, **{**usual, **changes})

    return make


def rows(run: Path, kind: str = "edits") -> list[dict[str, Any]]:
    file = run / f"{kind}.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def draw(width: int = 40, height: int = 30, seed: int = 0) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def a_mask(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=255)
    return mask


# --- a large photo of a phone --------------------------------------------------------------------

BOX = (1000, 2000, 1400, 2300)  # of the upright photo


@pytest.fixture(scope="module")
def of_a_phone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 megapixels, Display P3, stored sideways, with a mask drawn on the upright photo."""
    folder = tmp_path_factory.mktemp("phone")
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0110] = 6, "Maker", "Phone"
    exif.get_ifd(0x8769)[0x829A] = 0.01
    exif.get_ifd(0x8825)[1] = "N"
    photo = draw(6000, 4000)
    options = {"exif": exif, "icc_profile": display_p3(), "quality": 90, "dpi": (72, 72)}
    photo.save(folder / "phone.jpg", **options)
    a_mask((4000, 6000), BOX).save(folder / "phone_mask.png")
    return folder


def turned(file: Path) -> np.ndarray:
    """What another decoder's user sees: Pillow's pixels, turned by NumPy."""
    with Image.open(file) as image:
        return np.rot90(np.asarray(image), -1)


def test_outside_the_mask_a_large_photo_is_equal_in_its_own_colours(
    of_a_phone, own, follow, tmp_path
):
    config = own(of_a_phone / "phone.jpg", format="png", crop_to_mask=True)
    run = follow(edit, config, tmp_path / "run")
    (row,) = rows(run)
    assert row["mask"] == "phone_mask.png"
    assert row["file_name"] == "images/phone.png"
    left, top, right, bottom = row["window"]
    assert (right - left, bottom - top) == (528, 528)  # the mask and 64 pixels on both sides
    assert json.loads((run / "run.json").read_text())["masked_edits"] == 1
    with Image.open(run / "images/phone.png") as image:
        assert image.info["icc_profile"] == display_p3()
        assert image.getexif()[0x0110] == "Phone"
        after = np.asarray(image)
    before = turned(of_a_phone / "phone.jpg")
    inside = np.zeros(before.shape[:2], dtype=bool)
    inside[BOX[1] : BOX[3], BOX[0] : BOX[2]] = True
    assert np.array_equal(after[~inside], before[~inside])
    assert (after[inside] != before[inside]).any(-1).mean() > 0.9


def test_a_large_jpeg_keeps_its_exif_and_loses_only_what_saving_again_loses(
    of_a_phone, own, follow, tmp_path
):
    config = own(of_a_phone / "phone.jpg", crop_to_mask=True)
    run = follow(edit, config, tmp_path / "run")
    with Image.open(run / "images/phone.jpg") as image:
        after, exif = np.asarray(image), image.getexif()
        assert image.info["icc_profile"] == display_p3()
        tables = {
            "qtables": [
                np.reshape(table, (8, 8)).T.ravel().tolist()
                for table in Image.open(of_a_phone / "phone.jpg").quantization.values()
            ]
        }
    before = turned(of_a_phone / "phone.jpg")
    with Image.open(of_a_phone / "phone.jpg") as image:
        wanted = image.getexif()
        for ifd in (0x8769, 0x8825):
            assert exif.get_ifd(ifd) == wanted.get_ifd(ifd)
        assert exif[0x0112] == 1
        assert {**exif, 0x0112: 6} == dict(wanted)
    stream = io.BytesIO()
    Image.fromarray(before).save(stream, "JPEG", subsampling=2, **tables)
    again = np.asarray(Image.open(stream))
    # blocks of 16 pixels that the mask reaches, and a pixel round them, are another picture's
    far = np.ones(before.shape[:2], dtype=bool)
    far[BOX[1] // 16 * 16 - 1 : -(-BOX[3] // 16) * 16 + 1, BOX[0] // 16 * 16 - 1 : 1409] = False
    assert np.array_equal(after[far], again[far])


# --- the seam ------------------------------------------------------------------------------------


def test_the_seam_of_a_held_edit_is_smaller_than_pastings_and_with_a_feather_smaller_still():
    """Steps across a mask's border that the source does not have, on drawn scenes."""
    editor = InstructPix2Pix(
        Path(__file__).parents[2] / "ric/assets/tiny/pipeline",
        device=torch.device("cpu"),
        dtype="fp32",
        steps=8,
        guidance=2.0,
        image_guidance=1.1,
        image_size=64,
    )
    mask = np.zeros((64, 64), dtype=bool)
    mask[16:48, 16:48] = True
    samples = list(load_samples("scenes:12@64#7"))
    sources = [sample.load_source() for sample in samples]
    plain = [
        EditRequest(sample.id, source, "turn everything red")
        for sample, source in zip(samples, sources, strict=True)
    ]
    seams = []
    for allowed, feather in ((None, 0), (mask, 0), (feathered(mask, 6), 6)):
        edits = editor.edit([replace(request, mask=allowed) for request in plain])
        pairs = zip(sources, edits, strict=True)
        seams.append([seam(source, edited, mask, feather) for source, edited in pairs])
    pasted, held, faded = seams
    assert np.mean(held) < 0.95 * np.mean(pasted)
    assert np.mean(faded) < 0.85 * np.mean(held)


def seam(source: Image.Image, edited: Image.Image, mask: Mask, feather: int) -> float:
    """Mean step between neighbours on both sides of the mask's border, beyond the source's own."""
    whole = (0, 0, *source.size)
    result = np.asarray(put_back(edited, Photograph(source), whole, mask, feather).pixels)
    steps = []
    for axis in (0, 1):
        border = np.diff(mask, axis=axis)
        change = result.astype(float) - np.asarray(source)
        steps.append(np.abs(np.diff(change, axis=axis))[border])
    return float(np.concatenate(steps).mean())


# --- native resolution, and what is said of other sizes ------------------------------------------


def test_a_window_of_the_editors_size_is_edited_at_native_resolution(photos, own, follow, tmp_path):
    draw(300, 200).save(photos / "dog.png")
    a_mask((300, 200), (150, 100, 160, 110)).save(photos / "dog_mask.png")
    noting = Noting()
    config = own(photos, crop_to_mask=True, margin=20)
    run = follow(edit, config, tmp_path / "run", noting)
    (row,) = rows(run)
    assert row["window"] == [123, 73, 187, 137]
    assert row["size"] == row["working_size"] == [64, 64]
    assert noting.lines == []


@pytest.mark.parametrize("mask", [None, "none"])
def test_enlarging_a_downscaled_edit_is_said_and_recorded(photos, own, follow, tmp_path, mask):
    draw(320, 160).save(photos / "dog.png")
    noting = Noting()
    run = follow(edit, own(photos, mask=mask), tmp_path / "run", noting)
    assert noting.lines == [
        "dog was edited at another size (64x32 for 320x160) and resized back, which enlarges it 5"
        " times: with a mask, --crop-to-mask edits at native resolution"
    ]
    assert (rows(run)[0]["size"], rows(run)[0]["working_size"]) == ([320, 160], [64, 32])
    draw(64, 64).save(photos / "eel.png")
    draw(20, 64).save(photos / "fox.png")
    draw(640, 64).save(photos / "gnu.png")
    noting = Noting()
    follow(edit, own(photos, mask=mask), tmp_path / "more", noting)
    assert noting.lines == [
        "2 of 4 pictures, such as gnu, were edited at another size (64x6 for 640x64) and resized"
        " back, which enlarges them by up to 10.7 times: with a mask, --crop-to-mask edits at"
        " native resolution"
    ]


@pytest.mark.parametrize(
    ("names", "settings", "said"),
    [
        (
            ["cat.png", "dog.jpg", "eel.bmp"],
            {"quality": 80},
            "2 of 3 edits stay without it (.bmp, .png)",
        ),
        (["dog.jpg", "eel.webp"], {"quality": 80}, None),
        (["cat.png"], {"quality": 80, "format": "webp"}, None),
        (["cat.png"], {}, None),
    ],
)
def test_a_quality_that_a_format_has_not_is_said_in_one_note(
    photos, own, follow, tmp_path, names, settings, said
):
    for name in names:
        draw(64, 64).save(photos / name)
    noting = Noting()
    follow(edit, own(photos, **settings), tmp_path / "run", noting)
    told = [line for line in noting.lines if "quality" in line]
    assert len(told) == (said is not None)
    assert all(said in line for line in told)


# --- a data set ----------------------------------------------------------------------------------


def test_a_datasets_masks_are_used_only_if_asked_for(make_edits, own, follow, tmp_path):
    data = make_edits(2, {1: {"mask_file_name": None}})
    plain = follow(edit, own(data, split="all"), tmp_path / "plain")
    assert [row["mask"] for row in rows(plain)] == [None, None]
    source = np.asarray(Image.open(data / "source/00.png"))
    assert np.array_equal(Image.open(plain / "images/00.png"), 255 - source)
    masked = follow(edit, own(data, split="all", mask="data"), tmp_path / "masked")
    assert [(row["id"], row["mask"]) for row in rows(masked)] == [("00", "data")]
    inside = np.asarray(Image.open(data / "mask/00.png")) > 0
    after = np.asarray(Image.open(masked / "images/00.png"))
    assert np.array_equal(after[~inside], source[~inside])
    assert np.array_equal(after[inside], 255 - source[inside])
    # nothing is derived from the target, which an editor may not see
    (failed,) = rows(masked, "failures")
    assert (failed["id"], failed["stage"]) == ("01", "mask")
    assert "Add mask_file_name to that row" in failed["reason"]


@pytest.mark.parametrize("flag", ["crop_to_mask", "feather"])
def test_what_needs_masks_is_refused_for_a_dataset_whose_masks_are_not_used(
    make_edits, own, follow, tmp_path, flag
):
    with pytest.raises(RicError, match="needs masks, and a dataset's are not used") as caught:
        follow(
            edit,
            own(make_edits(1), **{flag: True if flag == "crop_to_mask" else 4}),
            tmp_path / "run",
        )
    assert caught.value.hint == 'Add --mask data, or --mask-text "the dress".'


# --- a tree --------------------------------------------------------------------------------------


LEVELS = ("", "trips", "trips/north", "trips/north/day 1", "trips/north/day 1/raw")
TORN, MOVES = (7, 77, 177), (50, 150)  # numbers of photos that cannot be edited


def a_tree(folder: Path, count: int = 200) -> Path:
    """Photos of several formats and sizes on five levels, some with masks, and other files."""
    endings = ("jpg", "png", "webp", "JPG", "tif", "bmp", "jpeg")
    for number in range(count):
        place = folder / LEVELS[number % 5]
        place.mkdir(parents=True, exist_ok=True)
        size = (32 + 7 * number % 65, 96 - 5 * number % 64)
        file = place / f"p{number:03d}.{endings[number % 7]}"
        if number in MOVES:
            draw().save(file.with_suffix(".gif"), save_all=True, append_images=[draw(seed=1)])
            continue
        draw(*size, seed=number).save(file)
        if number in TORN:
            file.write_bytes(file.read_bytes()[:60])
        if number % 4 == 0:
            a_mask(size, (4, 4, 20, 20)).save(place / f"p{number:03d}_mask.png")
    (folder / "trips/notes.txt").write_text("no photo")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


KILLED = """
import json, sys
from pathlib import Path
from ric.config import EditConfig, as_dict
from ric.recipes.edit import edit
from ric.runs.open_run import open_run

settings, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
config = EditConfig(**{**settings, "also": tuple(settings["also"])})
how = {"runs_dir": folder.parent, "run": folder, "shared": True, "compares": True}
with open_run("edit", as_dict(config), **how) as run:
    edit(config, run)
"""


def test_a_tree_of_200_photos_is_mirrored_whole_also_where_it_was_killed_and_repeated(
    own, follow, tmp_path
):
    tree, run, out = a_tree(tmp_path / "in"), tmp_path / "run", tmp_path / "out"
    before = contents(tree)
    config = own(tree, recursive=True, out=str(out), batch_size=3)
    words = [sys.executable, "-c", KILLED, json.dumps(as_dict(config)), str(run)]
    child = subprocess.Popen(words, env={**os.environ, "RIC_TEST_PAUSE": "0.05"})
    try:
        while child.poll() is None and len(list(out.rglob("*.*"))) < 60:
            time.sleep(0.005)
        assert child.poll() is None, "it ended before it could be killed"
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert 60 <= len(list(out.rglob("*.*"))) < 195
    # as a kill amid writing would leave it
    (out / f".picture.{_writer_of(child.pid)}").write_bytes(b"half")
    how = {"runs_dir": tmp_path, "run": run, "shared": True, "compares": True}
    with open_run("edit", as_dict(config), **how) as opened:
        assert opened.resumed
        edit(config, opened)
    whole = follow(edit, replace(config, out=str(tmp_path / "whole")), tmp_path / "undisturbed")
    assert contents(tree) == before
    made = contents(out)
    assert made == contents(tmp_path / "whole")

    photos = [name for name in before if "_mask" not in name and not name.endswith(".txt")]
    assert len(photos) == 200
    failed = {f"p{number:03d}" for number in (*TORN, *MOVES)}
    assert sorted(made) == [name for name in photos if Path(name).stem not in failed]
    for name in made:
        with Image.open(tree / name) as one, Image.open(out / name) as other:
            assert (one.format, one.size) == (other.format, other.size)
    for kind, count in (("edits", 195), ("failures", 5)):
        ours, theirs = (
            {row["id"]: {**row, "file_name": None} for row in rows(one, kind)}
            for one in (run, whole)
        )
        assert ours == theirs
        assert len(ours) == len(rows(run, kind)) == count
    assert {Path(row["id"]).stem for row in rows(run, "failures")} == failed
    told = {str(Path(row["file_name"]).relative_to(out)) for row in rows(run)}
    assert told == set(made)
    assert json.loads((run / "run.json").read_text())["masked_edits"] == 50


def _writer_of(pid: int) -> str:
    from ric.runs.rows import writer_name

    return f"{writer_name().rpartition('.')[0]}.{pid}"


def test_a_new_run_never_overwrites_what_is_in_out(photos, own, follow, tmp_path):
    draw().save(photos / "dog.png")
    config = own(photos, out=str(tmp_path / "out"))
    follow(edit, config, tmp_path / "run")
    before = contents(tmp_path / "out")
    for _ in range(2):  # nor does it when it is repeated
        with pytest.raises(RicError, match="1 of the results' files are in"):
            follow(edit, config, tmp_path / "again")
    assert contents(tmp_path / "out") == before


def test_several_photos_and_folders_are_edited_by_one_command(photos, own, follow, tmp_path):
    for name in ("a/cat.png", "b/dog.png", "eel.png"):
        (photos / name).parent.mkdir(exist_ok=True)
        draw().save(photos / name)
    config = own(photos / "eel.png", also=(str(photos / "a"), str(photos / "b")))
    run = follow(edit, config, tmp_path / "run")
    assert [row["id"] for row in rows(run)] == ["eel", "a/cat", "b/dog"]
    assert sorted(contents(run / "images")) == ["a/cat.png", "b/dog.png", "eel.png"]


# --- bad input -----------------------------------------------------------------------------------


def test_every_photo_that_cannot_be_edited_is_a_row_with_its_reason_and_the_rest_goes_on(
    photos, own, follow, tmp_path
):
    for name in ("column", "row", "wrong", "empty", "full", "half"):
        size = {"column": (1, 50), "row": (50, 1)}.get(name, (40, 30))
        draw(*size).save(photos / f"{name}.jpg")
    a_mask((30, 40), (0, 0, 9, 9)).save(photos / "wrong_mask.png")
    Image.new("L", (40, 30)).save(photos / "empty_mask.png")
    a_mask((40, 30), (0, 0, 40, 30)).save(photos / "full_mask.png")
    a_mask((40, 30), (0, 0, 20, 30)).save(photos / "half_mask.png")
    a_mask((1, 50), (0, 20, 1, 30)).save(photos / "column_mask.png")
    draw(40, 30).save(photos / "torn.jpg")
    whole = (photos / "torn.jpg").read_bytes()
    (photos / "torn.jpg").write_bytes(whole[: len(whole) // 2])
    draw().save(photos / "moves.webp", save_all=True, append_images=[draw(seed=1)], lossless=True)
    Image.new("1", (10_001, 10_000)).save(photos / "huge.png")
    draw().save(photos / "shot.nef", format="TIFF")
    draw().save(photos / "both.cr2", format="TIFF")
    draw().save(photos / "both.jpg")
    (photos / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    draw().save(photos / "named.png", format="JPEG")
    run = follow(edit, own(photos, crop_to_mask=True, margin=0), tmp_path / "run")
    assert {row["id"]: row["mask"] for row in rows(run)} == {
        "both": None, "column": "column_mask.png", "half": "half_mask.png", "named": None,
        "row": None,
    }  # fmt: skip
    assert (run / "images/named.jpg").is_file()  # in the format it holds
    reasons = {row["id"]: f"{row['stage']}: {row['reason']}" for row in rows(run, "failures")}
    for name, words in {
        "wrong": "mask: The mask 'wrong_mask.png' is 30x40, and its photo is 40x30 once upright",
        "empty": "mask: The mask is empty: it marks no pixel to edit",
        "full": "mask: The mask covers 100.0% of the picture",
        "torn": "source: ",
        "moves": "is animated",
        "huge": "has 10001x10000 = 100,010,000 pixels, over the limit of 64,000,000. Raise it with"
        " --max-pixels.",
        "shot": "'shot.nef' is a camera's raw file, which is not read: develop it first",
        "phone": "is HEIC, which needs a package: pip install pillow-heif",
    }.items():
        assert words in reasons.pop(name)
    assert reasons == {}


def test_a_photo_without_a_mask_is_a_failure_where_masks_were_asked_for(
    photos, own, follow, tmp_path
):
    for name in ("cat", "dog"):
        draw().save(photos / f"{name}.png")
    a_mask((40, 30), (0, 0, 9, 9)).save(photos / "cat_mask.png")
    shutil.copytree(photos, tmp_path / "masks")
    (tmp_path / "masks/dog.png").unlink()
    (tmp_path / "masks/cat.png").unlink()
    for mask, where in (("data", "beside it"), (str(tmp_path / "masks"), f"in {tmp_path}/masks")):
        run = follow(edit, own(photos, mask=mask), tmp_path / f"run-{Path(mask).name}")
        assert [row["id"] for row in rows(run)] == ["cat"]
        (failed,) = rows(run, "failures")
        reason = f"There is no mask of 'dog.png' {where}."
        assert (failed["id"], failed["stage"], failed["reason"]) == ("dog", "mask", reason)


@pytest.mark.parametrize(
    ("editor", "reason"),
    [
        ("Flags", "The edit is black everywhere, as safety checkers make what they flag"),
        ("Shrinks", "The editor returned 4x4 for a picture of 40x30"),
        ("RefusesRed", "The editor raised ValueError: no red, please"),
        ("LeavesRedOut", "The editor returned 0 pictures for 1."),
        ("GivesOneMore", "The editor returned 2 pictures for 1."),
        ("GivesBytesForRed", "The editor returned a bytes, not a picture of Pillow's."),
    ],
)
def test_an_edit_that_is_none_is_a_failure_and_never_a_file_and_the_batch_goes_on(
    photos, own, follow, tmp_path, editor, reason
):
    Image.new("RGB", (40, 30), "red").save(photos / "red.png")
    Image.new("RGB", (40, 30), "green").save(photos / "green.png")
    Image.new("RGB", (40, 30), "black").save(photos / "black.png")
    config, run = own(photos, editor=f"{tmp_path}/editors.py:{editor}"), tmp_path / "run"
    everything = editor in ("Shrinks", "GivesOneMore")
    ends = pytest.raises(RicError, match="All 3 samples failed") if everything else nullcontext()
    with ends:
        follow(edit, config, run)
    failed = {row["id"]: row["reason"] for row in rows(run, "failures")}
    assert failed["red"].startswith(reason)
    assert not (run / "images/red.png").exists()
    assert sorted(failed) == (["black", "green", "red"] if everything else ["red"])
    if not everything:
        green = Image.open(run / "images/green.png")
        assert green.getpixel((5, 5)) == (255, 127, 255)


def test_an_editor_of_ones_own_that_cannot_be_made_is_one_line(photos, own, follow, tmp_path):
    draw().save(photos / "dog.png")
    config = own(photos, editor=f"{tmp_path}/editors.py:CannotBeMade")
    with pytest.raises(RicError, match=r"CannotBeMade .*OSError: the licence server is asleep"):
        follow(edit, config, tmp_path / "run")


def test_an_instruction_of_a_thousand_words_is_cut_and_that_is_told(photos, tiny, follow, tmp_path):
    draw(32, 32).save(photos / "dog.png")
    config = tiny(EditConfig, photos, instruction="turn it red and " * 250, steps=1, image_size=32)
    noting = Noting()
    run = follow(edit, config, tmp_path / "run", noting)
    assert rows(run)[0]["text_cut"]
    assert "longer than the editor reads" in noting.lines[0]
