"""`ric edit` as a recipe: what it takes, what it leaves behind, and how it goes on."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from noting import Noting
from PIL import Image

import ric.data.edit_sample as edit_sample
import ric.recipes.edit as recipe
import ric.runs.edited_pictures as edited_pictures
from ric.config import EditConfig, as_dict
from ric.editors.editor import EditRequest
from ric.editors.instruct_pix2pix import InstructPix2Pix
from ric.editors.requests import NOT_FINITE
from ric.errors import RicError
from ric.interrupt import Interrupted
from ric.recipes.edit import edit
from ric.runs.open_run import open_run
from ric.runs.record import artifact_of
from ric.runs.run import RunDir

AS_TYPED = {"shared": True, "compares": True}  # as the command opens its run


@pytest.fixture
def config(tiny: Callable[..., EditConfig]) -> Callable[..., EditConfig]:
    """Two steps at 32 px over all splits."""

    def make(data: Path, **changes: Any) -> EditConfig:
        usual = {"split": "all", "steps": 2, "image_size": 32, "batch_size": 4}
        scales = {"guidance": 7.5, "image_guidance": 1.5}
        return tiny(EditConfig, data, **{**usual, **scales, **changes})

    return make


def rows(run: Path, kind: str) -> list[dict[str, Any]]:
    file = run / f"{kind}.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def pictures(run: Path) -> dict[str, Image.Image]:
    found = {}
    for file in sorted((run / "images").iterdir()):
        with Image.open(file) as image:
            found[file.stem] = image.copy()
    return found


def opened(run: Path) -> dict[str, Image.Image]:
    return {file.stem: Image.open(file) for file in sorted((run / "images").iterdir())}


def draw(width: int = 40, height: int = 30, mode: str = "RGB", seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


# --- a dataset -----------------------------------------------------------------------------------


def test_every_sample_gets_a_picture_of_its_sources_size_and_a_row(
    make_edits, config, follow, record_of, tmp_path
):
    data = make_edits(3)
    run = follow(edit, config(data, guidance=4.0), tmp_path / "run")
    made = pictures(run)
    assert list(made) == ["00", "01", "02"]
    assert {picture.size for picture in made.values()} == {(96, 80)}
    assert {picture.mode for picture in made.values()} == {"RGB"}
    instructions = {
        row["id"]: row["instruction"]
        for row in map(json.loads, (data / "metadata.jsonl").read_text().splitlines())
    }
    settings = {
        "editor": "ip2p",
        "model": "tiny",
        "steps": 2,
        "guidance": 4.0,
        "image_guidance": 1.5,
        "image_size": 32,
        "seed": 0,
        "dtype": "float32",
        "scheduler": "EulerAncestralDiscreteScheduler",
        "mask": None,
        "size": [96, 80],
        "working_size": [32, 24],
        "feather": 0,
        "crop_to_mask": False,
        "margin": 64,
        "format": None,
        "quality": None,
        "batch": ["00", "01", "02"],
    }
    found = rows(run, "edits")
    for row in found:
        source = (data / f"source/{row['id']}.png").read_bytes()
        assert row.pop("source_sha256") == hashlib.sha256(source).hexdigest()
        assert re.fullmatch("[0-9a-f]{32}", row.pop("inputs"))
    assert found == [
        {"id": name, "file_name": f"images/{name}.png", "instruction": told, **settings}
        for name, told in instructions.items()
    ]
    assert record_of(run)["status"] == "done"
    assert record_of(run)["masked_edits"] == 0
    assert record_of(run)["data"]["name"] == str(data)
    assert record_of(run)["weights"]["pipeline"]["id"] == "tiny"


def test_the_pictures_are_the_editors_whatever_the_batch(
    make_edits, config, follow, tiny_family, tmp_path
):
    data = make_edits(3)
    run = follow(edit, config(data, batch_size=2, seed=7), tmp_path / "run")
    editor = InstructPix2Pix(
        tiny_family / "pipeline",
        device=torch.device("cpu"),
        dtype="fp32",
        steps=2,
        image_size=32,
        seed=7,
    )
    for row, made in zip(rows(run, "edits"), pictures(run).values(), strict=True):
        source = Image.open(data / f"source/{row['id']}.png")
        wanted = editor.edit([EditRequest(row["id"], source, row["instruction"])])[0]
        apart = np.abs(np.asarray(made).astype(int) - np.asarray(wanted).astype(int))
        assert apart.max() <= 1


def test_an_instruction_given_goes_before_the_datasets_own(make_edits, config, follow, tmp_path):
    run = follow(edit, config(make_edits(1), instruction="make it night"), tmp_path / "run")
    assert rows(run, "edits")[0]["instruction"] == "make it night"


def test_a_split_and_a_limit_are_kept(make_edits, config, follow, tmp_path):
    data = make_edits(4, {number: {"split": "test"} for number in (1, 2, 3)})
    run = follow(edit, config(data, split="test", limit=2), tmp_path / "run")
    assert list(pictures(run)) == ["01", "02"]


def test_a_split_without_samples_is_an_error(make_edits, config, follow, record_of, tmp_path):
    data = make_edits(2)
    with pytest.raises(RicError, match="has no sample of split test") as caught:
        follow(edit, config(data, split="test"), tmp_path / "run")
    assert "--split all" in caught.value.hint
    assert record_of(tmp_path / "run")["status"] == "failed"


def test_a_broken_source_is_a_row_and_the_rest_goes_on(make_edits, config, follow, tmp_path):
    data = make_edits(4, {3: {"instruction": None}})
    broken = (data / "source/01.png").read_bytes()
    (data / "source/01.png").write_bytes(broken[: len(broken) // 2])
    (data / "source/02.png").unlink()
    run = follow(edit, config(data), tmp_path / "run")
    assert list(pictures(run)) == ["00"]
    failures = {row["id"]: (row["stage"], row["reason"]) for row in rows(run, "failures")}
    assert failures["01"][0] == failures["02"][0] == "source"
    assert "broken or truncated" in failures["01"][1]
    assert "does not exist" in failures["02"][1]
    assert failures["03"] == ("texts", "It has no instruction. Add instruction in metadata.jsonl.")


def as_shards(data: Path, folder: Path) -> Path:
    """Pack a folder of edits, two to a shard."""
    folder.mkdir()
    for number, line in enumerate((data / "metadata.jsonl").read_text().splitlines()):
        row = json.loads(line)
        with tarfile.open(folder / f"{number // 2}.tar", "a") as shard:
            for kind in ("source", "target", "mask"):
                if name := row.pop(f"{kind}_file_name", None):
                    shard.add(data / name, f"{row['id']}.{kind}.png")
            told = tarfile.TarInfo(f"{row['id']}.json")
            content = json.dumps(row).encode()
            told.size = len(content)
            shard.addfile(told, io.BytesIO(content))
    return folder


def test_edits_of_shards_are_those_of_the_folder_and_kept_when_repeated(
    make_edits, config, follow, tmp_path
):
    data = make_edits(3)
    shards = as_shards(data, tmp_path / "shards")
    whole = follow(edit, config(data), tmp_path / "whole")
    run = follow(edit, config(shards, limit=2), tmp_path / "run")
    assert list(pictures(run)) == ["00", "01"]
    noting = Noting()
    follow(edit, config(shards), run, noting)
    assert "2 kept, 1 new" in noting.lines
    for name, picture in pictures(whole).items():
        assert pictures(run)[name].tobytes() == picture.tobytes()
    ours, theirs = ({row["id"]: row for row in rows(one, "edits")} for one in (run, whole))
    for name, row in theirs.items():
        assert {**ours[name], "batch": row["batch"]} == row


# --- photos --------------------------------------------------------------------------------------


def test_an_instruction_that_is_cut_is_marked_counted_and_told(
    config, make_edits, follow, tmp_path
):
    long = "turn the ball into a cube and " * 60
    data = make_edits(3, {1: {"instruction": long}})
    noting = Noting()
    run = follow(edit, config(data, split="all"), tmp_path / "run", noting)
    rows = [json.loads(line) for line in (run / "edits.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows if row.get("text_cut")] == ["01"]
    record = json.loads((run / "run.json").read_text())
    assert record["truncated_texts"] == {"edits": 1}
    assert noting.lines[0] == (
        "1 of 3 edits have a text longer than the editor reads: its end is cut off"
    )


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


def test_photos_whose_names_are_not_plain_text_are_rows_and_the_rest_goes_on(
    photos, config, follow, tmp_path
):
    for name in (b"pi\xf1a.png", b"dog.png", b"a\nb.png", b"\x1b[2J.png"):
        draw().save(photos / os.fsdecode(name), "PNG")
    run = follow(edit, config(photos, instruction="make it night"), tmp_path / "run")
    assert list(pictures(run)) == ["dog"]
    reasons = {failed["id"]: failed["reason"] for failed in rows(run, "failures")}
    odd = "Its id holds control characters or line breaks: "
    assert reasons == {
        r"pi\xf1a.png": r"Its name is not UTF-8: pi\xf1a. Rename the file.",
        "a\nb.png": odd + r"'a\nb'.",
        "\x1b[2J.png": odd + r"'\x1b[2J'.",
    }


def test_a_folder_of_photos_of_every_kind_is_edited_and_what_is_none_is_listed(
    photos, config, follow, tmp_path
):
    draw(30, 40).save(photos / "portrait.jpg")
    draw(40, 30, "CMYK").save(photos / "cmyk.jpg")
    draw(33, 17, "RGBA").save(photos / "clear.png")
    draw(20, 20, "L").save(photos / "grey.png")
    draw(90, 2).save(photos / "thin.png")
    draw().save(photos / "webp_named_png.png", format="WEBP")
    mask = Image.new("1", (30, 40))
    mask.paste(1, (5, 5, 20, 30))
    mask.save(photos / "portrait_mask.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    draw(40, 30).save(photos / "turned.jpg", exif=turned)
    stream = io.BytesIO()
    draw(64, 64).save(stream, "PNG")
    (photos / "x1_truncated.png").write_bytes(stream.getvalue()[:3000])
    (photos / "x2_empty.png").write_bytes(b"")
    (photos / "x3_text.png").write_text("no picture")
    draw(seed=1).save(photos / "x4_moves.gif", save_all=True, append_images=[draw(seed=2)])
    draw(200, 200).save(photos / "x5_large.png")
    run = follow(
        edit, config(photos, instruction="make it red", max_pixels=30_000), tmp_path / "run"
    )
    assert {name: picture.size for name, picture in pictures(run).items()} == {
        "portrait": (30, 40),
        "cmyk": (40, 30),
        "clear": (33, 17),
        "grey": (20, 20),
        "thin": (90, 2),
        "webp_named_png": (40, 30),
        "turned": (30, 40),
    }
    held = {name: (picture.format, picture.mode) for name, picture in opened(run).items()}
    assert held == {
        "portrait": ("JPEG", "RGB"),
        "cmyk": ("JPEG", "CMYK"),
        "clear": ("PNG", "RGBA"),
        "grey": ("PNG", "RGB"),
        "thin": ("PNG", "RGB"),
        "webp_named_png": ("WEBP", "RGB"),
        "turned": ("JPEG", "RGB"),
    }
    assert {row["id"]: row["mask"] for row in rows(run, "edits") if row["mask"]} == {
        "portrait": "portrait_mask.png"
    }
    assert {row["instruction"] for row in rows(run, "edits")} == {"make it red"}
    reasons = {row["id"]: row["reason"] for row in rows(run, "failures")}
    assert {row["stage"] for row in rows(run, "failures")} == {"source"}
    for name, words in {
        "x1_truncated": "broken or truncated",
        "x2_empty": "is empty (0 bytes)",
        "x3_text": "is not a picture that can be read",
        "x4_moves": "is animated",
        "x5_large": "40,000 pixels, over the limit of 30,000. Raise it with --max-pixels.",
    }.items():
        assert words in reasons.pop(name)
    assert reasons == {}


def test_one_photo_is_edited_alone(photos, config, follow, tmp_path):
    for name in ("dog.png", "cat.png"):
        draw().save(photos / name)
    run = follow(edit, config(photos / "dog.png", instruction="make it red"), tmp_path / "run")
    assert list(pictures(run)) == ["dog"]


def test_two_photos_of_one_stem_do_not_overwrite_each_other(photos, config, follow, tmp_path):
    draw(40, 30).save(photos / "dog.jpg")
    draw(30, 40).save(photos / "dog.png")
    run = follow(edit, config(photos, instruction="make it red"), tmp_path / "run")
    assert {name: picture.size for name, picture in pictures(run).items()} == {
        "dog": (40, 30),
        "dog.png": (30, 40),
    }


def test_a_photo_with_the_longest_name_a_file_may_have_is_edited(photos, config, follow, tmp_path):
    name = "n" * 251
    draw().save(photos / f"{name}.png")
    run = follow(edit, config(photos, instruction="make it red"), tmp_path / "run")
    assert list(pictures(run)) == [name]


def test_photos_without_an_instruction_are_refused_before_a_model_is_loaded(
    photos, config, follow, monkeypatch, tmp_path
):
    draw().save(photos / "dog.png")
    monkeypatch.setattr(recipe, "load_editor", _must_not_be_called)
    with pytest.raises(RicError, match="needs an instruction"):
        follow(edit, config(photos), tmp_path / "run")


def _must_not_be_called(*given: object, **named: object) -> None:
    pytest.fail("a model was loaded")


# --- going on ------------------------------------------------------------------------------------


@pytest.fixture
def edited_ids(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids that editors are asked for, in order."""
    asked: list[str] = []
    original = InstructPix2Pix.edit

    def edit_and_note(
        self: InstructPix2Pix, requests: list[EditRequest], *given: Any
    ) -> list[Image.Image | None]:
        asked.extend(request.id for request in requests)
        return original(self, requests, *given)

    monkeypatch.setattr(InstructPix2Pix, "edit", edit_and_note)
    return asked


def test_an_interrupted_edit_goes_on_where_it_stopped(
    make_edits, config, follow, stop_after, record_of, edited_ids, monkeypatch, tmp_path
):
    data = make_edits(5)
    settings = config(data, batch_size=2)
    with pytest.raises(Interrupted):
        follow(edit, settings, tmp_path / "run", stop_after("editing", 1))
    assert record_of(tmp_path / "run")["status"] == "interrupted"
    # the batch that was begun is finished
    assert edited_ids == ["00", "01"]
    first = (tmp_path / "run/images/00.png").read_bytes()
    opened: list[Path] = []
    note_what_is_opened(monkeypatch, opened)
    monkeypatch.setattr(recipe, "write_sheet", lambda *whole_run, **named: None)
    run = follow(edit, settings, tmp_path / "run")
    assert edited_ids == ["00", "01", "02", "03", "04"]
    assert {path.stem for path in opened} == {"02", "03", "04"}
    assert record_of(run)["status"] == "done"
    assert [row["id"] for row in rows(run, "edits")] == ["00", "01", "02", "03", "04"]
    assert (run / "images/00.png").read_bytes() == first
    whole = follow(edit, settings, tmp_path / "whole")
    assert [picture.tobytes() for picture in pictures(run).values()] == [
        picture.tobytes() for picture in pictures(whole).values()
    ]
    assert not [file for file in (run / "images").iterdir() if file.name.startswith(".")]


def note_what_is_opened(monkeypatch: pytest.MonkeyPatch, opened: list[Path]) -> None:
    """What is done already is not even decoded."""
    original = edit_sample.open_image

    def open_and_note(source: Any, **options: Any) -> Image.Image:
        opened.append(Path(source))
        return original(source, **options)

    monkeypatch.setattr(edit_sample, "open_image", open_and_note)


def test_a_signal_is_heeded_between_denoising_steps_and_the_batch_is_made_anew(
    make_edits, config, follow, record_of, monkeypatch, tmp_path
):
    settings = config(make_edits(3), batch_size=2, steps=5)
    steps, original = [], UNet2DConditionModel.forward

    def forward(self: UNet2DConditionModel, *given: Any, **named: Any) -> Any:
        steps.append(None)
        if len(steps) == 7:  # the second step of the second batch
            signal.raise_signal(signal.SIGTERM)
        return original(self, *given, **named)

    monkeypatch.setattr(UNet2DConditionModel, "forward", forward)
    with pytest.raises(Interrupted) as stopped:
        follow(edit, settings, tmp_path / "run")
    assert stopped.value.exit_code == 143
    assert len(steps) == 7
    assert list(pictures(tmp_path / "run")) == ["00", "01"]
    assert record_of(tmp_path / "run")["status"] == "interrupted"
    run = follow(edit, settings, tmp_path / "run")
    assert len(steps) == 7 + 5
    whole = follow(edit, settings, tmp_path / "whole")
    assert [picture.tobytes() for picture in pictures(run).values()] == [
        picture.tobytes() for picture in pictures(whole).values()
    ]


def test_a_run_that_dies_within_a_batch_computes_that_batch_again_whole_and_ends_as_a_whole_one(
    make_edits, config, follow, edited_ids, monkeypatch, tmp_path
):
    data = make_edits(5)
    settings = config(data, batch_size=3)
    kept, save = [], edited_pictures.save_picture

    def save_four(content: bytes, path: Path) -> None:
        if len(kept) == 4:
            raise OSError(28, "No space left on device")
        save(content, path)
        kept.append((path, path.read_bytes()))

    monkeypatch.setattr(edited_pictures, "save_picture", save_four)
    with pytest.raises(OSError, match="No space left"):
        follow(edit, settings, tmp_path / "run")
    monkeypatch.setattr(edited_pictures, "save_picture", save)
    times = {path: path.stat().st_mtime_ns for path, _ in kept}
    edited_ids.clear()
    run = follow(edit, settings, tmp_path / "run")
    assert edited_ids == ["03", "04"]
    # nothing that was kept is written anew
    assert {path: path.stat().st_mtime_ns for path, _ in kept} == times
    whole = follow(edit, settings, tmp_path / "whole")
    assert {name: picture.tobytes() for name, picture in pictures(run).items()} == {
        name: picture.tobytes() for name, picture in pictures(whole).items()
    }
    assert [row["id"] for row in rows(run, "edits")] == ["00", "01", "02", "03", "04"]


def test_a_run_of_which_every_sample_failed_is_not_done_and_its_mended_samples_are_tried_again(
    make_edits, config, follow, record_of, tmp_path
):
    data = make_edits(2)
    sources = {path: path.read_bytes() for path in sorted((data / "source").iterdir())}
    for path in sources:
        path.write_bytes(b"torn")
    settings = config(data)

    def attempt() -> None:
        opened = open_run(
            "edit", as_dict(settings), runs_dir=tmp_path, run=tmp_path / "run", **AS_TYPED
        )
        with opened as run:
            edit(settings, run)

    with pytest.raises(RicError, match=r"All 2 samples failed\. 00: .*; 01: ") as caught:
        attempt()
    assert "failures.jsonl" in caught.value.hint
    assert record_of(tmp_path / "run")["status"] == "failed"
    assert [row["id"] for row in rows(tmp_path / "run", "failures")] == ["00", "01"]
    with pytest.raises(RicError, match=r"is not finished \(failed\)"):
        artifact_of(tmp_path / "run", "images")
    path, content = next(iter(sources.items()))
    path.write_bytes(content)
    attempt()
    assert record_of(tmp_path / "run")["status"] == "done"
    assert [row["id"] for row in rows(tmp_path / "run", "edits")] == ["00"]
    assert [row["id"] for row in rows(tmp_path / "run", "failures")] == ["01"]


def test_a_picture_that_is_not_finite_is_a_failure_and_the_rest_goes_on(
    make_edits, config, follow, record_of, monkeypatch, tmp_path
):
    original = AutoencoderKL.decode

    def broken(self: AutoencoderKL, *given: Any, **named: Any) -> Any:
        decoded = original(self, *given, **named)
        decoded.sample[1] = torch.nan
        return decoded

    monkeypatch.setattr(AutoencoderKL, "decode", broken)
    run = follow(edit, config(make_edits(3), batch_size=3), tmp_path / "run")
    assert list(pictures(run)) == ["00", "02"]
    assert [row["id"] for row in rows(run, "edits")] == ["00", "02"]
    failed = [(row["id"], row["stage"], row["reason"]) for row in rows(run, "failures")]
    assert failed == [("01", "edited", NOT_FINITE)]
    assert record_of(run)["status"] == "done"


def test_a_failed_sample_is_tried_again_when_the_run_goes_on(
    make_edits, config, follow, stop_after, edited_ids, tmp_path
):
    data = make_edits(3)
    whole = (data / "source/00.png").read_bytes()
    (data / "source/00.png").write_bytes(whole[:100])
    settings = config(data, batch_size=1)
    with pytest.raises(Interrupted):
        follow(edit, settings, tmp_path / "run", stop_after("editing", 1))
    (data / "source/00.png").write_bytes(whole)
    run = follow(edit, settings, tmp_path / "run")
    assert edited_ids == ["01", "00", "02"]
    assert rows(run, "failures") == []


SHARING = """
import sys, time
from pathlib import Path
import ric.recipes.edit as recipe
from ric.config import EditConfig, as_dict
from ric.runs.open_run import open_run

data, folder, me = sys.argv[1], Path(sys.argv[2]), sys.argv[3]

class Slow:
    def edit(self, requests, between_steps):
        for request in requests:
            print(request.id, flush=True)
        # neither goes on before both have samples in hand
        (folder.parent / f"working-{me}").touch()
        while len(list(folder.parent.glob("working-*"))) < 2:
            time.sleep(0.01)
        return [request.image for request in requests]

    def describe(self):
        return {"by": me}

recipe.load_editor = lambda *given: Slow()
recipe.locate = lambda *given: Path("none")
config = EditConfig(data=data, split="all", device="cpu", batch_size=2, unet="none")
AS_TYPED = {"shared": True, "compares": True}
with open_run("edit", as_dict(config), runs_dir=folder.parent, run=folder, **AS_TYPED) as run:
    recipe.edit(config, run)
"""


def test_two_processes_that_share_a_run_edit_each_sample_once(make_edits, record_of, tmp_path):
    data, run = make_edits(16), tmp_path / "run"
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", SHARING, str(data), str(run), name],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "other")
    ]
    answers = [worker.communicate(timeout=300) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], answers
    ids = [out.split() for out, _ in answers]
    everything = [f"{number:02d}" for number in range(16)]
    assert all(ids)
    assert sorted(ids[0] + ids[1]) == everything
    assert sorted(row["id"] for row in rows(run, "edits")) == everything
    by = {row["id"]: row["by"] for row in rows(run, "edits")}
    assert by == dict.fromkeys(ids[0], "one") | dict.fromkeys(ids[1], "other")
    assert list(pictures(run)) == everything
    assert record_of(run)["status"] == "done"


@pytest.fixture
def neighbour() -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
    """Start a living process that claims sample 01 of a run and does not get on with it."""
    claim = (
        "import sys; from pathlib import Path; from ric.runs.claims import Claims;"
        "assert Claims(Path(sys.argv[1])).take('01'); print('taken', flush=True);"
        "sys.stdin.read()"
    )
    started = []

    def start(run: Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", claim, str(run / "claims")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "taken\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_sample_that_a_living_process_claimed_is_left_to_it_and_taken_over_when_it_dies(
    make_edits, config, edited_ids, neighbour, tmp_path
):
    settings = config(make_edits(3), batch_size=1)

    def opened() -> RunDir:
        return open_run(
            "edit", as_dict(settings), runs_dir=tmp_path, run=tmp_path / "run", **AS_TYPED
        )

    with opened() as run:
        process = neighbour(run.path)
        edit(settings, run)
    assert edited_ids == ["00", "02"]
    process.kill()
    process.wait()
    with opened() as run:
        edit(settings, run)
    assert edited_ids == ["00", "02", "01"]
    assert sorted(row["id"] for row in rows(run.path, "edits")) == ["00", "01", "02"]
    assert run.record["status"] == "done"
