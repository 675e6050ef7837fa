"""The sheet of an edit run: sources, edits and targets of its first samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ric.config import EditConfig
from ric.data.drawn_scenes import SceneStream
from ric.data.sample import load_samples
from ric.recipes.edit import edit
from ric.report.edit_sheet import BELOW, COLUMNS, HEADING, SIDE, before_after_target, side_by_side


@pytest.fixture
def edited(tmp_path: Path) -> Path:
    """Pictures of one level each, in place of edits of the first five scenes."""
    for number, sample in enumerate(SceneStream(count=5, seed=5)):
        Image.new("RGB", (64, 64), (40 * number, 0, 0)).save(tmp_path / f"{sample.id}.png")
    return tmp_path


def tile(sheet: Image.Image, number: int, column: int) -> np.ndarray:
    left = (number % COLUMNS) * (3 * SIDE + 20) + column * (SIDE + 4)
    top = number // COLUMNS * (SIDE + 34)
    return np.asarray(sheet.crop((left, top, left + SIDE, top + SIDE)))


def test_it_shows_source_edit_and_target_of_each_sample(edited):
    samples = list(SceneStream(count=5, seed=5))
    sheet = before_after_target(samples, edited)
    for number, sample in enumerate(samples):
        twice = np.asarray(sample.load_source()).repeat(2, 0).repeat(2, 1)
        assert (tile(sheet, number, 0) == twice).all()
        assert (tile(sheet, number, 1) == (40 * number, 0, 0)).all()
        twice = np.asarray(sample.load_target()).repeat(2, 0).repeat(2, 1)
        assert (tile(sheet, number, 2) == twice).all()


def test_editors_stand_side_by_side_between_source_and_target(edited, tmp_path):
    samples = list(SceneStream(count=2, seed=5))
    other = tmp_path / "other"
    other.mkdir()
    Image.new("RGB", (64, 64), (0, 200, 0)).save(other / f"{samples[1].id}.png")
    sheet = np.asarray(side_by_side(samples, {"one": edited, "two": other}))
    for row, sample in enumerate(samples):
        top = HEADING + row * (SIDE + BELOW)
        source, one, two, target = (
            sheet[top : top + SIDE, left : left + SIDE] for left in range(0, 4 * 132, 132)
        )
        assert (source == np.asarray(sample.load_source()).repeat(2, 0).repeat(2, 1)).all()
        assert (target == np.asarray(sample.load_target()).repeat(2, 0).repeat(2, 1)).all()
        assert (one == (40 * row, 0, 0)).all()
        # the second editor has no picture of the first sample: its tile is light grey with a word
        assert (two == (0, 200, 0)).all() if row else (two[0] == 0xEE).all() and two.min() < 0xEE
        below = sheet[top + SIDE : top + SIDE + BELOW]
        assert (below != 255).any()
    assert (sheet[:HEADING] != 255).any()


def test_a_sample_without_its_edit_cannot_be_shown(edited):
    with pytest.raises(FileNotFoundError):
        before_after_target(list(SceneStream(count=6, seed=5)), edited)


def test_an_edit_run_holds_a_sheet_also_of_data_without_targets(make_edits, tiny, follow, tmp_path):
    data = make_edits(3, {number: {"target_file_name": None} for number in range(3)})
    config = tiny(EditConfig, data, split="all", steps=2, image_size=32, limit=2)
    run = follow(edit, config, tmp_path / "run")
    sheet = Image.open(run / "sheet.png")
    assert sheet.size == (2 * (3 * SIDE + 20) - 12, SIDE + 34)
    assert (tile(sheet, 0, 2) == 255).all()
    assert not (tile(sheet, 0, 0) == 255).all()
    assert len(list(load_samples(data))) == 3
