"""How many samples there are, where that is known without a look at a picture."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ric.config import EditConfig
from ric.data.edit_sample import EditSample
from ric.data.sample import load_samples
from ric.recipes.edit import _batches, _counts


@pytest.fixture
def _no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a picture was read")

    monkeypatch.setattr(EditSample, "load_source", refuse)
    monkeypatch.setattr(EditSample, "group", refuse)


@pytest.mark.parametrize("split", ["all", "train", "val", "test"])
@pytest.mark.parametrize("limit", [None, 1, 1000])
def test_of_scenes_as_many_as_are_drawn(split, limit):
    samples = load_samples("scenes:60@64#5").narrowed(split, limit)
    ids = [sample.id for sample in samples.glance()]
    assert list(samples.known_ids()) == ids
    assert samples.known_count == len(ids)


@pytest.mark.usefixtures("_no_picture")
def test_of_a_folder_the_rows_tell_their_splits_by_column_or_group(edits):
    samples = load_samples(edits({"split": "val"}, {"split": "test"}, {"split": "val"}))
    assert list(samples.narrowed("val").known_ids()) == ["0000", "0002"]
    assert samples.narrowed("val", 1).known_count == 1
    assert samples.narrowed("train").known_count == 0
    grouped = load_samples(edits({"group_id": "a"}, {"group_id": "b"}))
    found = [grouped.narrowed(split).known_count for split in ("train", "val", "test")]
    assert sum(found) == 2


@pytest.mark.usefixtures("_no_picture")
def test_without_split_or_group_only_the_whole_is_known(edits):
    samples = load_samples(edits({}, {}, {}))
    assert samples.known_count == 3
    assert samples.narrowed("all", 2).known_count == 2
    assert samples.narrowed("train").known_count is None


@pytest.mark.usefixtures("_no_picture")
def test_a_bad_row_has_no_id_here_but_counts_as_one(edits):
    samples = load_samples(edits({}, {"id": "0000"}, {"source_file_name": None}))
    assert list(samples.known_ids()) == ["0000"]
    assert samples.known_count == 3


def test_of_each_shard_as_many_as_its_batches_hold():
    config = EditConfig(data="scenes:60@64#5", split="all", batch_size=4)
    samples = load_samples(config.data)
    counts = []
    for part in range(1, 4):
        mine = replace(config, shard=f"{part}/3")
        ids = [sample.id for batch in _batches(samples.glance(), mine) for sample in batch]
        assert _counts(samples, mine, {*ids[:5], "another"}) == (len(ids), 5)
        counts.append(len(ids))
    assert sum(counts) == 60


@pytest.mark.usefixtures("_no_picture")
def test_where_ids_need_pictures_rows_are_counted_if_they_can_be(edits):
    samples = load_samples(edits({"split": "val"}, {}, {}))
    config = EditConfig(data=samples.name, split="val", batch_size=2)
    assert _counts(samples.narrowed("val"), config, {"0000"}) == (None, 1)
    assert _counts(samples.narrowed("all"), config, {"0000"}) == (3, 1)
