from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ric.data.images import pixel_hash
from ric.data.sample import load_samples
from ric.errors import RicError, SampleError


@pytest.fixture
def erased(noise, encoded):
    """A picture with a hole of alpha 0, as HumanEdit and MagicBrush give their masks."""
    image = noise().convert("RGBA")
    image.paste((0, 0, 0, 0), (3, 2, 9, 6))
    return encoded(image)


@pytest.fixture
def humanedit_row(noise, encoded, erased):
    def make(photo: str, seed: int = 0) -> dict:
        return {
            "IMAGE_ID": photo, "EDITING_TYPE": "Add", "CORE": 0, "MASK": 1,
            "EDITING_INSTRUCTION": "Add a bird.", "OUTPUT_DESCRIPTION": "a bird",
            "INPUT_CAPTION_BY_LLAMA": "A tree.", "OUTPUT_CAPTION_BY_LLAMA": "A tree and a bird.",
            "INPUT_IMG": {"bytes": encoded(noise(seed=seed)), "path": None},
            "MASK_IMG": {"bytes": erased, "path": "mask.png"},
            "OUTPUT_IMG": {"bytes": encoded(noise(seed=seed + 50)), "path": None},
        }  # fmt: skip

    return make


@pytest.fixture
def magicbrush_row(noise, encoded, erased):
    def make(picture: str, turn: int) -> dict:
        return {
            "img_id": picture, "turn_index": turn, "instruction": "Add a bird.",
            "source_img": {"bytes": encoded(noise()), "path": None},
            "mask_img": {"bytes": erased, "path": None},
            "target_img": {"bytes": encoded(noise(seed=1)), "path": None},
        }  # fmt: skip

    return make


def write(path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def test_humanedit_columns_become_our_fields(tmp_path, humanedit_row, noise):
    write(tmp_path / "data/train-00000-of-00001.parquet", [humanedit_row("BEwrVP6o0yQ")])
    (sample,) = load_samples(tmp_path)
    assert sample.id == sample.group_id == sample.group() == "BEwrVP6o0yQ"
    assert sample.instruction == "Add a bird."
    assert sample.region_text == "a bird"
    assert (sample.source_text, sample.target_text) == ("A tree.", "A tree and a bird.")
    assert sample.scene_text is None
    assert sample.editing_type == "Add"
    assert sample.split is None  # its only split is called train, which says nothing
    assert pixel_hash(sample.load_source()) == pixel_hash(noise())
    assert pixel_hash(sample.load_target()) == pixel_hash(noise(seed=50))
    mask = sample.load_mask()
    assert mask[2:6, 3:9].all()
    assert mask.sum() == 24


def test_repeats_of_a_photo_are_numbered_the_same_in_every_split(tmp_path, humanedit_row):
    photos = ["a", "b", "a", "c", "a", "b"]
    for shard in range(2):
        rows = [humanedit_row(photo) for photo in photos[3 * shard : 3 * shard + 3]]
        write(tmp_path / f"train-0000{shard}-of-00002.parquet", rows)
    everything = ["a", "b", "a-2", "c", "a-3", "b-2"]
    samples = load_samples(tmp_path)
    assert [s.id for s in samples] == [s.id for s in samples] == everything
    parts = [[s.id for s in load_samples(tmp_path).narrowed(n)] for n in ("train", "val", "test")]
    assert sorted(name for part in parts for name in part) == sorted(everything)
    assert samples.row_count == 6
    assert samples.kind == "parquet"


def test_magicbrush_turns_are_named_and_its_dev_is_val(tmp_path, magicbrush_row):
    write(tmp_path / "data/train-00000-of-00001-ab.parquet", [magicbrush_row("12", 1)])
    write(tmp_path / "data/dev-00000-of-00001-cd.parquet",
          [magicbrush_row("7", 1), magicbrush_row("7", 2)])  # fmt: skip
    assert [s.id for s in load_samples(tmp_path).narrowed("val")] == ["7-1", "7-2"]
    (sample,) = load_samples(tmp_path).narrowed("train")
    assert (sample.id, sample.group_id, sample.instruction) == ("12-1", "12", "Add a bird.")
    assert sample.load_mask().sum() == 24


def test_a_magicbrush_mask_without_alpha_is_its_white_region(tmp_path, magicbrush_row, encoded):
    row = magicbrush_row("12", 1)
    flat = Image.new("RGB", (16, 12), "black")
    flat.paste("white", (3, 2, 9, 6))
    row["mask_img"]["bytes"] = encoded(flat)
    write(tmp_path / "rows.parquet", [row])
    (sample,) = load_samples(tmp_path / "rows.parquet")
    assert sample.load_mask()[2:6, 3:9].all()
    assert sample.load_mask().sum() == 24


def test_any_columns_can_be_mapped(tmp_path, noise, encoded):
    rows = [
        {
            "input_image": encoded(noise(seed=n)),
            "edit_prompt": "x",
            "result": encoded(noise()),
        }
        for n in range(3)
    ]
    write(tmp_path / "rows.parquet", rows)
    mapping = "source=input_image, instruction=edit_prompt, target=result"
    samples = list(load_samples(tmp_path, columns=mapping))
    assert [s.id for s in samples] == ["0000000", "0000001", "0000002"]
    assert samples[2].has_target
    without = load_samples(tmp_path, columns="source=input_image,instruction=edit_prompt")
    with pytest.raises(SampleError) as caught:
        next(iter(without)).load_mask()
    assert "Add mask to that row" in caught.value.reason


def renamed(row: dict) -> dict:
    """HumanEdit's pictures under names that nobody knows."""
    return {"before": row["INPUT_IMG"], "after": row["OUTPUT_IMG"], "where": row["MASK_IMG"],
            "say": "x"}  # fmt: skip


RENAMED = "source=before,target=after,mask=where,instruction=say"


def test_erased_masks_under_unknown_names_are_read_by_their_alpha(tmp_path, humanedit_row):
    write(tmp_path / "rows.parquet", [renamed(humanedit_row("a"))])
    (sample,) = load_samples(tmp_path, columns=RENAMED)
    mask = sample.load_mask()
    assert mask[2:6, 3:9].all()
    assert mask.sum() == 24


def test_white_on_black_masks_under_unknown_names_are_read_as_such(
    tmp_path, humanedit_row, encoded
):
    row = renamed(humanedit_row("a"))
    flat = Image.new("RGB", (16, 12), "black")
    flat.paste("white", (3, 2, 9, 6))
    write(tmp_path / "rows.parquet", [{**row, "where": encoded(flat)}])
    (sample,) = load_samples(tmp_path, columns=RENAMED)
    assert sample.load_mask()[2:6, 3:9].all()
    assert sample.load_mask().sum() == 24


def test_a_photo_as_a_mask_under_unknown_names_says_what_masks_are(
    tmp_path, humanedit_row, noise, encoded
):
    row = {**renamed(humanedit_row("a")), "where": encoded(noise(seed=3))}
    write(tmp_path / "rows.parquet", [row])
    (sample,) = load_samples(tmp_path, columns=RENAMED)
    with pytest.raises(SampleError, match="looks like a photo") as caught:
        sample.load_mask()
    assert "white where to edit" in caught.value.reason
    assert caught.value.reason.endswith("or the picture with that region erased (alpha 0).")


def test_a_mapping_is_laid_over_the_columns_of_a_known_table(
    tmp_path, humanedit_row, encoded, noise
):
    solid = noise()
    solid.paste("black", (3, 2, 9, 6))  # erased, and no alpha to tell
    rows = [humanedit_row("a"), humanedit_row("a")]
    for row in rows:
        row["MASK_IMG"] = {"bytes": encoded(solid), "path": None}
    write(tmp_path / "rows.parquet", rows)
    samples = list(load_samples(tmp_path, columns="region_text=EDITING_INSTRUCTION"))
    assert [s.id for s in samples] == ["a", "a-2"]
    assert [s.group_id for s in samples] == ["a", "a"]
    assert [s.region_text for s in samples] == ["Add a bird."] * 2
    assert samples[0].load_mask().sum() == 24


def test_a_mapped_mask_or_id_goes_before_a_known_tables_own(tmp_path, humanedit_row, encoded):
    flat = Image.new("L", (16, 12))
    flat.paste(255, (0, 0, 4, 4))
    row = {**humanedit_row("a"), "mine": encoded(flat), "number": 7}
    write(tmp_path / "rows.parquet", [row])
    (sample,) = load_samples(tmp_path, columns="mask=mine,id=number")
    assert (sample.id, sample.group_id) == ("7", "a")
    assert sample.load_mask().sum() == 16


def test_a_broken_picture_costs_its_own_row(tmp_path, humanedit_row):
    rows = [humanedit_row("a"), humanedit_row("b"), humanedit_row("c")]
    rows[0]["INPUT_IMG"] = {"bytes": b"broken", "path": None}
    rows[1]["INPUT_IMG"] = {"bytes": None, "path": None}
    write(tmp_path / "rows.parquet", rows)
    failures: list[SampleError] = []
    samples = list(load_samples(tmp_path).reporting(failures.append))
    assert [s.id for s in samples] == ["a", "c"]
    assert [(f.sample_id, f.stage) for f in failures] == [("b", "source")]
    with pytest.raises(SampleError, match="The picture is not a picture that can be read"):
        samples[0].load_source()


@pytest.mark.parametrize("column", ["INPUT_IMG", "MASK_IMG"])
def test_a_cell_that_holds_a_path_in_place_of_a_picture_says_so(tmp_path, humanedit_row, column):
    """A table that was saved without its pictures; no mask is not what it says."""
    row = {**humanedit_row("a"), column: {"bytes": None, "path": "images/a.png"}}
    write(tmp_path / "rows.parquet", [row])
    with pytest.raises(SampleError) as caught:
        list(load_samples(tmp_path))
    assert caught.value.reason == (
        f"Its {column} is the path 'images/a.png', not a picture: store the pictures in the"
        " table, or put a metadata.jsonl that names them beside them."
    )


@pytest.mark.parametrize("as_struct", [True, False])
@pytest.mark.parametrize(
    "form",
    [
        "file://{}",
        "local://{}",
        "{}",
        "simplecache::file://{}",
        "simplecache::{}",
        "zip://a.png::file://{}",
        "https://127.0.0.1/a.png::file://{}",
        "/dev/stdin",
        "FILE://{}",
    ],
)
def test_a_cell_that_names_what_is_on_this_machine_is_never_opened(
    tmp_path, humanedit_row, noise, form, as_struct
):
    noise().save(tmp_path / "private.png")
    address = form.format(tmp_path / "private.png")
    row = {
        **humanedit_row("a"),
        "TARGET": {"bytes": None, "path": address} if as_struct else address,
    }
    write(tmp_path / "data/rows.parquet", [row])
    failures: list[SampleError] = []
    samples = load_samples(tmp_path / "data", columns="target=TARGET").reporting(failures.append)
    assert list(samples) == []
    assert [f.sample_id for f in failures] == ["a"]
    assert failures[0].reason.startswith("Its TARGET is ")
    assert repr(address) in failures[0].reason


def test_a_cell_that_names_a_server_is_read_from_there(tmp_path, humanedit_row):
    row = {
        **humanedit_row("a"),
        "OUTPUT_IMG": {"bytes": None, "path": "https://edits.invalid/a.png"},
    }
    write(tmp_path / "rows.parquet", [row])
    (sample,) = load_samples(tmp_path)
    with pytest.raises(SampleError, match=r"'https://edits\.invalid/a\.png' cannot be read"):
        sample.load_target()


def test_a_table_that_is_broken_says_so(tmp_path):
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(RicError, match=r"rows.parquet' cannot be read as a table"):
        load_samples(tmp_path)


def test_the_fingerprint_follows_the_rows(tmp_path, humanedit_row):
    write(tmp_path / "rows.parquet", [humanedit_row("a")])
    first = load_samples(tmp_path).fingerprint
    assert load_samples(tmp_path).fingerprint == first
    write(tmp_path / "rows.parquet", [humanedit_row("b")])
    assert load_samples(tmp_path).fingerprint != first
