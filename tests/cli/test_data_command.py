"""`ric data` as it is typed: what it writes, says, and exits with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from ric.data.sample import load_samples


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two photos, a mask beside one of them, and an edit of the other."""
    folder = tmp_path / "photos"
    (tmp_path / "edited").mkdir()
    folder.mkdir()
    for name in ("cat", "dog"):
        Image.new("RGB", (32, 24), (200, 9, 9)).save(folder / f"{name}.png")
        Image.new("RGB", (32, 24), (9, 200, 9)).save(tmp_path / f"edited/{name}.png")
    mask = Image.new("L", (32, 24))
    mask.paste(255, (4, 4, 12, 12))
    mask.save(folder / "dog_mask.png")
    (tmp_path / "texts.csv").write_text("id,instruction\ncat,make it green\ndog,make it green\n")
    return folder


FROM_PHOTOS = ("--source", "photos", "--target", "edited", "--texts", "texts.csv")


def test_loose_pictures_become_a_folder_that_every_command_reads(ric, photos):
    said = ric("data", "my edits", *FROM_PHOTOS)
    assert (said.code, said.out) == (0, "my edits\n")
    assert "2 samples, 2 with a target, 1 with a mask.\n" in said.err
    assert said.err.endswith("Next: ric describe 'my edits'\n")
    samples = list(load_samples("my edits"))
    assert [sample.id for sample in samples] == ["cat", "dog"]
    assert {sample.instruction for sample in samples} == {"make it green"}
    assert samples[1].has_mask


def test_photos_without_edits_are_followed_by_a_text_that_needs_none(ric, photos):
    said = ric("data", "own", "--source", "photos")
    command = said.err.splitlines()[-1].removeprefix("Next: ric ")
    assert command == "describe own --what source-caption"
    few = ("--preset", "tiny", "--describer", "chat", "--max-new-tokens", "4")
    said = ric(*command.split(), *few, "--no-quality-gates", "--run", "run")
    assert said.code == 0
    assert len(Path("run/descriptions.jsonl").read_text().splitlines()) == 2
    # the region of one's own photo, from the mask beside it
    region = ("describe", "own", "--what", "region", "--image", "source", *few)
    assert ric(*region, "--no-quality-gates", "--run", "regions").code == 3  # the cat has no mask
    (row,) = map(json.loads, Path("regions/descriptions.jsonl").read_text().splitlines())
    assert row["id"] == "dog"
    assert row["region_text"]


def test_json_is_one_object_with_the_counts(ric, photos):
    said = ric("data", "out", *FROM_PHOTOS, "--json")
    assert said.code == 0
    assert json.loads(said.out) == {
        "command": "data", "folder": "out", "rows": 2, "targets": 2, "masks": 1, "failures": [],
        "unmatched": [],
    }  # fmt: skip
    assert "Next:" not in said.err


def test_quiet_says_nothing_but_the_folder(ric, photos):
    said = ric("data", "out", *FROM_PHOTOS, "--quiet")
    assert (said.code, said.out, said.err) == (0, "out\n", "")


def test_a_photo_that_cannot_be_used_is_left_out_and_makes_it_3(ric, photos):
    (photos / "cat.png").write_bytes(b"no picture")
    said = ric("data", "out", *FROM_PHOTOS)
    assert (said.code, said.out) == (3, "out\n")
    assert "1 samples, " in said.err
    assert "left out: Sample 'cat', source: " in said.err


@pytest.mark.parametrize("words", [FROM_PHOTOS, ("--from", "rows.jsonl")], ids=["loose", "data"])
def test_where_nothing_can_be_used_nothing_is_written_and_no_next_step_is_named(ric, photos, words):
    for name in ("cat.png", "dog.png"):
        (photos / name).write_bytes(b"no picture")
    if "--from" in words:
        row = json.dumps({"id": "cat", "source_file_name": "cat.png", "instruction": "x"})
        (photos / "metadata.jsonl").write_text(f"{row}\nno row\n")
        words = ("--from", str(photos))
    said = ric("data", "out", *words)
    assert (said.code, said.out) == (1, "")
    assert "Error: No sample can be used: nothing is written to 'out'. Sample 'cat'" in said.err
    assert ("left out: Sample 'metadata.jsonl:2'" in said.err) == ("--from" in words)
    assert "Next:" not in said.err
    assert not (Path("out") / "metadata.jsonl").exists()


def test_any_data_is_written_as_such_a_folder(ric, data):
    said = ric("data", "out", "--from", data, "--limit", "2", "--json")
    assert said.code == 0
    assert json.loads(said.out)["rows"] == 2
    assert [sample.id for sample in load_samples("out")] == ["0", "1"]


def test_data_that_is_not_there_is_1(ric):
    said = ric("data", "out", "--from", "nowhere")
    assert (said.code, said.out) == (1, "")
    assert "No data at 'nowhere'." in said.err
