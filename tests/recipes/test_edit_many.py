"""Several instructions and seeds for each photo: files, rows, the sheet, and a bounded memory."""

from __future__ import annotations

import json
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from noting import Noting
from PIL import Image

import ric.editors.requests as requests
from ric.config import EditConfig
from ric.editors.editor import EditRequest
from ric.editors.instruct_pix2pix import InstructPix2Pix
from ric.errors import RicError
from ric.recipes.edit import edit
from ric.report.edit_sheet import SIDE


def rows(run: Path, kind: str = "edits") -> dict[str, dict[str, Any]]:
    lines = (run / f"{kind}.jsonl").read_text().splitlines()
    return {row["id"]: row for row in map(json.loads, lines)}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, name in enumerate(("cat", "dog")):
        coarse = np.random.default_rng(number).integers(0, 256, (32, 48, 3), dtype=np.uint8)
        Image.fromarray(coarse).save(folder / f"{name}.png")
    return folder


def test_every_photo_is_edited_by_each_instruction_with_each_seed(
    photos, tiny, follow, tiny_family, tmp_path
):
    out = tmp_path / "out"
    how = {"steps": 2, "image_size": 32, "batch_size": 1, "out": str(out), "guidance": 7.5}
    config = tiny(
        EditConfig,
        photos,
        instruction="make it red",
        more_instructions=("add snow",),
        seeds="0,5",
        **how,
    )
    run = follow(edit, config, tmp_path / "run")
    names = [
        f"{photo}_{words}_seed{seed}"
        for photo in ("cat", "dog")
        for words in ("make-it-red", "add-snow")
        for seed in (0, 5)
    ]
    assert sorted(file.stem for file in out.iterdir()) == sorted(names)
    found = rows(run)
    assert list(found) == names
    assert {(row["instruction"], row["seed"]) for row in found.values()} == {
        (text, seed) for text in ("make it red", "add snow") for seed in (0, 5)
    }
    pixels = {name: np.asarray(Image.open(out / f"{name}.png")).tobytes() for name in names}
    assert len(set(pixels.values())) == 8
    editor = InstructPix2Pix(
        tiny_family / "pipeline",
        device=torch.device("cpu"),
        dtype="fp32",
        steps=2,
        image_size=32,
        guidance=7.5,
        image_guidance=config.image_guidance,
    )
    name, source = "dog_add-snow_seed5", Image.open(photos / "dog.png").convert("RGB")
    (wanted,) = editor.edit([EditRequest(name, source, "add snow", seed=5)])
    assert np.asarray(wanted).tobytes() == pixels[name]


def test_the_sheet_shows_photo_and_edit_of_each_with_its_instruction(
    photos, tiny, follow, tmp_path
):
    texts = ("make it red", "add snow")
    config = tiny(EditConfig, photos, editor="none")
    sheet = Image.open(follow(edit, config, tmp_path / "plain") / "sheet.png")
    assert sheet.size == (2 * (2 * SIDE + 16) - 12, SIDE + 34)
    below = np.asarray(sheet.crop((0, SIDE, *sheet.size)))
    assert (below == 255).all()  # nothing was told to an editor that reads nothing
    config = tiny(EditConfig, photos, more_instructions=texts, steps=1, image_size=32)
    run = follow(edit, config, tmp_path / "told")
    sheet = Image.open(run / "sheet.png")
    assert sheet.size == (3 * (2 * SIDE + 16) - 12, 2 * (SIDE + 34))
    tiles = [
        np.asarray(sheet.crop((left, 0, left + SIDE, SIDE)))
        for left in (0, SIDE + 4, 2 * SIDE + 16, 3 * SIDE + 20)
    ]
    assert np.array_equal(tiles[0], tiles[2])  # the same photo
    assert not np.array_equal(tiles[1], tiles[3])
    texts_drawn = [
        np.asarray(sheet.crop((left, SIDE, left + 2 * SIDE, SIDE + 34)))
        for left in (0, 2 * SIDE + 16)
    ]
    assert all((drawn < 128).any() for drawn in texts_drawn)
    assert not np.array_equal(*texts_drawn)


def test_a_row_added_to_the_file_of_instructions_is_made_and_the_rest_is_kept(
    photos, tiny, follow, tmp_path
):
    file, run = tmp_path / "todo.csv", tmp_path / "run"
    file.write_text("file,instruction\ncat.png,add snow\ndog.png,add snow\nlost.png,add snow\n")
    config = tiny(EditConfig, photos, instructions=str(file), steps=1, image_size=32, batch_size=1)
    follow(edit, config, run)
    assert list(rows(run)) == ["cat", "dog"]
    assert list(rows(run, "failures")) == ["todo.csv:4"]
    file.write_text("file,instruction\ncat.png,add snow\ndog.png,make it red\n")
    noting = Noting()
    follow(edit, config, run, noting)
    assert noting.lines[0] == "1 kept, 1 changed"
    assert rows(run)["dog"]["instruction"] == "make it red"
    assert not (run / "failures.jsonl").exists()


def test_a_picture_is_no_file_of_instructions(photos, tiny, follow, tmp_path):
    config = tiny(EditConfig, photos, instructions=str(photos / "cat.png"), steps=1)
    with pytest.raises(RicError) as caught:
        follow(edit, config, tmp_path / "run")
    assert "cat.png is a picture, not a file of instructions." in caught.value.message
    assert caught.value.hint is not None
    assert "a txt or csv file" in caught.value.hint
    assert "--instruction TEXT" in caught.value.hint


def test_no_more_photos_are_held_decoded_than_two_batches(tiny, follow, monkeypatch, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(40):
        Image.new("RGB", (16, 16), (number, 0, 0)).save(folder / f"{number:02d}.png")
    held, most, original = [], [], requests.open_photograph

    def opened(*given: Any, **named: Any) -> Any:
        photo = original(*given, **named)
        held.append(weakref.ref(photo))
        most.append(sum(one() is not None for one in held))
        return photo

    monkeypatch.setattr(requests, "open_photograph", opened)
    follow(edit, tiny(EditConfig, folder, editor="none", batch_size=4), tmp_path / "run")
    assert len(most) == 40
    assert max(most) <= 8
