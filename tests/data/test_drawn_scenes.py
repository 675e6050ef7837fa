"""Scenes as DATA and as a folder on disk."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ric.data import drawn_scenes
from ric.data.drawn_scenes import SceneStream, edit_of_sample, first_of_type, parse_scenes
from ric.data.sample import load_samples
from ric.errors import RicError
from ric.recipes.scenes import make_scenes
from ric.report.scene_sheet import contact_sheet
from ric.scenes.edits import TYPES, type_of
from ric_cli.main import main


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*")) if path.is_file()
    }  # fmt: skip


def test_a_stream_is_read_like_any_data():
    samples = load_samples("scenes:30#7")
    assert samples.row_count == 30
    found = list(samples)
    assert len(found) == 30
    one = found[0]
    assert one.load_source().size == one.load_target().size == (64, 64)
    mask, context = one.load_mask(), one.load_context_mask()
    assert mask.any()
    assert not (mask & context).any()
    differs = (np.asarray(one.load_source()) != np.asarray(one.load_target())).any(-1)
    assert not (differs & ~mask & ~context).any()
    assert one.editing_type in TYPES
    assert all(vars(one)[name] for name in ("instruction", "region_text", "scene_text",
                                            "source_text", "target_text", "split"))  # fmt: skip


def test_splits_of_a_stream_are_disjoint_and_complete():
    by_split = {
        split: [sample.id for sample in load_samples("scenes:100#7").narrowed(split)]
        for split in ("train", "val", "test", "all")
    }
    parts = by_split["train"] + by_split["val"] + by_split["test"]
    assert sorted(parts) == by_split["all"]
    assert len(by_split["all"]) == 100
    assert len(by_split["test"]) == 9


def test_another_seed_gives_other_ids_and_a_size_does_not():
    assert not {s.id for s in load_samples("scenes:9#1")} & {s.id for s in load_samples("scenes:9")}
    small, large = load_samples("scenes:9@64"), load_samples("scenes:9@96")
    assert [(s.id, s.scene_text) for s in small] == [(s.id, s.scene_text) for s in large]
    assert small.fingerprint != large.fingerprint


def test_no_picture_is_drawn_before_it_is_asked_for(monkeypatch):
    def fail(*_: object) -> None:
        raise AssertionError("drawn")

    monkeypatch.setattr(SceneStream, "draw", fail)
    sample = next(iter(load_samples("scenes:5#123")))
    with pytest.raises(AssertionError, match="drawn"):
        sample.load_source()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("scenes:abc", "'scenes:abc' is not a valid stream of scenes"),
        ("scenes:", "is not a valid stream of scenes"),
        ("scenes:12@", "is not a valid stream of scenes"),
        ("scenes:12#-1", "is not a valid stream of scenes"),
        ("scenes:0", "0 scenes: the count may be 1 to 10,000,000"),
        ("scenes:99999999", "99999999 scenes: the count may be"),
        ("scenes:10@32", "Scenes of 32 pixels: the size may be 64 to 512"),
        ("scenes:10@1024", "Scenes of 1024 pixels: the size may be 64 to 512"),
    ],
)
def test_what_cannot_be_read_says_so(text, words):
    with pytest.raises(RicError, match=words) as caught:
        load_samples(text)
    assert "scenes:300@64#7" in caught.value.hint


def test_a_negative_seed_is_refused():
    with pytest.raises(RicError, match="The seed is -1"):
        SceneStream(count=1, seed=-1)


def test_the_words_are_read_in_full():
    assert parse_scenes("scenes:300@128#7") == SceneStream(count=300, size=128, seed=7)
    assert parse_scenes("scenes:300") == SceneStream(count=300, size=64, seed=0)


def test_an_id_leads_back_to_its_edit():
    sample = list(load_samples("scenes:6#7"))[5]
    edit = edit_of_sample(sample.id)
    assert edit.type == sample.editing_type
    assert edit.wanted.kind in sample.instruction + sample.region_text
    with pytest.raises(RicError, match="'0041' is not the id of a scene"):
        edit_of_sample("0041")


def test_a_folder_holds_the_stream_and_again_gives_the_same_bytes(tmp_path):
    stream = SceneStream(count=20, seed=7)
    counts = make_scenes(tmp_path / "a", stream, workers=1)
    assert sum(counts.values()) == 20
    first = files(tmp_path / "a")
    assert make_scenes(tmp_path / "a", stream, workers=1) == counts
    assert files(tmp_path / "a") == first
    rows = [json.loads(line) for line in (tmp_path / "a/metadata.jsonl").read_text().splitlines()]
    for row, sample in zip(rows, load_samples("scenes:20#7"), strict=True):
        assert row["id"] == sample.id
        assert row["split"] == sample.split
        assert row["context_mask_file_name"]
    for ours, theirs in zip(load_samples(tmp_path / "a"), load_samples("scenes:20#7"), strict=True):
        assert ours.load_source().tobytes() == theirs.load_source().tobytes()
        assert (ours.load_mask() == theirs.load_mask()).all()
        assert (ours.load_context_mask() == theirs.load_context_mask()).all()


def test_an_interrupted_folder_is_finished_by_the_same_command(tmp_path, monkeypatch):
    stream = SceneStream(count=6, seed=8)
    make_scenes(tmp_path / "whole", stream, workers=1)
    make_scenes(tmp_path / "part", stream, workers=1)
    (tmp_path / "part/metadata.jsonl").unlink()
    (tmp_path / "part/target/scene-8-000004.png").unlink()
    drawn = []
    monkeypatch.setattr("ric.recipes.scenes.render_pair", _counting(drawn))
    make_scenes(tmp_path / "part", stream, workers=1)
    assert len(drawn) == 1
    assert files(tmp_path / "part") == files(tmp_path / "whole")


def _counting(drawn: list[int]):
    def draw(*arguments, **options):
        drawn.append(1)
        return drawn_scenes.render_pair(*arguments, **options)

    return draw


def test_two_worker_processes_write_what_one_does(tmp_path):
    stream = SceneStream(count=18, seed=9)
    make_scenes(tmp_path / "one", stream, workers=1)
    make_scenes(tmp_path / "two", stream, workers=2)
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_a_folder_of_other_things_is_refused(tmp_path):
    make_scenes(tmp_path / "a", SceneStream(count=1, seed=1), workers=1)
    with pytest.raises(RicError, match="holds other scenes"):
        make_scenes(tmp_path / "a", SceneStream(count=2, seed=1), workers=1)
    (tmp_path / "b").mkdir()
    (tmp_path / "b/letter.txt").write_text("dear")
    with pytest.raises(RicError, match="is not empty"):
        make_scenes(tmp_path / "b", SceneStream(count=1), workers=1)


def test_sheets_show_the_first_of_each_type():
    stream = SceneStream(count=1, seed=3)
    firsts = first_of_type(stream, "Add", 4)
    assert [type_of(3, index) for index in firsts] == ["Add"] * 4
    assert firsts == [i for i in range(firsts[-1] + 1) if type_of(3, i) == "Add"]
    assert contact_sheet(stream, "Add").size[0] > 3 * 3 * 64
    with pytest.raises(RicError, match="Unknown edit type 'Addd'"):
        first_of_type(stream, "Addd", 1)


def run(monkeypatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["ric", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_command_writes_folder_and_sheets(tmp_path, monkeypatch, capsys):
    out, sheets = tmp_path / "scenes", tmp_path / "sheets"
    words = ("scenes", str(out), "--count", "4", "--seed", "2", "--no-shadows", "--workers", "1")
    assert run(monkeypatch, *words, "--backgrounds", "photos", "--sheets", str(sheets), "--json",
               "--quiet") == 0  # fmt: skip
    assert json.loads(capsys.readouterr().out)["rows"] == 4
    assert sorted(path.stem for path in sheets.iterdir()) == sorted(TYPES)
    with Image.open(out / "source/scene-2-000000.png") as image:
        assert image.size == (64, 64)
    assert run(monkeypatch, "scenes", str(out), "--count", "0") == 1
    assert "0 scenes" in capsys.readouterr().err
