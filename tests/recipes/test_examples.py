from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from ric.config import FitClipConfig, TrainUnetConfig, as_dict
from ric.errors import RicError
from ric.progress import Silent
from ric.recipes.examples import enough, load_examples, read_descriptions
from ric.rows import append_row
from ric.run_dir import RunDir, open_run


@pytest.fixture
def run_on(tmp_path, tiny):
    """An open run over a folder of data."""

    def make(data: Path, **changes: object) -> RunDir:
        config = tiny(FitClipConfig, data, split="all", **changes)
        return open_run("fit-clip", as_dict(config), runs_dir=tmp_path)

    return make


@pytest.fixture
def load(tiny, run_on):
    """`load_examples` with region texts at 64 px; returns the examples and the run."""

    def call(data: Path, run: RunDir | None = None, **changes: object):
        config = {"split": "all"}
        for key in ("ignore_signature", "split", "limit"):
            if key in changes:
                config[key] = changes.pop(key)
        settings = {"split": "all", "size": 64, "fit": "squash", "region_text": "region_text"}
        settings["split"] = config["split"]
        run = run or run_on(data)
        config = tiny(FitClipConfig, data, **config)
        return load_examples(config, run, Silent(), **settings | changes), run

    return call


def failures(run: RunDir) -> dict[str, tuple[str, str]]:
    return {row["id"]: (row["stage"], row["reason"]) for row in run.rows("failures")}


def test_pictures_are_squashed_as_pillow_does_and_the_box_is_that_of_the_mask(load, edits):
    examples, _ = load(edits)
    assert [item.id for item in examples] == [f"{n:02d}" for n in range(11)]
    for item in examples:
        for kind in ("source", "target"):
            picture = Image.open(edits / kind / f"{item.id}.png").convert("RGB").resize((64, 64))
            expected = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
            assert torch.equal(getattr(item, kind), expected)
    # the ball of sample 0 spans columns 8..40 of 96 and rows 40..72 of 80
    x_min, y_min, x_max, y_max = examples[0].box
    expected = np.array([8 * 64 / 96, 40 * 64 / 80, 41 * 64 / 96, 73 * 64 / 80])
    assert np.abs(np.array([x_min, y_min, x_max, y_max]) - expected).max() <= 1


def test_the_split_and_the_limit_choose_the_samples(load, edits):
    examples, _ = load(edits, split="val", limit=2)
    assert [item.id for item in examples] == ["08", "09"]


def test_bad_samples_become_failure_rows_and_the_rest_goes_on(load, make_edits):
    data = make_edits(6, {0: {"region_text": None}, 4: {"scene_text": None}})
    Image.new("L", (96, 80)).save(data / "mask" / "01.png")
    (data / "target" / "02.png").write_bytes((data / "target" / "02.png").read_bytes()[:99])
    (data / "source" / "03.png").write_bytes(b"")
    examples, run = load(data, require=("region_text", "scene_text"))
    assert [item.id for item in examples] == ["05"]
    rows = failures(run)
    assert rows.keys() == {"00", "01", "02", "03", "04"}
    assert rows["00"] == (
        "texts", "it has no region_text (use --region-text instruction, or add the column)"
    )  # fmt: skip
    assert rows["01"] == ("mask", "The mask is empty: no pixel of it says edit.")
    assert rows["02"][0] == "target"
    assert rows["03"][0] == "source"
    assert rows["04"] == (
        "texts", "it has no scene_text (make one with ric describe, or add the column)"
    )  # fmt: skip
    assert run.failures == 5


def test_masks_and_region_texts_are_not_asked_for_where_regions_play_no_part(load, make_edits):
    data = make_edits(2, {0: {"region_text": None}})
    Image.new("L", (96, 80)).save(data / "mask" / "01.png")
    examples, run = load(data, region_text=None, require=("scene_text",))
    assert [(item.id, item.box) for item in examples] == [("00", None), ("01", None)]
    assert not failures(run)


def test_the_instruction_can_stand_for_the_region_text(load, make_edits):
    data = make_edits(1, {0: {"region_text": None}})
    examples, _ = load(data, region_text="instruction", require=("region_text",))
    assert examples[0].region_text == examples[0].instruction == "add a red ball near the tree"


@pytest.fixture
def derived(make_edits) -> Path:
    """Two edits without a mask file: the first changed almost everything, the second a ball."""
    data = make_edits(2, {n: {"mask_file_name": None} for n in (0, 1)})
    target = Image.open(data / "source" / "00.png")
    ImageDraw.Draw(target).ellipse((2, 2, 92, 72), fill="#ff00ff")
    target.save(data / "target" / "00.png")
    return data


def test_an_unlocalised_derived_box_is_none_and_the_sample_stays(load, derived):
    examples, run = load(derived)
    assert [(item.id, item.box is None) for item in examples] == [("00", True), ("01", False)]
    assert not failures(run)


def test_where_the_box_is_needed_an_unlocalised_sample_is_a_failure(load, derived):
    examples, run = load(derived, require=("region_text", "box"))
    assert [item.id for item in examples] == ["01"]
    stage, reason = failures(run)["00"]
    assert stage == "mask"
    assert reason == "its derived mask's box covers over 60% of the picture: unlocalised"


def test_a_given_mask_as_large_is_taken_at_its_word(load, make_edits):
    data = make_edits(1)
    mask = Image.new("L", (96, 80))
    ImageDraw.Draw(mask).rectangle((2, 2, 92, 72), fill=255)
    mask.save(data / "mask" / "00.png")
    examples, _ = load(data)
    assert examples[0].box is not None


def test_descriptions_come_before_the_data_s_own_paragraphs(load, edits):
    examples, _ = load(edits, descriptions={"00": "a new paragraph"}, limit=2)
    assert examples[0].scene_text == "a new paragraph"
    assert examples[1].scene_text.startswith("the picture shows a green ball")


def test_descriptions_are_read_from_a_run_which_becomes_a_parent(edits, run_on, tmp_path):
    with open_run("describe", {}, runs_dir=tmp_path) as describe:
        append_row(describe.path / "descriptions.jsonl", {"id": "00", "scene_text": "a ball"})
    run = run_on(edits)
    assert read_descriptions(None, run) is None
    assert read_descriptions("@describe", run) == {"00": "a ball"}
    parent = json.loads((run.path / "run.json").read_text())["parents"]
    assert [(run.path / path).resolve() for path in parent] == [describe.path.resolve()]
    with pytest.raises(RicError, match="No run at 'elsewhere'"):
        read_descriptions("elsewhere", run)
    with open_run("describe", {}, runs_dir=tmp_path) as empty:
        pass
    with pytest.raises(RicError, match="has no descriptions"):
        read_descriptions(str(empty.path), run)


def test_ignore_signature_shows_the_source_in_the_target_s_corner(load, make_edits):
    data = make_edits(1)
    target = Image.open(data / "target" / "00.png")
    ImageDraw.Draw(target).rectangle((84, 76, 96, 80), fill="#ff00ff")
    target.save(data / "target" / "00.png")
    plain = load(data)[0][0]
    ignored = load(data, ignore_signature=True)[0][0]
    # choice 14: right 12 %, bottom 3.5 % of 64 pixels, rounded up: 8 columns, 3 rows
    strip = np.zeros((64, 64), bool)
    strip[61:, 56:] = True
    assert not torch.equal(plain.target[:, strip], plain.source[:, strip])
    assert torch.equal(ignored.target[:, strip], plain.source[:, strip])
    assert torch.equal(ignored.target[:, ~strip], plain.target[:, ~strip])
    assert torch.equal(ignored.source, plain.source)


def test_ignore_signature_in_a_crop_is_refused(load, edits):
    with pytest.raises(RicError, match="--ignore-signature needs --fit squash"):
        load(edits, ignore_signature=True, fit="crop")


def test_too_few_samples_say_how_many_were_lost_and_why(load, make_edits):
    data = make_edits(6, {n: {"region_text": None} for n in (0, 2, 3, 4, 5)})
    examples, run = load(data, require=("region_text",))
    with pytest.raises(RicError) as error:
        enough(examples, run)
    reason = "it has no region_text (use --region-text instruction, or add the column)"
    assert error.value.message == (
        f"1 usable samples in {data} (split all); at least 2 are needed. 5 were lost: "
        f"00: {reason}; 02: {reason}; 03: {reason}"
    )
    assert "--split all" in error.value.hint
    assert enough(examples, run, least=1) == examples


def test_an_empty_split_says_so_without_naming_losses(edits, tiny, tmp_path):
    config = tiny(TrainUnetConfig, edits, split="test")
    run = open_run("train-unet", as_dict(config), runs_dir=tmp_path)
    with pytest.raises(RicError) as error:
        enough([], run, least=1)
    assert error.value.message == (
        f"0 usable samples in {edits} (split test); at least 1 are needed."
    )
