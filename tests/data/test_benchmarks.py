"""Each benchmark is read as its own scripts read it; what is wrong with it is said in a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import benchmark_folders as made
import numpy as np
import pytest
from PIL import Image

from ric.config import CommandConfig, EvalConfig
from ric.data.benchmarks.pica_bench import mask_of_boxes
from ric.data.benchmarks.pie_bench import mask_of_runs
from ric.data.benchmarks.table import BENCHMARKS
from ric.data.count import count_samples
from ric.data.file_state import tables_state
from ric.data.sample import EditSample, load_samples
from ric.errors import RicError
from ric.scoring.picture_files import files_of


def read(data: str, split: str = "test") -> tuple[dict[str, EditSample], dict[str, str]]:
    """Return the samples by id, and the reasons of the failures by theirs."""
    failed: dict[str, str] = {}
    samples = load_samples(data).narrowed(
        split, None, lambda error: failed.update({error.sample_id: error.reason})
    )
    return {sample.id: sample for sample in samples}, failed


def rewrite(file: Path, change: Any) -> None:
    file.write_text(json.dumps(change(json.loads(file.read_text()))))


# --- PIE-Bench -----------------------------------------------------------------------------------


def script_s_mask(runs: list[int]) -> np.ndarray:
    """Decode a mask pixel by pixel, as PnPInversion's evaluate.py does before it adds borders."""
    flat = np.zeros(512 * 512, bool)
    for first, length in zip(runs[::2], runs[1::2], strict=True):
        for step in range(min(length, len(flat) - first)):
            flat[first + step] = True
    return flat.reshape(512, 512)


def test_a_mask_of_runs_is_that_of_the_benchmark_s_script_also_where_a_run_ends_too_late():
    draw = np.random.default_rng(3)
    runs = [int(number) for pair in zip(draw.integers(0, 512 * 512, 30), draw.integers(1, 900, 30),
                                        strict=True) for number in pair]  # fmt: skip
    runs += [512 * 512 - 7, 4000]
    assert np.array_equal(mask_of_runs(runs), script_s_mask(runs))
    assert not mask_of_runs([]).any()
    assert mask_of_runs([513, 2]).nonzero()[0].tolist() == [1, 1]  # row by row
    assert mask_of_runs([513, 2]).nonzero()[1].tolist() == [1, 2]


def test_pie_bench_has_masks_both_captions_without_brackets_and_types(tmp_path):
    made.pie_bench(tmp_path)
    samples, failed = read(f"pie-bench:{tmp_path}")
    assert list(samples) == ["000000000000", "100000000001", "900000000002"]
    assert failed == {}
    first = samples["000000000000"]
    drawn = made.scenes(3, 512)[0]
    assert first.instruction == drawn.instruction
    assert (first.source_text, first.target_text) == (
        "a red ball on the floor", "a blue ball on the floor",
    )  # fmt: skip
    assert np.array_equal(first.load_mask(), drawn.load_mask())
    assert first.load_source().size == (512, 512)
    types = [sample.editing_type for sample in samples.values()]
    assert types == ["0 random", "1 change object", "9 change style"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"mask": [1, 2, 3]}, "Its mask has 3 numbers; they come in pairs"),
        ({"mask": [262144, 1]}, "a run of 1 pixels from 262144 on, which is outside"),
        ({"mask": [-1, 5]}, "a run of 5 pixels from -1 on"),
        ({"mask": "0 5"}, "Its mask is not a list of whole numbers"),
        ({"mask": [0.5, 2]}, "Its mask is not a list of whole numbers"),
        ({"editing_prompt": 5.5}, "Its editing_prompt is a float, not text"),
        ({"editing_instruction": ""}, "no instruction. Add editing_instruction in mapping_file"),
        ({"image_path": None}, "It has no source picture in mapping_file.json"),
        ({"image_path": ["a.jpg"]}, "Its image_path is a list, not a path"),
    ],
)
def test_a_bad_row_of_pie_bench_fails_alone(tmp_path, row, reason):
    made.pie_bench(tmp_path, {"100000000001": row})
    samples, failed = read(f"pie-bench:{tmp_path}")
    assert list(samples) == ["000000000000", "900000000002"]
    assert reason in failed["100000000001"]


def test_a_row_that_is_no_object_fails_alone_under_its_place(tmp_path):
    made.pie_bench(tmp_path)
    rewrite(tmp_path / "mapping_file.json", lambda rows: {**rows, "100000000001": [1]})
    samples, failed = read(f"pie-bench:{tmp_path}")
    assert len(samples) == 2
    assert failed == {"mapping_file.json: 100000000001": "Its row is not a JSON object but a list."}


def test_a_missing_picture_fails_when_it_is_opened(tmp_path):
    made.pie_bench(tmp_path)
    (tmp_path / "annotation_images/0_random_140/000000000000.jpg").unlink()
    samples, failed = read(f"pie-bench:{tmp_path}")
    assert failed == {}
    with pytest.raises(RicError, match=r"000000000000.jpg' does not exist"):
        samples["000000000000"].load_source()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "holds a JSON list, not a JSON object"),
        ("3", "holds a JSON int, not a JSON object"),
        ("{", "is not JSON"),
        ('{"1": {}, "1": {}}', "has '1' twice"),
    ],
)
def test_a_mapping_file_of_another_form_is_refused_in_a_line(tmp_path, text, message):
    (tmp_path / "mapping_file.json").write_text(text)
    with pytest.raises(RicError, match=message) as caught:
        list(load_samples(f"pie-bench:{tmp_path}"))
    assert caught.value.hint


def test_a_path_that_leaves_the_benchmark_stops_the_command(tmp_path):
    made.pie_bench(tmp_path, {"100000000001": {"image_path": "../../secret.png"}})
    with pytest.raises(RicError, match="outside its folder"):
        read(f"pie-bench:{tmp_path}")


# --- MagicBrush ----------------------------------------------------------------------------------


@pytest.mark.parametrize("sessions", [True, False])
def test_magicbrush_s_turns_follow_each_other_and_have_the_ids_of_its_protocol(tmp_path, sessions):
    made.magicbrush(tmp_path, sessions=sessions)
    samples, failed = read(f"magicbrush:{tmp_path}")
    assert (list(samples), failed) == (["30-1", "30-2", "139-1"], {})
    one, two = samples["30-1"], samples["30-2"]
    assert two.load_source().tobytes() == one.load_target().tobytes()
    assert [sample.group_id for sample in samples.values()] == ["30", "30", "139"]
    assert (two.source_text, two.target_text) == (
        "whole of 30-output1.png",
        "whole of 30-output2.png",
    )
    assert two.region_text == "part of 30-output2.png"
    drawn = made.scenes(3)
    assert np.array_equal(samples["139-1"].load_mask(), drawn[2].load_mask())
    assert one.instruction == drawn[0].instruction
    finals = load_samples(f"magicbrush:{tmp_path}").narrowed("test").final_turns()
    for _ in range(2):
        last, alone = finals
        assert (last.id, alone.id) == ("30-2", "139-1")
        assert last.load_source().tobytes() == one.load_source().tobytes()
        assert last.load_target().tobytes() == two.load_target().tobytes()
        assert (last.has_mask, alone.has_mask) == (False, True)


def test_magicbrush_without_captions_has_none_and_bad_turns_fail_alone(tmp_path):
    made.magicbrush(tmp_path, captions=False)
    rewrite(
        tmp_path / "edit_sessions.json",
        lambda told: {"7": 3, **told, "139": [5, *told["139"]], "8": [{"output": "8-output1.png"}]},
    )
    samples, failed = read(f"magicbrush:{tmp_path}")
    assert list(samples) == ["30-1", "30-2", "139-2"]
    assert samples["30-1"].target_text is None
    assert failed["edit_sessions.json: 7-1"] == "Its turns are not in a list."
    assert failed["edit_sessions.json: 139-1"].endswith("but a int.")
    assert "no instruction" in failed["8-1"]


def test_final_turns_are_found_without_the_limit_which_counts_photos(tmp_path):
    made.magicbrush(tmp_path)
    every = load_samples(f"magicbrush:{tmp_path}")
    assert [one.id for one in every.narrowed("test", 1).final_turns()] == ["30-2"]
    assert [one.id for one in every.narrowed("test", 2).final_turns()] == ["30-2", "139-1"]


@pytest.mark.parametrize("bad", [5, {"output": "30-output1.png", "instruction": "x"}])
def test_a_photo_whose_first_turn_is_bad_has_no_final_turn_but_a_failure(tmp_path, bad):
    made.magicbrush(tmp_path)
    rewrite(tmp_path / "edit_sessions.json", lambda told: {**told, "30": [bad, told["30"][1]]})
    failed: dict[str, str] = {}
    finals = load_samples(f"magicbrush:{tmp_path}").narrowed("test").final_turns()
    told = finals.reporting(lambda error: failed.update({error.sample_id: error.reason}))
    for _ in range(2):
        assert [one.id for one in told] == ["139-1"]
    assert len(failed) == 2
    assert "The row of its photo's first turn" in failed["30-2"]


def test_a_photo_whose_last_turn_is_bad_fails_and_no_earlier_turn_stands_for_it(tmp_path):
    made.magicbrush(tmp_path)
    rewrite(tmp_path / "edit_sessions.json", lambda told: {**told, "30": [told["30"][0], 5]})
    failed: list[str] = []
    finals = load_samples(f"magicbrush:{tmp_path}").narrowed("test").final_turns()
    told = finals.reporting(lambda error: failed.append(error.sample_id))
    assert [one.id for one in told] == ["139-1"]
    assert failed == ["edit_sessions.json: 30-2"]


def test_captions_of_another_form_are_refused(tmp_path):
    made.magicbrush(tmp_path)
    (tmp_path / "local_descriptions.json").write_text("[]")
    with pytest.raises(RicError, match=r"local_descriptions.json' holds a JSON list"):
        read(f"magicbrush:{tmp_path}")


# --- PICABench -----------------------------------------------------------------------------------


def test_a_box_s_mask_holds_its_right_and_lower_edge_as_the_benchmark_s_script_draws_it():
    boxes = [{"x": 2, "y": 3, "width": 4, "height": 1}, {"x": 8, "y": 0, "width": 50, "height": 0}]
    expected = np.zeros((6, 10), bool)
    expected[3:5, 2:7] = True
    expected[0, 8:] = True
    assert np.array_equal(mask_of_boxes(boxes, (10, 6)), expected)
    assert mask_of_boxes("unknown", (10, 6)) is None
    assert mask_of_boxes([], (10, 6)) is None


def test_pica_bench_has_laws_masks_and_the_ids_that_its_script_names_edits_by(tmp_path):
    made.pica_bench(tmp_path, {1: {"edit_area": "unknown"}, 2: {"index": 1174}})
    samples, failed = read(f"pica-bench:{tmp_path}")
    assert (list(samples), failed) == (["00000", "00001", "01174"], {})
    assert [one.editing_type for one in samples.values()] == [
        "Reflection",
        "Refraction",
        "Causality",
    ]
    expected = np.zeros((64, 64), bool)
    expected[20:29, 10:16] = True
    assert np.array_equal(samples["00000"].load_mask(), expected)
    assert not samples["00001"].has_mask


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"edit_area": [{"x": 1, "y": 2}]}, "Its edit_area is not a list of boxes"),
        ({"edit_area": "here"}, "Its edit_area is not a list of boxes"),
        ({"edit_area": [{"x": 1, "y": 2, "width": -3, "height": 4}]}, "is not a list of boxes"),
        (
            {"edit_area": [{"x": 1e3, "y": 2, "width": 3, "height": 4}]},
            "is outside the picture of 64",
        ),
        ({"input_path": "input_img/gone.jpg"}, "gone.jpg' does not exist"),
        ({"input_path": 3}, "Its input_path is a int, not a path"),
    ],
)
def test_a_bad_row_of_pica_bench_fails_alone(tmp_path, row, reason):
    made.pica_bench(tmp_path, {1: row})
    samples, failed = read(f"pica-bench:{tmp_path}")
    assert list(samples) == ["00000", "00002"]
    assert reason in failed["00001"]


# --- ImgEdit, GEdit, Emu Edit --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pictures", "name"), [("original_images", "basic_edit.json"), (".", "singleturn.json")]
)
def test_imgedit_finds_its_pictures_beside_the_file_or_in_original_images(tmp_path, pictures, name):
    made.imgedit(tmp_path, pictures=pictures, name=name)
    samples, failed = read(f"imgedit:{tmp_path}")
    assert (list(samples), failed) == (["1082", "673", "667"], {})
    assert [one.editing_type for one in samples.values()] == ["alter", "style", "remove"]
    assert samples["673"].group() == samples["667"].group() != samples["1082"].group()


def test_of_two_files_of_rows_one_is_to_be_named_and_can_be(tmp_path):
    made.imgedit(tmp_path)
    made.imgedit(tmp_path, name="UGE_edit.json")
    with pytest.raises(RicError, match=r"holds basic_edit.json and UGE_edit.json") as caught:
        load_samples(f"imgedit:{tmp_path}")
    assert "basic_edit.json" in str(caught.value.hint)
    assert len(read(f"imgedit:{tmp_path}/UGE_edit.json")[0]) == 3


@pytest.mark.parametrize("one_key", [False, True])
def test_gedit_is_read_in_both_languages_or_in_one(tmp_path, one_key):
    made.gedit(tmp_path, one_key=one_key)
    samples, failed = read(f"gedit:{tmp_path}")
    ids = ["k0", "k0-cn", "k1", "k1-cn"] if one_key else ["k0e", "k0c", "k1e", "k1c"]
    assert (list(samples), failed) == (ids, {})
    assert samples[ids[3]].editing_type == "subject-add"
    chinese, _ = read(f"gedit-cn:{tmp_path}")
    assert {one.instruction for one in chinese.values()} == {"把它变成红色"}
    assert len(read(f"gedit-en:{tmp_path}")[0]) == 2
    raw = next(iter(load_samples(f"gedit:{tmp_path}", columns="source=input_image_raw")))
    assert raw.load_source().size == (96, 96)


def test_a_table_without_a_benchmark_s_columns_is_refused(tmp_path):
    made.emu_edit(tmp_path)
    with pytest.raises(RicError, match="has no column 'input_image'"):
        load_samples(f"gedit:{tmp_path}")


def test_emu_edit_has_its_own_splits_and_rows_of_one_index_stay_apart(tmp_path):
    made.emu_edit(tmp_path)
    samples, failed = read(f"emu-edit:{tmp_path}", "all")
    assert (sorted(samples), failed) == (["test-add-17", "validation-add-17"], {})
    assert list(read(f"emu-edit:{tmp_path}", "val")[0]) == ["validation-add-17"]
    one = samples["test-add-17"]
    assert (one.source_text, one.target_text) == ("a table", "a table with a cup")


# --- all of them ---------------------------------------------------------------------------------


def test_a_benchmark_is_of_the_test_split_alone_and_counted_so(tmp_path):
    made.imgedit(tmp_path)
    data = f"imgedit:{tmp_path}"
    assert read(data, "train") == read(data, "val") == ({}, {})
    assert count_samples(CommandConfig(data=data, split="test")) == (3, 3)
    assert count_samples(CommandConfig(data=data, split="test", limit=2)) == (2, 2)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_folder_that_is_not_there_or_holds_something_else_is_refused_with_a_hint(tmp_path, name):
    for place in ("", f"{tmp_path}/gone", str(tmp_path)):
        with pytest.raises(RicError) as caught:
            load_samples(f"{name}:{place}")
        assert str(caught.value.hint).startswith(f"DIR of {name}:DIR holds ")


def test_the_fingerprint_follows_the_rows_and_the_tables_their_files(tmp_path):
    made.imgedit(tmp_path / "i")
    before = load_samples(f"imgedit:{tmp_path}/i").fingerprint
    assert load_samples(f"imgedit:{tmp_path}/i").fingerprint == before
    rewrite(tmp_path / "i/basic_edit.json", lambda rows: {**rows, "9": rows["673"]})
    assert load_samples(f"imgedit:{tmp_path}/i").fingerprint != before
    made.gedit(tmp_path / "g")
    states = tables_state(load_samples(f"gedit:{tmp_path}/g"))
    (tmp_path / "g/data-00000-of-00001.arrow").touch()
    assert len(states) == 1
    assert tables_state(load_samples(f"gedit:{tmp_path}/g")) != states
    assert tables_state(load_samples(f"imgedit:{tmp_path}/i")) == []


def test_a_row_of_scores_shows_a_picture_s_place_in_the_benchmark(tmp_path):
    data = f"imgedit:{made.imgedit(tmp_path / 'bench')}"
    sample = read(data)[0]["1082"]
    shown = files_of(sample, EvalConfig(data=data))
    assert shown["source"] == "bench/original_images/animal/000342021.jpg"


def test_a_mask_of_512_px_fits_a_picture_of_another_size(tmp_path):
    made.pie_bench(tmp_path)
    file = tmp_path / "annotation_images/0_random_140/000000000000.jpg"
    Image.open(file).resize((256, 256)).save(file)
    sample = read(f"pie-bench:{tmp_path}")[0]["000000000000"]
    assert sample.load_mask().shape == (256, 256)
