"""What a describer is shown and asked, by kind of text."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from asking import request_for
from PIL import Image

from ric.config import TEXT_OF, DescribeConfig
from ric.data.edit_sample import EditSample, Pictures
from ric.describers.describer import in_batches
from ric.describers.prompt import PROMPTS, prompt_hash, prompts_of
from ric.describers.requests import REGION_PIXELS, fitted, with_box
from ric.errors import RicError, SampleError

SOURCE, TARGET = Image.new("RGB", (160, 80), "white"), Image.new("RGB", (160, 80), "black")


def sample(name: str = "a", box: tuple[int, int, int, int] = (20, 10, 60, 50)) -> EditSample:
    mask = Image.new("L", SOURCE.size)
    mask.paste(255, box)
    target = TARGET.copy()
    target.paste((0, 0, 255), box)
    pictures = Pictures(source=SOURCE, target=target, mask=mask)
    return EditSample(id=name, instruction="paint the {left} ball", pictures=pictures)


def test_each_kind_of_text_has_its_prompt_its_picture_and_its_column():
    shown = {what: request_for(sample(), what).load_pictures()[0] for what in PROMPTS}
    corner = {what: picture.getpixel((159, 79)) for what, picture in shown.items()}
    assert {what for what, pixel in corner.items() if pixel == (255, 255, 255)} == {
        "target-caption",
        "source-caption",
        "explicit-instruction",
    }
    of_source = request_for(sample(), "scene", image="source").load_pictures()
    assert of_source[0].tobytes() == SOURCE.tobytes()
    assert PROMPTS.keys() == TEXT_OF.keys()
    instructed = {what for what, prompt in PROMPTS.items() if "{edit_prompt}" in prompt}
    assert instructed == {"scene", "target-caption", "explicit-instruction"}
    for what in instructed:
        assert '"paint the {left} ball"' in request_for(sample(), what).prompt


def test_a_region_is_shown_with_a_box_round_it_and_cut_out():
    whole, cut = request_for(sample(), "region").load_pictures()
    assert whole.size == TARGET.size
    assert cut.size == (40, 40)
    assert set(cut.getdata()) == {(0, 0, 255)}
    red = np.asarray(whole) == (255, 0, 0)
    rows, columns = np.nonzero(red.all(-1))
    # a line of two pixels, outside the region
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (8, 51, 18, 61)
    assert len(rows) == 44 * 44 - 40 * 40
    assert whole.getpixel((20, 10)) == whole.getpixel((59, 49)) == (0, 0, 255)


def test_a_small_region_is_cut_out_with_what_is_round_it():
    _, cut = request_for(sample(box=(0, 0, 3, 3)), "region").load_pictures()
    assert cut.size == (20, 10)
    lone = EditSample(id="a", instruction="x", pictures=Pictures(source=SOURCE))
    with pytest.raises(SampleError, match="No mask for sample 'a'"):
        request_for(lone, "region", image="source").load_pictures()


def test_a_large_picture_is_scaled_down_and_a_small_one_kept():
    assert fitted(SOURCE, REGION_PIXELS) is SOURCE
    large = fitted(Image.new("RGB", (3000, 1500)), REGION_PIXELS)
    assert large.width * large.height <= REGION_PIXELS < 1.01 * large.width * large.height
    assert large.width / large.height == pytest.approx(2, rel=1e-2)
    assert fitted(Image.new("RGB", (5000, 1)), 1024).size == (2262, 1)
    assert with_box(SOURCE, (0, 0, 160, 80)).tobytes() == SOURCE.tobytes()  # nothing is outside


def test_a_prompt_of_ones_own_takes_the_place_of_ric_s_and_has_its_own_hash(tmp_path: Path):
    file = tmp_path / "prompt.txt"
    file.write_text("\ufeffSay what {edit_prompt} did to the café.\n", encoding="utf-8")
    prompts = prompts_of(DescribeConfig(what="region", prompt_file=str(file)))
    assert prompts == {"region": "Say what {edit_prompt} did to the café."}
    digest = hashlib.sha256(prompts["region"].encode()).hexdigest()
    assert prompt_hash(prompts["region"]) == digest[:16]
    assert prompts_of(DescribeConfig(what="all")) == PROMPTS
    assert len({prompt_hash(prompt) for prompt in PROMPTS.values()}) == 5


@pytest.mark.parametrize(
    ("content", "message"),
    [(b" \n", "is empty"), ("café".encode("cp1252"), "is not UTF-8"), (None, "no file|exist")],
)
def test_a_prompt_that_cannot_be_read_is_told_in_one_line(tmp_path, content, message):
    file = tmp_path / "prompt.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(RicError, match=message):
        prompts_of(DescribeConfig(prompt_file=str(file)))


def test_batches_hold_requests_of_like_length_and_those_that_share_a_picture_together():
    lengths = {name: number * 7 % 10 for number, name in enumerate("abcdefghij")}
    kinds = ("target-caption", "explicit-instruction")
    requests = [request_for(sample(name), what) for what in kinds for name in lengths]
    batches = list(in_batches(requests, 5, lambda one: lengths[one.id]))
    assert sorted(id(one) for batch in batches for one in batch) == sorted(map(id, requests))
    found = [[lengths[request.sample.id] for request in batch] for batch in batches]
    # a window is of four batches: all twenty
    assert found == [[0, 0, 1, 1, 2], [2, 3, 3, 4, 4], [5, 5, 6, 6, 7], [7, 8, 8, 9, 9]]
    assert [one for (one,) in in_batches(requests, 1, lambda one: lengths[one.id])] == requests
    assert list(in_batches([], 5, lambda one: 0)) == []
