from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from ric.config import FitClipConfig, TrainUnetConfig, as_dict
from ric.data.sample import load_samples
from ric.errors import RicError
from ric.inputs.examples import Needs, enough, load_examples
from ric.progress import Silent
from ric.runs.descriptions import Descriptions, read_descriptions
from ric.runs.open_run import open_run
from ric.runs.rows import append_row
from ric.runs.run import RunDir
from ric.work import open_work


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
        about = {"split": "all"}
        for key in ("ignore_signature", "split", "limit"):
            if key in changes:
                about[key] = changes.pop(key)
        run = run or run_on(data)
        config = tiny(FitClipConfig, data, **about)
        work = open_work(config, run, changes.pop("progress", None))
        needs = Needs(**{"size": 64, "region_text": "region_text"} | changes)
        return load_examples(config, work, config.split, needs), run

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
    examples, run = load(data, require=("region_text", "scene_text", "box"))
    assert [item.id for item in examples] == ["05"]
    rows = failures(run)
    assert rows.keys() == {"00", "01", "02", "03", "04"}
    assert rows["00"] == (
        "texts", "it has no region_text (use --region-text instruction, or add the column)"
    )  # fmt: skip
    assert rows["01"] == ("mask", "The mask is empty: it marks no pixel to edit.")
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


def test_a_given_mask_as_large_is_taken_at_its_word_and_noted(load, make_edits):
    data = make_edits(3)
    for number, right in ((0, 92), (1, 61)):  # boxes of 85 and 56 %
        mask = Image.new("L", (96, 80))
        ImageDraw.Draw(mask).rectangle((2, 2, right, 72), fill=255)
        mask.save(data / "mask" / f"{number:02d}.png")
    notes: list[str] = []
    progress = Silent()
    progress.note = notes.append
    examples, run = load(data, progress=progress)
    assert all(item.box is not None for item in examples)
    assert run.record["large_masks"] == ["00"]
    assert notes == [
        "1 samples have a given mask whose box covers over 60% of the picture: their region is"
        " most of it (large_masks in run.json)"
    ]


def test_a_sample_that_the_describe_run_lacks_has_no_scene_text_whatever_the_data_says(load, edits):
    descriptions = Descriptions(
        Path("runs/00001-describe"), {"scene_text": {"00": "a new paragraph"}}
    )
    examples, run = load(edits, descriptions=descriptions, limit=2)
    assert [item.scene_text for item in examples] == ["a new paragraph", None]
    assert not failures(run)


def test_where_a_scene_text_is_needed_a_sample_without_a_description_is_a_failure(load, edits):
    descriptions = Descriptions(
        Path("runs/00001-describe"), {"scene_text": {"00": "a new paragraph"}}
    )
    examples, run = load(edits, descriptions=descriptions, limit=2, require=("scene_text",))
    assert [item.id for item in examples] == ["00"]
    assert failures(run) == {
        "01": ("texts", "it has no scene_text in runs/00001-describe"),
    }


def test_a_source_is_let_go_where_only_the_target_is_looked_at(load, make_edits):
    data = make_edits(1, {0: {"mask_file_name": None}})
    kept, let_go = load(data)[0][0], load(data, sources=False)[0][0]
    assert kept.source.shape == (3, 64, 64)
    assert let_go.source is None
    assert let_go.box == kept.box is not None  # derived from both pictures


@pytest.fixture
def described(tmp_path):
    """Make a describe run with these texts by id; return its folder."""

    def make(texts: dict[str, str], name: str = "described") -> Path:
        with open_run("describe", {}, runs_dir=tmp_path, run=tmp_path / name) as run:
            for sample_id, text in texts.items():
                append_row(run.path / "descriptions.jsonl", {"id": sample_id, "scene_text": text})
        return run.path

    return make


def test_descriptions_are_read_from_a_run_which_becomes_a_parent(
    edits, tiny, run_on, described, tmp_path
):
    run, samples = run_on(edits), load_samples(edits)
    path = described({"00": "a ball", "elsewhere": "no sample of this data"})
    assert read_descriptions(None, samples, run) is None
    read = read_descriptions(str(path), samples, run)
    assert read.texts["scene_text"]["00"] == "a ball"
    assert read.origin.resolve() == path.resolve()
    parent = json.loads((run.path / "run.json").read_text())["parents"]
    assert [(run.path / path).resolve() for path in parent] == [path.resolve()]
    with pytest.raises(RicError, match="No run at 'elsewhere'"):
        read_descriptions("elsewhere", samples, run)
    with pytest.raises(RicError, match="has no scene_text and no region_text"):
        read_descriptions(str(described({}, "empty")), samples, run)


def test_descriptions_of_other_data_are_refused(edits, tiny, run_on, described):
    run, path = run_on(edits), described({"a": "a ball", "b": "a dog"})
    with pytest.raises(RicError) as caught:
        read_descriptions(str(path), load_samples(edits), run)
    assert caught.value.message == (
        f"{path} describes no sample of {edits}: none of its 2 ids match."
    )
    assert caught.value.hint == f"Describe these samples: ric describe {edits}"
    assert run.record["parents"] == []


def test_descriptions_of_a_run_that_is_not_done_are_refused(edits, tiny, run_on, tmp_path):
    half = open_run("describe", {}, runs_dir=tmp_path, run=tmp_path / "half")
    append_row(half.path / "descriptions.jsonl", {"id": "00", "scene_text": "a ball"})
    with pytest.raises(RicError, match=r"half is not finished \(interrupted\)") as caught:
        read_descriptions(str(half.path), load_samples(edits), run_on(edits))
    assert f"--run {half.path}" in caught.value.hint


def test_a_resumed_run_refuses_data_that_changed(load, make_edits, run_on, tmp_path):
    data = make_edits(2)
    run = run_on(data)
    load(data, run)
    metadata = data / "metadata.jsonl"
    metadata.write_text(metadata.read_text().replace("red ball", "red car"))
    again = open_run("fit-clip", run.record["config"], runs_dir=tmp_path, run=run.path)
    with pytest.raises(RicError, match="has changed since this run began"):
        load(data, again)


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
