"""The samples of photographs that other tests edit: what they show is what they say."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from ball_photos import COLOURS, PHOTOS, SIZE, SPLITS, ball_rows, draw_ball
from PIL import Image

from ric.data.folder import write_folder
from ric.data.sample import load_samples


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("balls") / "data"
    write_folder(folder, ball_rows(folder))
    return folder


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def test_every_photograph_gives_six_samples_and_every_kind_of_edit(data):
    samples = list(load_samples(data))
    assert len(samples) == len(PHOTOS) * len(SPLITS) == 24
    assert Counter(sample.split for sample in samples) == {"train": 16, "val": 4, "test": 4}
    assert Counter(sample.editing_type for sample in samples) == {
        "Add": 8, "Remove": 8, "Replace": 8,
    }  # fmt: skip
    assert all(sample.instruction and sample.region_text for sample in samples)
    assert all(sample.scene_text for sample in samples)


def test_source_and_target_differ_inside_the_mask_and_by_the_shadow_alone_outside(data):
    for sample in load_samples(data):
        source, target = pixels(sample.load_source()), pixels(sample.load_target())
        mask = np.asarray(sample.load_mask()) > 0
        assert source.shape == target.shape == (SIZE, SIZE, 3)
        assert 0.03 < mask.mean() < 0.15
        changed = np.abs(source - target).max(axis=2)
        assert changed[mask].mean() > 15, sample.id
        if sample.editing_type == "Replace":
            # the same shadow on both, and the mask's edge is a pixel wide
            assert (changed[~mask] > 60).mean() < 0.02
        elif sample.editing_type == "Add":
            # a shadow only darkens
            assert (target - source)[~mask].mean() <= 0
        else:
            assert (source - target)[~mask].mean() <= 0


def test_the_words_tell_the_colour_and_the_side(data):
    for sample in load_samples(data):
        first = next(word for word in sample.instruction.lower().split() if word in COLOURS)
        mask = np.asarray(sample.load_mask()) > 0
        before = sample.editing_type != "Add"
        picture = pixels(sample.load_source() if before else sample.load_target())
        channel = list(COLOURS).index(first)
        assert picture[mask].mean(axis=0).argmax() == channel, sample.id
        if sample.editing_type == "Add":
            side = "left" if np.argwhere(mask)[:, 1].mean() < SIZE / 2 else "right"
            assert side in sample.instruction


def test_the_samples_are_the_same_every_time(data, tmp_path):
    rows = list(ball_rows(tmp_path))
    for row in rows[:3]:
        again = (tmp_path / row["target_file_name"]).read_bytes()
        assert again == (data / row["target_file_name"]).read_bytes()


def test_a_ball_is_lit_from_the_upper_left_and_leaves_the_rest_but_for_its_shadow():
    plain = Image.new("RGB", (SIZE, SIZE), (128, 128, 128))
    ball = pixels(draw_ball(plain, np.array([64.0, 60.0]), 20.0, (200, 30, 30)))
    lit, dark = ball[50, 54], ball[70, 74]
    assert lit[0] > dark[0] + 40
    assert lit[0] > 2 * lit[1]
    # below it, to its right: shadow; far away: nothing
    assert ball[82, 74].max() < 110
    assert (ball[:20] == 128).all()
    assert (pixels(plain) == 128).all()
