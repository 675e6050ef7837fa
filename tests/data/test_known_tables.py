"""Well-known data sets need no `--columns`: each table has exactly the columns of its card."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ric.data.edit_sample import EditSample
from ric.data.images import pixel_hash
from ric.data.known_tables import KNOWN_TABLES, known_columns
from ric.data.sample import load_samples
from ric.errors import RicError, SampleError

PICTURE = pa.struct({"bytes": pa.binary(), "path": pa.string()})
BOX = pa.struct({"height": pa.float64(), "width": pa.float64(), "x": pa.float64(),
                 "y": pa.float64(), "id": pa.string(), "order": pa.int64()})  # fmt: skip
NUMBERS_OF_ULTRAEDIT = (
    "clip_sim_source", "clip_sim_target", "clip_sim_dir", "clip_sim_image", "dinov2_sim", "ssim",
)  # fmt: skip
TYPES = {
    "omni_edit_id": pa.string(), "task": pa.string(), "src_img": PICTURE, "edited_img": PICTURE,
    "edited_prompt_list": pa.list_(pa.string()), "width": pa.int64(), "height": pa.int64(),
    "sc_score_1": pa.int64(), "sc_score_2": pa.int64(), "sc_reasoning": pa.string(),
    "pq_score": pa.int64(), "pq_reasoning": pa.string(), "o_score": pa.float64(),
    **dict.fromkeys(NUMBERS_OF_ULTRAEDIT, pa.float64()),
    "source_caption": pa.string(), "target_caption": pa.string(), "idx": pa.int64(),
    "edit_prompt": pa.string(), "edit_object": pa.string(), "source_image": PICTURE,
    "edited_image": PICTURE, "mask_image": PICTURE,
    "original_prompt": pa.string(), "original_image": PICTURE, "edited_prompt": pa.string(),
    "task_type": pa.string(), "key": pa.string(), "instruction": pa.string(),
    "instruction_language": pa.string(), "input_image": PICTURE, "input_image_raw": PICTURE,
    "Intersection_exist": pa.bool_(),
    "physics_category": pa.string(), "physics_law": pa.string(), "edit_operation": pa.string(),
    "superficial_prompt": pa.string(), "intermediate_prompt": pa.string(),
    "explicit_prompt": pa.string(), "edit_area": pa.list_(BOX),
}  # fmt: skip


@pytest.fixture
def read(tmp_path, noise, encoded):
    """Write a table and read it: a cell that is a number N is the picture of that seed."""

    def make(
        columns: tuple[str, ...], *rows: dict[str, Any], mapping: str | None = None
    ) -> tuple[list[EditSample], list[SampleError]]:
        def cell(name: str, value: Any) -> Any:
            is_picture = TYPES[name] == PICTURE and isinstance(value, int)
            return {"bytes": encoded(noise(seed=value)), "path": None} if is_picture else value

        full = [{name: cell(name, row.get(name)) for name in columns} for row in rows]
        schema = pa.schema({name: TYPES[name] for name in columns})
        pq.write_table(pa.Table.from_pylist(full, schema), tmp_path / "rows.parquet")
        failed: list[SampleError] = []
        samples = load_samples(tmp_path, columns=mapping).narrowed("all", None, failed.append)
        return list(samples), failed

    return make


@pytest.fixture
def shows(noise):
    """Tell whether a picture is the one of a seed."""
    return lambda picture, seed: pixel_hash(picture) == pixel_hash(noise(seed=seed))


OMNI_EDIT = ("omni_edit_id", "task", "src_img", "edited_img", "edited_prompt_list", "width",
             "height", "sc_score_1", "sc_score_2", "sc_reasoning", "pq_score", "pq_reasoning",
             "o_score")  # fmt: skip
OMNI_EDIT_ROW = {
    "omni_edit_id": "task_obj_swap_17", "task": "swap", "src_img": 1, "edited_img": 2,
    "edited_prompt_list": ["Swap the cat.", "Swap the cat for a grey dog on the mat."],
}  # fmt: skip


def test_omni_edit_is_known_and_gives_the_first_of_its_wordings(read, shows):
    (sample,), _ = read(OMNI_EDIT, OMNI_EDIT_ROW)
    assert (sample.id, sample.editing_type) == ("task_obj_swap_17", "swap")
    assert sample.instruction == "Swap the cat."
    assert shows(sample.load_source(), 1)
    assert shows(sample.load_target(), 2)
    assert not sample.has_mask
    (sample,), _ = read(OMNI_EDIT, OMNI_EDIT_ROW, mapping="instruction=edited_prompt_list[1]")
    assert sample.instruction.endswith("on the mat.")
    assert sample.id == "task_obj_swap_17"
    samples, _ = read(OMNI_EDIT, OMNI_EDIT_ROW, mapping="instruction=edited_prompt_list[*]")
    assert [sample.id[-4:] for sample in samples] == ["17-0", "17-1"]


ULTRA_EDIT = (*NUMBERS_OF_ULTRAEDIT, "source_caption", "target_caption", "idx", "edit_prompt",
              "edit_object", "source_image", "edited_image", "mask_image")  # fmt: skip


def test_ultra_edit_is_known_with_masks_and_without(read, shows, encoded):
    flat = Image.new("L", (16, 12))
    flat.paste(255, (3, 2, 9, 6))
    row = {
        "source_caption": "a lawn", "target_caption": "a lawn with a dog", "idx": 4,
        "edit_prompt": "Add a dog.", "edit_object": "dog", "source_image": 1, "edited_image": 2,
    }  # fmt: skip
    masked = {**row, "mask_image": {"bytes": encoded(flat), "path": None}}
    (free, region), failed = read(ULTRA_EDIT, row, masked)
    assert not failed
    assert (free.id, region.id) == ("0000000", "0000001")  # not the idx, 4 in both
    assert (free.instruction, free.source_text) == ("Add a dog.", "a lawn")
    assert free.target_text == "a lawn with a dog"
    assert shows(free.load_source(), 1)
    assert shows(free.load_target(), 2)
    assert (free.has_mask, region.has_mask) == (False, True)
    assert region.load_mask()[2:6, 3:9].all()
    assert region.load_mask().sum() == 24


def test_the_filtered_data_of_instruct_pix2pix_are_known(read, shows):
    columns = ("original_prompt", "original_image", "edit_prompt", "edited_prompt", "edited_image")
    row = {
        "original_prompt": "a hill", "edited_prompt": "a hill in snow", "original_image": 1,
        "edit_prompt": "make it snow", "edited_image": 2,
    }  # fmt: skip
    (sample,), _ = read(columns, row)
    assert (sample.source_text, sample.target_text) == ("a hill", "a hill in snow")
    assert (sample.instruction, sample.has_mask) == ("make it snow", False)
    assert shows(sample.load_source(), 1)
    assert shows(sample.load_target(), 2)


def test_the_columns_of_diffusers_script_are_known(read, shows):
    row = {"input_image": 1, "edited_image": 2, "edit_prompt": "make it snow"}
    (sample,), _ = read(("input_image", "edit_prompt", "edited_image"), row)
    assert (sample.instruction, sample.has_mask) == ("make it snow", False)
    assert shows(sample.load_source(), 1)
    assert shows(sample.load_target(), 2)
    mapping = "mask=mask_image"
    (sample,), _ = read((*row, "mask_image"), {**row, "mask_image": 3}, mapping=mapping)
    with pytest.raises(SampleError, match="looks like a photo"):  # its pixels decide
        sample.load_mask()


GEDIT = ("task_type", "key", "instruction", "instruction_language", "input_image",
         "input_image_raw", "Intersection_exist")  # fmt: skip


def test_g_edit_is_known_by_its_table_too(read, shows):
    row = {"task_type": "color_alter", "key": "k1", "instruction": "Paint it.",
           "instruction_language": "en", "input_image": 1, "input_image_raw": 2}  # fmt: skip
    chinese = {**row, "instruction": "把它涂上颜色", "instruction_language": "cn"}
    (english, other), _ = read(GEDIT, row, chinese)
    assert (english.id, other.id) == ("k1", "k1-cn")
    assert (english.editing_type, english.split) == ("color_alter", "test")
    assert shows(english.load_source(), 1)
    assert not english.has_target
    (raw, _), _ = read(GEDIT, row, chinese, mapping="source=input_image_raw")
    assert shows(raw.load_source(), 2)
    assert raw.id == "k1"


PICA_BENCH = ("physics_category", "physics_law", "edit_operation", "superficial_prompt",
              "intermediate_prompt", "explicit_prompt", "edit_area", "input_image")  # fmt: skip
PICA_BENCH_ROW = {
    "physics_law": "Reflection", "superficial_prompt": "Remove it.", "input_image": 1,
    "explicit_prompt": "Remove it and its mirror image.",
    "edit_area": [{"x": 3.0, "y": 2.0, "width": 5.0, "height": 3.0}],
}  # fmt: skip


def test_pica_bench_is_known_by_its_table_too_and_boxes_are_its_mask(read, shows):
    whole = {**PICA_BENCH_ROW, "edit_area": None}
    outside = {**PICA_BENCH_ROW, "edit_area": [{"x": 90.0, "y": 2.0, "width": 1, "height": 1}]}
    (boxed, plain), (lost,) = read(PICA_BENCH, PICA_BENCH_ROW, outside, whole)
    # numbered as its prepare_meta_info.py does, whatever fails
    assert (boxed.id, lost.sample_id, plain.id) == ("00000", "00001", "00002")
    assert (boxed.instruction, boxed.editing_type) == ("Remove it.", "Reflection")
    assert boxed.split == "test"  # no training takes it
    assert shows(boxed.load_source(), 1)
    expected = np.zeros((12, 16), bool)
    expected[2:6, 3:9] = True
    assert (boxed.load_mask() == expected).all()
    assert not plain.has_mask
    assert (lost.stage, lost.reason) == ("mask", "Its edit_area is outside the picture of 16x12.")
    mapping = "instruction=explicit_prompt"
    (sample,), _ = read(PICA_BENCH, PICA_BENCH_ROW, mapping=mapping)
    assert sample.instruction == "Remove it and its mirror image."
    assert sample.load_mask().sum() == 24


def test_no_known_table_is_taken_for_another():
    for columns in KNOWN_TABLES.values():
        cells = [name.removesuffix("[0]") for name in columns.names.values()]
        assert known_columns([*cells, *columns.reads, "more"]) is columns
        assert known_columns(cells[1:]) is not columns


def test_unknown_columns_ask_for_a_mapping_and_list_what_there_is(tmp_path):
    table = pa.Table.from_pylist([{"picture": b"a", "words": "b"}])
    pq.write_table(table, tmp_path / "rows.parquet")
    with pytest.raises(RicError, match="are not recognised: picture, words") as caught:
        load_samples(tmp_path)
    assert "--columns source=input_image" in str(caught.value.hint)
    with pytest.raises(RicError, match="has no column 'image'") as caught:
        load_samples(tmp_path, columns="source=image")
    assert caught.value.hint == "Its columns: picture, words."
    with pytest.raises(RicError, match=r"No column of .* is mapped to the source picture"):
        load_samples(tmp_path, columns="instruction=words")
