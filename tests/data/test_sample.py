from __future__ import annotations

import hashlib
import json
import pickle
import subprocess
import sys
import tracemalloc
from itertools import islice

import numpy as np
import pytest
from PIL import Image
from quiet_clock import quiet_seconds

from ric.data.images import pixel_hash
from ric.data.sample import EditSample, Pictures, load_samples
from ric.errors import RicError, SampleError
from ric.splits import split_of


def only(folder, **options) -> EditSample:
    (sample,) = load_samples(folder, **options)
    return sample


# --- one sample ----------------------------------------------------------------------------------


def test_a_full_row_gives_pictures_mask_and_texts(edits, noise):
    sample = only(edits({"region_text": "a red ball", "scene_text": "", "editing_type": None}))
    assert (sample.id, sample.instruction, sample.region_text) == (
        "0000", "make it red", "a red ball",
    )  # fmt: skip
    assert sample.scene_text is None
    assert sample.editing_type is None
    assert pixel_hash(sample.load_source()) == pixel_hash(noise())
    assert pixel_hash(sample.load_target()) == pixel_hash(noise(seed=100))
    mask = sample.load_mask()
    assert mask.dtype == bool
    assert mask.shape == (12, 16)
    assert mask[2:6, 3:9].all()
    assert mask.sum() == 24
    assert (sample.has_target, sample.has_mask, sample.mask_origin) == (True, True, "file")
    assert sample.load_context_mask() is None


def test_a_sample_survives_a_trip_to_another_process(edits):
    sample = pickle.loads(pickle.dumps(only(edits({}))))
    assert sample.load_mask().any()


def test_source_and_mask_are_aligned_to_the_target(edits, noise):
    folder = edits({})
    noise(40, 30, seed=9).save(folder / "target/0.png")
    sample = only(folder)
    assert sample.load_source().size == (40, 30)
    assert sample.load_mask().shape == (30, 40)
    assert sample.load_mask()[6:14, 8:22].all()


def test_a_photo_given_as_a_mask_is_refused_with_words(edits, noise):
    folder = edits({"context_mask_file_name": "context.png"})
    noise(seed=5).save(folder / "mask/0.png")
    noise(seed=6).save(folder / "context.png")
    sample = only(folder)
    for load in (sample.load_mask, sample.load_context_mask):
        with pytest.raises(SampleError, match="The mask looks like a photo") as caught:
            load()
        assert caught.value.stage == "mask"
        assert caught.value.reason.endswith("a mask is white where to edit and black elsewhere.")


def test_an_erased_mask_is_read_beside_its_source(noise, encoded):
    source = noise(40, 30)
    source.paste("black", (0, 0, 40, 10))
    mask = source.copy()
    mask.paste("black", (10, 15, 20, 25))
    about = {"source": encoded(source), "mask": encoded(mask), "mask_kind": "erased-black"}
    pictures = Pictures(**about, target=noise(80, 60, seed=1))
    seen = EditSample(id="a", instruction="", pictures=pictures).load_mask()
    expected = np.zeros((60, 80), bool)
    expected[30:50, 20:40] = True
    assert np.array_equal(seen, expected)
    pictures = Pictures(**{**about, "source": b"broken"}, target=noise(80, 60, seed=1))
    with pytest.raises(SampleError, match="not a picture") as caught:
        EditSample(id="a", instruction="", pictures=pictures).load_mask()
    assert caught.value.stage == "source"


def test_without_a_target_the_source_gives_the_size(edits, noise):
    folder = edits({"target_file_name": ...})
    noise(32, 24).save(folder / "source/0.png")
    sample = only(folder)
    assert sample.has_target is False
    assert sample.load_source().size == (32, 24)
    assert sample.load_mask().shape == (24, 32)
    with pytest.raises(SampleError, match=r"No target in metadata.jsonl. Add target_file_name"):
        sample.load_target()


def test_a_missing_mask_is_derived_from_the_pair(edits):
    folder = edits({"mask_file_name": None})
    before = Image.new("RGB", (200, 200), "grey")
    after = before.copy()
    after.paste("red", (50, 60, 100, 120))
    before.save(folder / "source/0.png")
    after.save(folder / "target/0.png")
    sample = only(folder)
    assert sample.mask_origin == "derived"
    mask = sample.load_mask()
    assert mask[65:115, 55:95].all()
    assert mask.mean() < 0.1
    assert np.array_equal(mask, sample.load_mask(pair=(before, after)))


def test_with_neither_mask_nor_target_the_error_says_what_to_add(edits):
    sample = only(edits({"id": "0041", "mask_file_name": ..., "target_file_name": ...}))
    assert sample.mask_origin is None
    with pytest.raises(SampleError) as caught:
        sample.load_mask()
    assert caught.value.stage == "mask"
    assert caught.value.reason == (
        "No mask for sample '0041' in metadata.jsonl. Add mask_file_name to that row,"
        " or target_file_name to derive it from."
    )


@pytest.mark.parametrize(
    ("fill", "words"),
    [(0, "The mask is empty: it marks no pixel to edit"), (255, "The mask covers 100.0% of the")],
)
def test_a_mask_that_says_nothing_is_an_error_and_never_a_full_box(edits, fill, words):
    folder = edits({})
    Image.new("L", (16, 12), fill).save(folder / "mask/0.png")
    with pytest.raises(SampleError, match=words):
        only(folder).load_mask()


def test_a_pair_without_a_difference_is_an_error_of_its_own(edits, noise):
    folder = edits({"mask_file_name": ...})
    noise().save(folder / "target/0.png")
    with pytest.raises(SampleError, match="source and target differ too little"):
        only(folder).load_mask()


def test_ignore_signature_cuts_the_corner_from_a_given_mask(edits):
    folder = edits({})
    mask = np.zeros((12, 16), np.uint8)
    mask[4:, 8:] = 255
    Image.fromarray(mask).save(folder / "mask/0.png")
    kept, cut = only(folder).load_mask(), only(folder, ignore_signature=True).load_mask()
    assert kept[11, 15]
    assert not cut[11, 14:].any()
    assert cut.sum() == kept.sum() - 2


def test_a_context_mask_is_read_and_aligned(edits):
    folder = edits({"context_mask_file_name": "mask/context.png"})
    Image.fromarray(np.eye(6, 8, dtype=np.uint8) * 255).save(folder / "mask/context.png")
    context = only(folder).load_context_mask()
    assert context.shape == (12, 16)
    assert context[0, 0]
    assert not context[0, 15]


@pytest.mark.parametrize("stage", ["source", "target", "mask"])
def test_a_broken_picture_is_a_sample_error_that_names_its_stage(edits, stage):
    folder = edits({})
    (folder / stage / "0.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    sample = only(folder)
    with pytest.raises(SampleError) as caught:
        getattr(sample, f"load_{stage}")()
    assert (caught.value.sample_id, caught.value.stage) == ("0000", stage)
    assert f"{stage}/0.png" in caught.value.reason


def test_a_picture_over_the_limit_names_the_flag(edits):
    sample = only(edits({}), max_pixels=100)
    with pytest.raises(SampleError, match=r"over the limit of 100. Raise it with --max-pixels"):
        sample.load_source()


def test_the_group_is_the_datas_own_or_a_hash_of_the_sources_pixels(edits, noise):
    assert only(edits({"group_id": "photo-7"})).group() == "photo-7"
    assert only(edits({}, name="other")).group() == pixel_hash(noise())


def test_pictures_in_memory_make_a_sample_too(noise, encoded):
    pictures = Pictures(source=encoded(noise()), target=noise(seed=1))
    sample = EditSample(id="a", instruction="make it red", pictures=pictures)
    assert sample.load_target().size == (16, 12)
    assert "bytes" not in repr(sample)
    assert "PNG" not in repr(sample)


# --- a data set ----------------------------------------------------------------------------------


def test_samples_can_be_gone_through_again_and_again(edits):
    samples = load_samples(edits({}, {}, {}))
    assert [s.id for s in samples] == [s.id for s in samples] == ["0000", "0001", "0002"]
    assert samples.kind == "folder"
    assert samples.row_count == 3


def test_the_fingerprint_is_sha256_of_the_metadata(edits):
    folder = edits({"region_text": "a ball"})
    expected = hashlib.sha256((folder / "metadata.jsonl").read_bytes()).hexdigest()
    assert load_samples(folder).fingerprint == expected
    mapped = load_samples(folder, columns="instruction=region_text")
    assert mapped.fingerprint != expected


def test_a_data_sets_own_split_wins(edits):
    folder = edits({"split": "test"}, {"split": "dev"}, {"split": "train"}, {"split": "validation"})
    ids = {split: [s.id for s in load_samples(folder).narrowed(split)] for split in
           ("train", "val", "test", "all")}  # fmt: skip
    assert ids == {
        "train": ["0002"], "val": ["0001", "0003"], "test": ["0000"],
        "all": ["0000", "0001", "0002", "0003"],
    }  # fmt: skip


def test_without_an_own_split_groups_decide_and_every_sample_is_in_one_split(edits):
    rows = [{"group_id": f"photo-{n % 20}"} for n in range(40)]
    folder = edits(*rows)
    for split in ("train", "val", "test"):
        for sample in load_samples(folder).narrowed(split):
            assert split_of(sample.group_id) == split
    counts = [len(list(load_samples(folder).narrowed(s))) for s in ("train", "val", "test")]
    assert sum(counts) == 40


def test_without_a_group_the_sources_pixels_decide_and_are_read_once(edits, noise):
    folder = edits({}, {}, {}, {}, {}, {})
    expected = [f"{n:04d}" for n in range(6) if split_of(pixel_hash(noise(seed=n))) == "train"]
    samples = load_samples(folder).narrowed("train")
    assert [s.id for s in samples] == expected
    for path in (folder / "source").iterdir():
        path.unlink()
    assert [s.id for s in samples] == expected


def test_the_limit_counts_samples_after_the_split(edits):
    folder = edits({"split": "test"}, {"split": "train"}, {"split": "test"}, {"split": "test"})
    assert [s.id for s in load_samples(folder).narrowed("test", 2)] == ["0000", "0002"]
    assert list(load_samples(folder).narrowed("all", 0)) == []


def test_a_source_that_the_split_needs_and_cannot_read_is_a_failure(edits):
    folder = edits({}, {"split": "train"})
    (folder / "source/0.png").write_bytes(b"")
    failures: list[SampleError] = []
    samples = load_samples(folder).narrowed("train", on_failure=failures.append)
    assert [s.id for s in samples] == ["0001"]
    assert [(f.sample_id, f.stage) for f in failures] == [("0000", "source")]


def test_without_a_listener_a_bad_row_raises(edits):
    with pytest.raises(SampleError, match="Its split is 'holdout'; it may be train, val or test"):
        list(load_samples(edits({"split": "holdout"})))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"id": "0001"}, "Its id is used twice"),
        ({"id": "a/b"}, "Its id cannot be a file name"),
        ({"id": "a\x1b[31m"}, "Its id holds control characters"),
        ({"id": "a\u202eb"}, "Its id holds control characters"),
        ({"id": "..", "source_file_name": "source/0.png"}, "Its id cannot be a file name"),
        ({"id": "x" * 201}, "Its id is longer than 200 bytes"),
        ({"id": 1.5}, "Its id is a float, not text"),
        ({"id": "half \ud800"}, "half a character"),
        ({"instruction": ""}, "It has no instruction. Add instruction in metadata.jsonl"),
        ({"instruction": ["a"]}, "Its instruction is a list, not text"),
        ({"source_file_name": ...}, "It has no source picture in metadata.jsonl"),
        ({"source_file_name": 7}, "Its source_file_name is a int, not a path"),
    ],
)
def test_a_row_that_is_no_sample_is_listed_and_the_rest_goes_on(edits, row, words):
    failures: list[SampleError] = []
    folder = edits({"id": "first"}, {"id": "0001"}, row, {"id": "last"})
    ids = [s.id for s in load_samples(folder).reporting(failures.append)]
    assert ids == ["first", "0001", "last"]
    assert [words in failure.reason for failure in failures] == [True]


def test_every_bad_row_stands_under_an_id_of_its_own(edits):
    """A row's own id where no other row has it, else its line."""
    rows = [
        {"id": "a"},
        {"id": "a"},
        {"id": "a"},
        {"id": "b", "instruction": ""},
        {"id": "b"},
        {"id": "b", "split": "holdout"},
        *[{"id": "x/y"}, {"id": 1.5}, {"id": ..., "source_file_name": ...}] * 2,
        {"id": "z"},
    ]
    failures: list[SampleError] = []
    samples = load_samples(edits(*rows)).reporting(failures.append)
    assert [s.id for s in samples] == ["a", "z"]
    lines = [f"metadata.jsonl:{line}" for line in (2, 3)]
    assert [f.sample_id for f in failures] == [
        *lines, "b", *(f"metadata.jsonl:{line}" for line in range(5, 13)),
    ]  # fmt: skip
    told = {f.sample_id: f.reason for f in failures}
    assert "Its id is used twice" in told["metadata.jsonl:3"]
    assert told["metadata.jsonl:6"].startswith("Its split is 'holdout'")
    assert told["metadata.jsonl:6"].endswith("Its id is used twice: 'b'.")
    assert "It has no source picture in metadata.jsonl" in told["metadata.jsonl:9"]
    assert told["metadata.jsonl:10"].endswith("results are named after it: 'x/y'.")


NAN = float("nan")


def test_nan_is_an_empty_cell_and_costs_no_row(edits):
    """Where a value is missing, pandas writes NaN."""
    row = {"region_text": NAN, "split": NAN, "group_id": NAN, "mask_file_name": NAN}
    sample = only(edits(row))
    assert (sample.region_text, sample.split, sample.group_id) == (None, None, None)
    assert sample.mask_origin == "derived"
    failures: list[SampleError] = []
    folder = edits({"instruction": NAN}, {"id": NAN}, {"source_file_name": NAN}, name="other")
    assert [s.id for s in load_samples(folder).reporting(failures.append)] == ["1"]
    assert [f.reason.split(".")[0] for f in failures] == [
        "It has no instruction", "It has no source picture in metadata",
    ]  # fmt: skip


def test_rows_without_an_instruction_may_be_asked_for(edits):
    assert only(edits({"instruction": ...}), need_instruction=False).instruction == ""


def test_a_whole_number_is_a_fine_id_and_a_missing_one_is_the_file_name(edits):
    ids = [s.id for s in load_samples(edits({"id": 41}, {"id": ...}))]
    assert ids == ["41", "1"]


# --- what DATA may be ----------------------------------------------------------------------------


def test_unknown_data_is_an_error_that_lists_what_there_may_be(tmp_path):
    for name in (str(tmp_path / "nothing"), "no-such-folder", "data/my-edits"):
        with pytest.raises(RicError) as caught:
            load_samples(name)
        assert caught.value.message == f"No data at '{name}'."
        assert "metadata.jsonl" in str(caught.value.hint)
        assert "BryanW/HumanEdit" in str(caught.value.hint)


def test_a_folder_without_metadata_says_how_to_make_it(tmp_path):
    with pytest.raises(RicError, match=r"has no metadata.jsonl, .csv, .parquet or .tar") as caught:
        load_samples(tmp_path)
    assert "ric data OUT --source DIR" in str(caught.value.hint)


def test_no_data_at_all_says_so():
    with pytest.raises(RicError, match="No DATA is given"):
        load_samples("")


def test_a_file_that_is_no_table_says_so(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(RicError, match="is not a table"):
        load_samples(tmp_path / "a.txt")


def test_the_metadata_file_itself_may_be_named(edits):
    assert only(edits({}) / "metadata.jsonl").id == "0000"


def test_scenes_are_data_too():
    samples = load_samples("scenes:3@64#7")
    assert samples.kind == "scenes"
    assert [sample.id for sample in samples] == [f"scene-7-00000{index}" for index in range(3)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("dev",), "Unknown split 'dev'"), (("all", -1), "The limit is -1")],
)
def test_a_selection_that_cannot_be_is_named(edits, arguments, words):
    samples = load_samples(edits({}))
    with pytest.raises(RicError, match=words):
        samples.narrowed(*arguments)


@pytest.mark.parametrize("columns", ["picture=a", "source"])
def test_columns_that_cannot_be_are_named(edits, columns):
    with pytest.raises(RicError, match=f"--columns cannot use '{columns}'"):
        load_samples(edits({}), columns=columns)


# --- many rows -----------------------------------------------------------------------------------


def test_a_hundred_thousand_rows_start_at_once_and_stay_flat(edits):
    folder = edits({})
    row = {
        "source_file_name": "source/0.png",
        "instruction": "make it red",
        "scene_text": "s" * 400,
    }
    with (folder / "metadata.jsonl").open("w") as stream:
        for number in range(100_000):
            stream.write(json.dumps({"id": f"row-{number}", **row}) + "\n")
    begun = quiet_seconds()
    samples = iter(load_samples(folder))
    next(samples)
    assert quiet_seconds() - begun < 5
    # 200 bytes a row that stay would show; watching all rows is slow
    tracemalloc.start()
    try:
        assert sum(1 for _ in islice(samples, 10_000)) == 10_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2e6
    assert sum(1 for _ in samples) == 89_999


def test_importing_the_data_does_not_import_torch_or_datasets():
    code = "import sys, ric.data.sample, ric.recipes.data as _;" \
           "print([m for m in ('torch', 'datasets', 'skimage', 'scipy', 'pyarrow') if m in sys.modules])"  # fmt: skip  # noqa: E501
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
