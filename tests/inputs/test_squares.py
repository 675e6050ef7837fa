"""Pictures are decoded once: the cache that all that train read from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from ric.cache_folders import cache_folder
from ric.config import FitClipConfig
from ric.data.batches import to_square
from ric.data.sample import load_samples
from ric.inputs import squares as module
from ric.inputs.filling import appearing_whole
from ric.inputs.squares import Squares, Squaring, decode_squares
from ric.runs.rows import writer_name
from ric.runs.run import open_run
from ric.work import open_work

HOW = Squaring(size=48, fit="squash", masks="required", keep_source=True, ignore_signature=False)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RIC_CACHE_DIR", str(tmp_path / "cache"))


def decode(data: Path | str, how: Squaring = HOW, split: str = "all", **changes) -> Squares:
    config = FitClipConfig(data=str(data), device="cpu", **changes)
    with open_run("fit-clip", {}, runs_dir=cache_folder() / "runs") as run:
        return decode_squares(config, open_work(config, run), split, how)


@pytest.fixture
def no_decoding(monkeypatch):
    """From here on, decoding a picture fails the test."""

    def forbid() -> None:
        monkeypatch.setattr(module, "to_square", lambda *a, **k: pytest.fail("decoded"))

    return forbid


def same(one: Squares, other: Squares) -> bool:
    return (
        one.rows == other.rows
        and torch.equal(one.targets, other.targets)
        and torch.equal(one.sources, other.sources)
        and [str(error) for error in one.failures] == [str(error) for error in other.failures]
    )


def test_what_is_mapped_is_what_decoding_gives(make_edits):
    data = make_edits(5)
    squares = decode(data)
    samples = list(load_samples(data))
    assert [row["id"] for row in squares.rows] == [sample.id for sample in samples]
    for place, sample in enumerate(samples):
        square = to_square(sample, 48)
        assert torch.equal(squares.sources[place], square.source)
        assert torch.equal(squares.targets[place], square.target)
        assert squares.rows[place]["group"] == sample.group()
        assert squares.rows[place]["scene_text"] == sample.scene_text


def test_a_second_look_decodes_nothing_and_finds_the_same_failures_too(make_edits, no_decoding):
    data = make_edits(5, {3: {"id": "00"}})
    (data / "target" / "02.png").write_bytes(b"")
    first = decode(data)
    assert [error.sample_id for error in first.failures] == ["02", "00"]
    no_decoding()
    assert same(decode(data), first)


def test_a_picture_that_has_changed_is_read_again(make_edits):
    data = make_edits(3)
    before = decode(data).targets.clone()
    picture = data / "target" / "01.png"
    Image.open(picture).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(picture)
    after = decode(data).targets
    assert torch.equal(after[0], before[0])
    assert not torch.equal(after[1], before[1])


def test_a_broken_picture_that_was_mended_is_read(make_edits):
    data = make_edits(3)
    picture = data / "source" / "01.png"
    whole = picture.read_bytes()
    picture.write_bytes(whole[:50])
    assert len(decode(data).rows) == 2
    picture.write_bytes(whole)
    assert len(decode(data).rows) == 3


@pytest.mark.parametrize(
    "changes",
    [{"limit": 2}, {"split": "val"}, {"how": Squaring(64, "squash", "required", True, False)},
     {"how": Squaring(48, "crop", "required", True, False)},
     {"how": Squaring(48, "squash", "required", True, True)}],
    ids=["limit", "split", "size", "fit", "signature"],
)  # fmt: skip
def test_other_settings_have_a_cache_of_their_own(changes, edits):
    decode(edits)
    held = len(list((cache_folder() / "squares").iterdir()))
    decode(edits, **changes)
    assert len(list((cache_folder() / "squares").iterdir())) == held + 1


def test_without_sources_and_masks_only_targets_are_kept(make_edits):
    data = make_edits(3)
    for mask in (data / "mask").iterdir():
        Image.new("L", (96, 80)).save(mask)  # empty: an error, were it looked at
    squares = decode(data, Squaring(48, "squash", "ignored", False, False))
    assert squares.sources is None
    assert len(squares.targets) == 3
    assert [row["box"] for row in squares.rows] == [None] * 3


def test_many_samples_are_decoded_by_processes_in_the_same_order(make_edits, monkeypatch):
    data = make_edits(9)
    (data / "mask" / "04.png").write_bytes(b"no picture")
    alone = decode(data)
    monkeypatch.setattr(module, "FEW", 2)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setenv("RIC_CACHE_DIR", str(cache_folder() / "by-processes"))

    monkeypatch.setattr(module, "AT_ONCE", 2)
    monkeypatch.setattr(module, "AHEAD", 1)
    monkeypatch.setattr(module, "_decode", lambda *given: pytest.fail("decoded here"))
    assert same(decode(data), alone)


def test_a_fill_that_fails_leaves_nothing_behind(make_edits, monkeypatch):
    data = make_edits(4)

    def broken(sample, *rest, **more):
        if sample.id == "02":
            raise MemoryError
        return to_square(sample, *rest, **more)

    monkeypatch.setattr(module, "to_square", broken)
    with pytest.raises(MemoryError):
        decode(data)
    assert list((cache_folder() / "squares").iterdir()) == []


def test_what_a_killed_process_left_half_filled_goes_and_a_living_one_s_stays(tmp_path):
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                          capture_output=True, text=True, check=True).stdout.strip()  # fmt: skip
    writer = writer_name().rpartition(".")[0]
    left = {who: tmp_path / f".key.{writer}.{pid}" for who, pid in
            (("gone", gone), ("living", os.getppid()))}  # fmt: skip
    left["of another machine"] = tmp_path / f".key.elsewhere_1.{gone}"
    left["of another key"] = tmp_path / f".key2.{writer}.{gone}"
    for folder in left.values():
        folder.mkdir()
    with appearing_whole(tmp_path / "key", lambda: False) as aside:
        (aside / "file").touch()
    assert (tmp_path / "key" / "file").exists()
    stayed = {who for who, folder in left.items() if folder.exists()}
    assert stayed == {"living", "of another machine", "of another key"}


def test_writing_into_a_mapped_square_does_not_reach_the_file(make_edits):
    data = make_edits(2)
    first = decode(data)
    kept = first.targets.clone()
    first.targets.zero_()
    assert torch.equal(decode(data).targets, kept)


def test_data_without_a_usable_sample_is_cached_as_such(make_edits):
    data = make_edits(2)
    for picture in (data / "target").iterdir():
        picture.write_bytes(b"")
    for _ in range(2):
        squares = decode(data)
        assert squares.targets.shape == (0, 3, 48, 48)
        assert len(squares.failures) == 2


def test_drawn_scenes_are_kept_like_any_other_data(no_decoding):
    first = decode("scenes:6@64#2")
    no_decoding()
    assert same(decode("scenes:6@64#2"), first)
