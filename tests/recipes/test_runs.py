"""Shards of one command, made apart and joined: the run that it would have been without them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ric.config import DescribeConfig, EditConfig, EvalConfig
from ric.errors import RicError
from ric.recipes.describe import describe
from ric.recipes.edit import edit
from ric.recipes.evaluate import evaluate
from ric.recipes.runs import join_shards
from ric.runs.rows import read_rows

COUNT = 3


def by_id(run: Path, kind: str = "edits") -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in read_rows(run, kind)}


def bytes_of(run: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (run / "images").iterdir()}


@pytest.fixture(scope="module")
def config(tiny: Callable[..., EditConfig]) -> Callable[..., EditConfig]:
    """Two steps of two pictures a batch: what is computed together decides the last bits."""

    def make(data: Path, **changes: Any) -> EditConfig:
        usual = {"split": "all", "steps": 2, "image_size": 32, "batch_size": 2}
        return tiny(EditConfig, data, **{**usual, **changes})

    return make


@pytest.fixture(scope="module")
def data(make_edits) -> Path:
    """Eleven edits, of which one has no source that can be read."""
    folder = make_edits(11)
    (folder / "source/04.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def shards(data, config, follow, tmp_path_factory) -> list[Path]:
    top = tmp_path_factory.mktemp("shards")
    numbers = range(1, COUNT + 1)
    return [follow(edit, config(data, shard=f"{n}/{COUNT}"), top / f"{n}") for n in numbers]


@pytest.fixture(scope="module")
def whole(data, config, follow, tmp_path_factory) -> Path:
    return follow(edit, config(data), tmp_path_factory.mktemp("whole") / "run")


def test_joined_shards_have_the_rows_and_to_the_bit_the_pictures_of_one_run(
    shards, whole, tmp_path, record_of
):
    assert min(len(by_id(shard)) for shard in shards) > 0
    joined = join_shards(shards[::-1], runs_dir=tmp_path).path
    assert by_id(joined) == by_id(whole)
    assert by_id(joined, "failures") == by_id(whole, "failures")
    assert list(by_id(joined, "failures")) == ["04"]
    assert bytes_of(joined) == bytes_of(whole)
    same = ("command", "config", "data", "weights", "status", "masked_edits")
    assert [record_of(joined)[key] for key in same] == [record_of(whole)[key] for key in same]


def test_joined_shards_are_scored_as_one_run(shards, whole, data, tiny, follow, tmp_path):
    joined = join_shards(shards, runs_dir=tmp_path).path

    def scored(edits: Path, name: str) -> str:
        words = {"edits": (f"Mine={edits}",), "metrics": "l1,psnr_outside", "partial": True}
        run = follow(evaluate, tiny(EvalConfig, data, split="all", **words), tmp_path / name)
        return (run / "per_sample.jsonl").read_text()

    assert scored(joined, "of-joined") == scored(whole, "of-whole") != ""


def test_the_edit_repeated_on_joined_shards_makes_nothing_anew_and_draws_the_sheet(
    data, config, shards, whole, follow, tmp_path
):
    joined = join_shards(shards, runs_dir=tmp_path, run=tmp_path / "joined").path
    before = {file: file.stat().st_mtime_ns for file in (joined / "images").iterdir()}
    follow(edit, config(data), joined)
    assert {file: file.stat().st_mtime_ns for file in (joined / "images").iterdir()} == before
    assert (joined / "sheet.png").read_bytes() == (whole / "sheet.png").read_bytes()


def test_a_shard_that_is_repeated_knows_its_own_edits_from_those_of_others(
    data, config, shards, follow, tmp_path
):
    mine = shutil.copytree(shards[1], tmp_path / "mine")
    first = next((mine / "images").iterdir())
    kept = first.read_bytes()
    first.unlink()
    follow(edit, config(data, shard=f"2/{COUNT}"), mine)
    assert first.read_bytes() == kept
    assert by_id(mine) == by_id(shards[1])


def test_shards_of_photos_join_too(make_edits, config, follow, tmp_path):
    photos = make_edits(7) / "source"
    night = {"instruction": "make it night", "batch_size": 1}
    made = [
        follow(edit, config(photos, shard=f"{n}/2", **night), tmp_path / f"{n}") for n in (1, 2)
    ]
    joined = join_shards(made, runs_dir=tmp_path, run=tmp_path / "joined").path
    assert sorted(by_id(joined)) == sorted(photo.stem for photo in photos.iterdir())
    assert all((joined / row["file_name"]).is_file() for row in by_id(joined).values())


def test_joined_descriptions_are_those_of_one_run(make_edits, tiny, follow, tmp_path, record_of):
    data = make_edits(9)

    def described(name: str, **changes: Any) -> Path:
        words = {"describer": "chat", "max_new_tokens": 4, "quality_gates": False}
        return follow(describe, tiny(DescribeConfig, data, **words, **changes), tmp_path / name)

    whole = described("whole")
    made = [described(f"{n}", shard=f"{n}/2") for n in (1, 2)]
    joined = join_shards(made, runs_dir=tmp_path, run=tmp_path / "joined").path
    assert by_id(joined, "descriptions") == by_id(whole, "descriptions")
    assert record_of(joined)["quality"] == record_of(whole)["quality"]


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ([0, 2], "2/3 of the shards is missing."),
        ([1], "1/3, 3/3 of the shards are missing."),
        ([0, 1, 1], "are both shard 2/3."),
    ],
)
def test_shards_that_are_missing_or_named_twice_are_refused(shards, chosen, said, tmp_path):
    with pytest.raises(RicError, match=said):
        join_shards([shards[place] for place in chosen], runs_dir=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def changed(shard: Path, copy: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    shutil.copytree(shard, copy)
    record = json.loads((copy / "run.json").read_text())
    change(record)
    (copy / "run.json").write_text(json.dumps(record))
    return copy


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda record: record["config"].update(seed=5), "seed: 0 there, 5 now"),
        (lambda record: record["config"].update(shard="2/4"), "4 shards in place of 3"),
        (lambda record: record["data"].update(fingerprint="0" * 64), ": data."),
        (lambda record: record.update(command="describe"), ": command."),
        (lambda record: record["config"].update(shard=25), "--shard is '25'."),
        (lambda record: record["config"].update(shard=None), "was made without --shard"),
        (lambda record: record.update(status="failed"), "is not finished"),
    ],
)
def test_what_is_no_finished_shard_of_the_same_command_is_refused(shards, change, said, tmp_path):
    other = changed(shards[1], tmp_path / "other", change)
    with pytest.raises(RicError, match=said):
        join_shards([shards[0], other, shards[2]], runs_dir=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_shards_that_divided_other_lists_of_photos_are_refused(
    make_edits, config, follow, tmp_path
):
    photos, night = make_edits(6) / "source", {"instruction": "make it night"}
    first = follow(edit, config(photos, shard="1/2", **night), tmp_path / "1")
    (photos / "00.png").unlink()
    second = follow(edit, config(photos, shard="2/2", **night), tmp_path / "2")
    both = by_id(first).keys() & by_id(second).keys()
    assert both  # each batch begins a photo later
    with pytest.raises(RicError, match="they have divided different lists"):
        join_shards([first, second], runs_dir=tmp_path / "runs")


def test_a_shard_without_a_batch_is_done_and_joins(make_edits, config, follow, tmp_path):
    data, several = make_edits(3), {"batch_size": 4, "editor": "ip2p"}
    made = [
        follow(edit, config(data, shard=f"{n}/2", **several), tmp_path / f"{n}") for n in (1, 2)
    ]
    assert sorted(len(by_id(shard)) for shard in made) == [0, 3]
    assert len(by_id(join_shards(made, runs_dir=tmp_path).path)) == 3


def test_a_run_that_exists_is_not_joined_into(shards, whole, tmp_path):
    with pytest.raises(RicError, match="is already a run"):
        join_shards(shards, runs_dir=tmp_path, run=whole)
