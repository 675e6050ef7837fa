"""Pictures are decoded once: the cache that all that train read from."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import fsspec
import pyarrow
import pytest
import torch
from PIL import Image
from pyarrow import parquet

from ric.cache_folders import cache_folder
from ric.config import FitClipConfig
from ric.data.batches import to_square
from ric.data.sample import load_samples
from ric.inputs import squares as module
from ric.inputs.filling import appearing_whole
from ric.inputs.squares import Squares, Squaring, decode_squares
from ric.runs.open_run import open_run
from ric.runs.rows import writer_name
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
    assert [error.sample_id for error in first.failures] == ["02", "metadata.jsonl:4"]
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


@pytest.mark.parametrize("how", ["moved there", "written over"])
def test_a_picture_replaced_by_one_of_the_same_size_and_time_is_read_again(make_edits, how):
    data = make_edits(2)
    picture = data / "target" / "01.bmp"
    metadata = data / "metadata.jsonl"
    metadata.write_text(metadata.read_text().replace("target/01.png", "target/01.bmp"))
    Image.new("RGB", (96, 80), "red").save(picture)
    before, known = decode(data).targets.clone(), picture.stat()
    other = data / "other.bmp"
    Image.new("RGB", (96, 80), "blue").save(other)
    if how == "moved there":
        os.utime(other, ns=(known.st_atime_ns, known.st_mtime_ns))
        other.rename(picture)
    else:
        picture.write_bytes(other.read_bytes())
        os.utime(picture, ns=(known.st_atime_ns, known.st_mtime_ns))
    now = picture.stat()
    assert (now.st_size, now.st_mtime_ns) == (known.st_size, known.st_mtime_ns)
    after = decode(data).targets
    assert torch.equal(after[0], before[0])
    assert not torch.equal(after[1], before[1])


def test_a_table_written_over_by_one_of_the_same_size_time_and_footer_is_read_again(tmp_path):
    def table(colour: str) -> None:
        pictures = [io.BytesIO() for _ in range(2)]
        for stream, shade in zip(pictures, ("black", colour), strict=True):
            Image.new("RGB", (200, 200), shade).save(stream, "BMP")
        source, target = ({"bytes": stream.getvalue(), "path": None} for stream in pictures)
        row = {"source": source, "target": target, "instruction": "paint it"}
        parquet.write_table(
            pyarrow.Table.from_pylist([row]), file, compression="none", use_dictionary=False,
            write_statistics=False,
        )  # fmt: skip

    file = tmp_path / "edits.parquet"
    columns = "source=source,target=target,instruction=instruction"
    how = replace(HOW, masks="ignored")
    table("red")
    before, known = decode(file, how, columns=columns).targets.clone(), file.stat()
    table("blue")
    os.utime(file, ns=(known.st_atime_ns, known.st_mtime_ns))
    assert file.stat().st_size == known.st_size
    assert not torch.equal(decode(file, how, columns=columns).targets, before)


@pytest.mark.parametrize("tells", [True, False])
def test_a_table_at_an_address_replaced_by_one_of_its_size_is_read_again(monkeypatch, tells):
    files = fsspec.filesystem("memory")
    files.store.clear()

    def table(colour: str) -> int:
        stream, made = io.BytesIO(), io.BytesIO()
        Image.new("RGB", (200, 200), colour).save(stream, "BMP")
        cell = {"bytes": stream.getvalue(), "path": None}
        row = {"source": cell, "target": cell, "instruction": "paint it"}
        parquet.write_table(
            pyarrow.Table.from_pylist([row]), made, compression="none", use_dictionary=False,
            write_statistics=False,
        )  # fmt: skip
        files.pipe_file("/bucket/edits.parquet", made.getvalue())
        return len(made.getvalue())

    told = files.info
    if not tells:  # as a server that says nothing of when a file was written
        few = ("name", "size", "type")
        monkeypatch.setattr(
            type(files), "info", lambda self, path, **_: {key: told(path)[key] for key in few}
        )
    columns = "source=source,target=target,instruction=instruction"
    how, address = replace(HOW, masks="ignored"), "memory://bucket/edits.parquet"
    size = table("red")
    before = decode(address, how, columns=columns).targets.clone()
    assert torch.equal(decode(address, how, columns=columns).targets, before)
    assert table("blue") == size
    assert not torch.equal(decode(address, how, columns=columns).targets, before)
    kept = list((cache_folder() / "squares").iterdir())
    assert bool([one for one in kept if one.is_dir()]) == tells
    files.store.clear()


@pytest.mark.parametrize("harm", ["pixels", "a pixel", "row", "rows", "a letter", "checksums"])
def test_squares_that_were_damaged_are_made_again(make_edits, harm):
    data = make_edits(3)
    whole = decode(data)
    (folder,) = (cache_folder() / "squares").iterdir()
    rows, pixels = folder / "rows.jsonl", folder / "target.u8"
    text = rows.read_text().splitlines(keepends=True)
    if harm in ("pixels", "a pixel"):
        content = pixels.read_bytes()
        pixels.unlink()  # what was mapped from it stays as it was
        last = b"" if harm == "pixels" else bytes([content[-1] ^ 1])
        pixels.write_bytes(content[:-1] + last)
    elif harm == "a letter":
        rows.write_text("".join(text).replace('"id": "0', '"id": "O', 1))
    elif harm == "checksums":
        (folder / "checksums.json").write_text("[]")
    else:
        rows.write_text('{"id": "00"}\n' if harm == "rows" else '{"files": 7}\n' + "".join(text))
    assert same(decode(data), whole)


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
    assert stayed == {"living", "of another machine"}


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
