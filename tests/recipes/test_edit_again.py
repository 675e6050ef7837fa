"""A repeated `ric edit` looks at what it has made, and makes only what is missing or other now."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from noting import Noting
from PIL import Image

import ric.recipes.edit as recipe
from ric.config import EditConfig, as_dict
from ric.data.images import content_hash
from ric.data.photos import find_photos
from ric.editors import requests
from ric.errors import RicError
from ric.recipes.edit import edit

EDITORS = '''
"""Editors without a network; `asked.txt` beside this file tells what they were asked for."""
import os, time
from pathlib import Path
from PIL import ImageOps

class Inverts:
    def __init__(self, model, config, device):
        self.file = Path(__file__).with_name("asked.txt")

    def edit(self, requests, between_steps=lambda: None):
        between_steps()
        for request in requests:
            with self.file.open("a") as stream:
                stream.write(request.id + "\\n")
        time.sleep(float(os.environ.get("RIC_TEST_PAUSE", 0)))
        refused = os.environ.get("RIC_TEST_REFUSED", "").split()
        return [
            None if request.id in refused else ImageOps.invert(request.image)
            for request in requests
        ]

    def describe(self):
        return {}
'''


@pytest.fixture
def own(tiny: Callable[..., EditConfig], tmp_path: Path) -> Callable[..., EditConfig]:
    """Settings of an edit by the editor above, one photo a batch."""
    file = tmp_path / "editors.py"
    file.write_text(EDITORS)

    def make(data: Path | str, **changes: Any) -> EditConfig:
        usual = {"editor": f"{file}:Inverts", "instruction": "invert it", "batch_size": 1}
        return tiny(EditConfig, data, **{**usual, **changes})

    return make


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six photos, of which one has a mask and one is torn."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, name in enumerate(("ant", "bee", "cat", "dog", "elk", "fox")):
        draw(number).save(folder / f"{name}.png")
    half(0).save(folder / "cat_mask.png")
    (folder / "fox.png").write_bytes((folder / "fox.png").read_bytes()[:90])
    return folder


def draw(seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    return Image.fromarray(coarse)


def half(left: int) -> Image.Image:
    mask = Image.new("L", (40, 30))
    mask.paste(255, (left, 0, left + 20, 30))
    return mask


def asked(own_file: Path) -> list[str]:
    """The ids that the editor was asked for since the last look."""
    file = own_file / "asked.txt"
    names = file.read_text().split() if file.exists() else []
    file.unlink(missing_ok=True)
    return names


def rows(run: Path, kind: str = "edits") -> dict[str, dict[str, Any]]:
    file = run / f"{kind}.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    found = [json.loads(line) for line in lines]
    assert len({row["id"] for row in found}) == len(found)
    return {row["id"]: row for row in found}


def contents(folder: Path) -> dict[str, bytes]:
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_a_repeated_edit_of_photos_makes_what_is_new_changed_deleted_or_mended_and_keeps_the_rest(
    photos, own, follow, tmp_path, monkeypatch
):
    out, run = tmp_path / "out", tmp_path / "run"
    config = own(photos, out=str(out))
    follow(edit, config, run)
    assert asked(tmp_path) == ["ant", "bee", "cat", "dog", "elk"]
    kept = {name: (out / f"{name}.png").stat().st_mtime_ns for name in ("bee", "elk")}
    draw(7).save(photos / "ant.png")  # other pixels, the same size
    half(10).save(photos / "cat_mask.png")
    (out / "dog.png").unlink()
    draw(5).save(photos / "fox.png")
    draw(8).save(photos / "gnu.png")
    noting = Noting()
    follow(edit, config, run, noting)
    assert noting.lines == ["2 kept, 1 new, 3 changed, 1 deleted"]
    assert asked(tmp_path) == ["ant", "cat", "dog", "fox", "gnu"]
    assert kept == {name: (out / f"{name}.png").stat().st_mtime_ns for name in kept}
    assert rows(run, "failures") == {}
    whole = follow(edit, own(photos, out=str(tmp_path / "whole")), tmp_path / "undisturbed")
    assert contents(out) == contents(tmp_path / "whole")
    same = ("inputs", "source_sha256", "mask", "instruction", "batch")
    for name, row in rows(whole).items():
        assert {key: row[key] for key in same} == {key: rows(run)[name][key] for key in same}
    asked(tmp_path)

    # and once more: there is nothing to do, and no editor is loaded for it
    monkeypatch.setattr(recipe, "load_editor", lambda *given: pytest.fail("an editor was loaded"))
    (photos / "bee.png").unlink()
    noting = Noting()
    follow(edit, config, run, noting)
    assert noting.lines == ["6 kept, 1 no longer asked for (their edits stay)"]
    assert (out / "bee.png").is_file()


def test_a_repeated_edit_of_a_data_set_ends_as_a_new_one_of_the_data_as_it_is_now(
    make_edits, tiny, follow, tmp_path
):
    data, run = make_edits(8, {7: {"instruction": None}}), tmp_path / "run"
    config = tiny(EditConfig, data, split="all", steps=1, image_size=32, batch_size=2)
    torn = (data / "source/01.png").read_bytes()
    (data / "source/01.png").write_bytes(torn[:100])
    follow(edit, config, run)
    assert set(rows(run, "failures")) == {"01", "07"}
    table = [json.loads(line) for line in (data / "metadata.jsonl").read_text().splitlines()]
    table[2]["instruction"] = "paint the sky black"
    table[7]["instruction"] = "add a bird"
    (data / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))
    (data / "source/01.png").write_bytes(torn)
    (data / "source/04.png").write_bytes((data / "source/05.png").read_bytes())
    (run / "images/06.png").unlink()
    noting = Noting()
    follow(edit, config, run, noting)
    # the row without an instruction was no sample before
    assert noting.lines[0] == "3 kept, 4 changed, 1 deleted"
    assert rows(run, "failures") == {}
    whole = follow(edit, config, tmp_path / "whole")
    made, wanted = contents(run / "images"), contents(whole / "images")
    # 00 was made before its batch had 01: sums of another batch may round otherwise
    one, other = (np.asarray(Image.open(folder / "images/00.png"), int) for folder in (run, whole))
    assert np.abs(one - other).max() <= 1
    assert {**made, "00.png": b""} == {**wanted, "00.png": b""}
    (data / "source/04.png").write_bytes(b"torn")
    follow(edit, config, run)
    # an edit of a picture that is gone would be scored
    assert set(rows(run, "failures")) == {"04"}
    assert "04.png" not in contents(run / "images")


def test_what_failed_and_has_not_changed_stays_failed_unless_it_is_to_be_tried_again(
    photos, own, follow, tmp_path
):
    run, once = tmp_path / "run", own(photos)
    follow(edit, once, run)
    asked(tmp_path)
    failure = rows(run, "failures")
    for more, told in (
        ({}, "5 kept, 1 failed before and unchanged (--retry-failed tries them again)"),
        ({"retry_failed": True}, "5 kept, 1 tried again"),
    ):
        noting = Noting()
        follow(edit, own(photos, **more), run, noting)
        assert noting.lines == [told]
        assert rows(run, "failures") == failure
        assert asked(tmp_path) == []


def test_edits_are_made_anew_by_name_or_all_of_them(photos, own, follow, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(RicError, match="--redo goes with a run that began before"):
        follow(edit, own(photos, redo=("ant",)), tmp_path / "new")
    follow(edit, own(photos), run)
    asked(tmp_path)
    before = contents(run / "images")
    follow(edit, own(photos, redo=("dog", "ant")), run)
    assert asked(tmp_path) == ["ant", "dog"]
    with pytest.raises(RicError, match=r"--redo dg: there is no such edit\.") as caught:
        follow(edit, own(photos, redo=("dg",)), run)
    assert "Did you mean 'dog'?" in caught.value.hint
    follow(edit, own(photos, overwrite=True), run)
    assert asked(tmp_path) == ["ant", "bee", "cat", "dog", "elk"]
    assert contents(run / "images") == before


@pytest.mark.parametrize("into", ["the run", "a folder"])
def test_an_edit_that_was_made_and_now_fails_leaves_no_picture_that_looks_like_a_new_one(
    into, photos, own, follow, tmp_path, monkeypatch
):
    run, folder = tmp_path / "run", tmp_path / "out"
    usual = {} if into == "the run" else {"out": str(folder)}
    folder = run / "images" if into == "the run" else folder
    follow(edit, own(photos, **usual), run)
    before, named = contents(folder), rows(run)["dog"]["file_name"]
    (folder / "mine.png").write_bytes(b"somebody's own")
    monkeypatch.setenv("RIC_TEST_REFUSED", "dog fox")  # of fox there was no picture
    noting = Noting()
    follow(edit, own(photos, **usual, redo=("dog", "cat", "fox")), run, noting)
    left = contents(folder)
    assert left.pop("mine.png") == b"somebody's own"
    assert left == {name: content for name, content in before.items() if name != "dog.png"}
    failed = rows(run, "failures")
    assert failed["dog"]["removed"] == named
    assert "removed" not in failed["fox"]
    assert (
        "1 edits failed that had been made before; their earlier pictures were removed"
        f" (such as {named})"
    ) in noting.lines
    (photos / "elk.png").write_bytes(b"torn now")  # a change that fails is of the same kind
    follow(edit, own(photos, **usual), run)
    assert rows(run, "failures").keys() == {"dog", "elk", "fox"}
    assert not (folder / "elk.png").exists()
    monkeypatch.delenv("RIC_TEST_REFUSED")
    follow(edit, own(photos, **usual, retry_failed=True), run)
    assert (folder / "dog.png").read_bytes() == before["dog.png"]


def test_another_instruction_or_mask_is_a_change_and_another_setting_is_refused(
    photos, own, follow, tmp_path
):
    run = tmp_path / "run"
    follow(edit, own(photos), run)
    asked(tmp_path)
    follow(edit, own(photos, mask="none"), run)
    assert asked(tmp_path) == ["cat"]
    noting = Noting()
    follow(edit, own(photos, mask="none", instruction="turn it round"), run, noting)
    assert noting.lines == ["6 changed"]  # the torn one, too, is asked for with another text
    with pytest.raises(RicError, match=r"other settings: feather: 0 there, 3 now"):
        follow(edit, own(photos, feather=3), run)


def test_a_new_photo_never_overwrites_what_another_put_into_out(photos, own, follow, tmp_path):
    out = tmp_path / "out"
    config = own(photos, out=str(out))
    follow(edit, config, tmp_path / "run")
    draw(9).save(photos / "gnu.png")
    (out / "gnu.png").write_bytes(b"mine")
    asked(tmp_path)
    with pytest.raises(RicError, match=r"1 of the results' files are in .*gnu\.png"):
        follow(edit, config, tmp_path / "run")
    assert (out / "gnu.png").read_bytes() == b"mine"
    assert asked(tmp_path) == []
    follow(edit, own(photos, out=str(out), overwrite=True), tmp_path / "run")
    assert (out / "gnu.png").read_bytes() != b"mine"


def test_rows_of_an_earlier_version_which_tell_no_inputs_are_kept(photos, own, follow, tmp_path):
    run = tmp_path / "run"
    follow(edit, own(photos), run)
    asked(tmp_path)
    for kind in ("edits", "failures"):
        old = [{**row, "inputs": None} for row in rows(run, kind).values()]
        (run / f"{kind}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in old))
    noting = Noting()
    follow(edit, own(photos), run, noting)
    assert noting.lines == ["5 kept, 1 changed"]  # what failed is tried once more
    assert asked(tmp_path) == []


def test_an_edit_that_gets_another_suffix_replaces_the_old_one(photos, own, follow, tmp_path):
    """A photo gives way to one of the same name in another format."""
    for how, folder in (({}, "run/images"), ({"out": str(tmp_path / "out")}, "out")):
        config, run = own(photos, **how), tmp_path / folder.partition("/")[0]
        run = run if run.name == "run" else tmp_path / "run-out"
        follow(edit, config, run)
        draw(3).save(photos / "dog.jpg")
        (photos / "dog.png").unlink()
        (tmp_path / folder / "elk.webp").write_bytes(b"mine")
        follow(edit, config, run)
        names = {file.name for file in (tmp_path / folder).iterdir()}
        assert names == {"ant.png", "bee.png", "cat.png", "dog.jpg", "elk.png", "elk.webp"}
        (photos / "dog.jpg").rename(photos / "dog.png")
        draw(3).save(photos / "dog.png")


def test_edits_that_stay_beside_those_in_another_format_are_said(photos, own, follow, tmp_path):
    out, runs = tmp_path / "out", tmp_path / "runs"
    follow(edit, own(photos, out=str(out), limit=2), runs / "00001-edit")
    noting = Noting()
    follow(edit, own(photos, out=str(out), limit=3, format="webp"), runs / "00002-edit", noting)
    assert (
        f"Earlier runs' edits of the same photos stay beside these (2, such as {out / 'ant.png'})"
    ) in noting.lines
    assert len(contents(out)) == 5


def test_another_size_of_a_target_to_which_the_source_is_resized_is_a_change(
    make_edits, own, follow, tmp_path
):
    data, run = make_edits(3), tmp_path / "run"
    config = own(data, instruction=None, split="all")
    follow(edit, config, run)
    target = data / "target/01.png"
    Image.open(target).resize((20, 20)).save(target)
    Image.open(data / "target/02.png").transpose(Image.Transpose.ROTATE_180).save(
        data / "target/02.png"
    )
    noting = Noting()
    follow(edit, config, run, noting)
    assert noting.lines[0] == "2 kept, 1 changed"
    assert Image.open(run / "images/01.png").size == (20, 20)
    assert rows(run)["01"]["edited_at"] == [20, 20]


def test_a_file_is_read_for_its_hash_once_unless_it_has_changed(photos, own, monkeypatch):
    (photo, *_) = find_photos(config := own(photos))
    read: list[object] = []

    def reading(source: object) -> str:
        read.append(source)
        return content_hash(source)

    monkeypatch.setattr(requests, "content_hash", reading)
    first = requests.inputs_of(photo, config)["source_sha256"]
    assert requests.inputs_of(photo, config)["source_sha256"] == first
    assert read == [photo.path]
    before = photo.path.stat()
    content = photo.path.read_bytes()
    photo.path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(photo.path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as if it had not
    other = hashlib.sha256(photo.path.read_bytes()).hexdigest()
    assert requests.inputs_of(photo, config)["source_sha256"] == other != first


# --- one edit again ------------------------------------------------------------------------------


def test_an_edit_is_made_again_from_its_row_to_the_bit(photos, tiny, follow, tmp_path):
    half(0).save(photos / "bee_mask.png")
    how = {"steps": 2, "image_size": 32, "batch_size": 3, "feather": 2, "format": "webp"}
    how |= {"seed": 5, "guidance": 3.0, "quality": 80, "editor": "ip2p"}
    first = follow(edit, tiny(EditConfig, photos, instruction="make it red", **how), tmp_path / "r")
    made, (name, row) = rows(first), list(rows(first).items())[1]
    assert name == "bee"
    settings = {
        key: row[key]
        for key in (
            "instruction", "editor", "steps", "guidance", "image_guidance", "image_size", "seed",
            "feather", "crop_to_mask", "format", "quality",
        )
    }  # fmt: skip
    # the last bits depend on the batch, which the row names
    sources = [made[other]["source"] for other in row["batch"]]
    assert len(sources) == 3
    config = tiny(
        EditConfig, sources[0], also=tuple(sources[1:]), unet=row["model"], batch_size=3, **settings
    )
    again = follow(edit, config, tmp_path / "again")
    file = row["file_name"]
    assert (again / file).read_bytes() == (first / file).read_bytes()
    assert rows(again)[name] == row


# --- several processes ---------------------------------------------------------------------------

TOGETHER = """
import json, sys
from pathlib import Path
from ric.config import EditConfig, as_dict
from ric.recipes.edit import edit
from ric.runs.open_run import open_run

settings, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
config = EditConfig(**{**settings, "also": (), "redo": tuple(settings["redo"])})
sys.stdin.readline()
with open_run(
    "edit", as_dict(config), runs_dir=folder.parent, run=folder, shared=True, compares=True
) as run:
    edit(config, run)
"""


@pytest.fixture
def changed(photos, own, follow, tmp_path) -> tuple[EditConfig, Path, list[str]]:
    """A finished run, ten of whose photos have changed since."""
    config, run, numbers = own(photos), tmp_path / "run", range(10, 20)
    for number in numbers:
        draw(number).save(photos / f"p{number}.png")
    follow(edit, config, run)
    for number in numbers:
        draw(50 + number).save(photos / f"p{number}.png")
    asked(tmp_path)
    return config, run, [f"p{number}" for number in numbers]


@pytest.fixture
def start(changed) -> Iterator[Callable[..., list[subprocess.Popen[str]]]]:
    """Let some processes repeat its command, all at once."""
    config, run, _ = changed
    words = [sys.executable, "-c", TOGETHER, json.dumps(as_dict(config)), str(run)]
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started: list[subprocess.Popen[str]] = []

    def all_at_once(count: int, **variables: str) -> list[subprocess.Popen[str]]:
        env = os.environ | variables
        started.extend(subprocess.Popen(words, env=env, **pipes) for _ in range(count))
        for worker in started:
            worker.stdin.write("go\n")
            worker.stdin.flush()
        return started

    yield all_at_once
    for worker in started:
        worker.kill()
        worker.wait()


def test_a_repeat_that_is_killed_and_repeated_ends_as_if_undisturbed(
    changed, start, follow, tmp_path
):
    config, run, names = changed
    (worker,) = start(1, RIC_TEST_PAUSE="0.3")
    file = tmp_path / "asked.txt"
    while worker.poll() is None and (not file.exists() or len(file.read_text().split()) < 4):
        time.sleep(0.01)
    worker.kill()
    worker.wait()
    before = asked(tmp_path)
    assert names[:4] == before[:4]
    assert len(before) < 10
    noting = Noting()
    follow(edit, config, run, noting)
    left = asked(tmp_path)
    assert left == names[-len(left) :]
    # the one that was in hand when it was killed is made anew, unless it was just finished
    assert len(before) + len(left) in (10, 11)
    assert noting.lines[0].startswith(f"{15 - len(left)} kept, {len(left)} new, 1 failed before")
    refuse_difference_from_an_undisturbed(run, follow(edit, config, tmp_path / "undisturbed"))


def refuse_difference_from_an_undisturbed(run: Path, whole: Path) -> None:
    assert contents(run / "images") == contents(whole / "images")
    assert {name: row["inputs"] for name, row in rows(run).items()} == {
        name: row["inputs"] for name, row in rows(whole).items()
    }


def test_several_processes_that_repeat_an_edit_at_once_make_each_changed_one_once(
    changed, start, follow, record_of, tmp_path
):
    config, run, names = changed
    workers = start(2)
    errors = [worker.communicate(timeout=120)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], errors
    assert sorted(asked(tmp_path)) == names
    assert record_of(run)["status"] == "done"
    refuse_difference_from_an_undisturbed(run, follow(edit, config, tmp_path / "undisturbed"))


@pytest.mark.parametrize("started_by", ["a first attempt", "a repeat"])
def test_a_process_that_joins_another_cannot_ask_for_edits_again_and_says_so(
    started_by, photos, own, changed, start, follow, record_of, tmp_path
):
    config, run, names = changed
    if started_by == "a first attempt":
        shutil.rmtree(run)
    (worker,) = start(1, RIC_TEST_PAUSE="0.3")
    file = tmp_path / "asked.txt"
    while worker.poll() is None and (not file.exists() or len(file.read_text().split()) < 2):
        time.sleep(0.01)
    made = file.read_text().split()[0]
    with pytest.raises(RicError, match=r"Another process is at work in .*: --redo") as caught:
        follow(edit, own(photos, redo=(made,)), run)
    assert "without them, it helps" in caught.value.hint
    follow(edit, config, run)  # helps
    worker.communicate(timeout=120)
    assert worker.returncode == 0
    assert record_of(run)["status"] == "done"
    fresh = ["ant", "bee", "cat", "dog", "elk"] if started_by == "a first attempt" else []
    assert sorted(asked(tmp_path)) == [*fresh, *names]
