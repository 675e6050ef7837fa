from __future__ import annotations

import csv
import hashlib
import json
import os
import unicodedata

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ric.data.folder import picture_path, write_folder
from ric.data.sample import load_samples
from ric.errors import RicError, SampleError


def rows_of(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]


def test_csv_and_parquet_metadata_read_as_jsonl_does(edits):
    folder = edits({"region_text": "a ball"}, {"region_text": None}, {"split": "test"})
    expected = list(load_samples(folder))
    rows = rows_of(folder)
    (folder / "metadata.jsonl").unlink()
    names = sorted({name for row in rows for name in row})
    with (folder / "metadata.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, names)
        writer.writeheader()
        writer.writerows(rows)

    def seen(samples):
        return [(s.id, s.instruction, s.region_text, s.split, s.load_mask().sum()) for s in samples]

    assert seen(load_samples(folder)) == seen(expected)
    (folder / "metadata.csv").unlink()
    full = [{name: row.get(name) for name in names} for row in rows]
    pq.write_table(pa.Table.from_pylist(full), folder / "metadata.parquet")
    assert seen(load_samples(folder)) == seen(expected)


def test_a_folder_behind_a_url_reads_the_same(edits, tmp_path):
    folder = edits({}, {})
    files = fsspec.filesystem("memory")
    files.put(str(folder), "/remote/edits", recursive=True)
    samples = list(load_samples("memory://remote/edits"))
    assert [s.id for s in samples] == ["0000", "0001"]
    assert samples[1].load_mask().sum() == 24


def test_a_line_that_is_no_json_is_one_failure(edits):
    folder = edits({}, {})
    path = folder / "metadata.jsonl"
    lines = path.read_bytes().splitlines()
    path.write_bytes(
        b"\xef\xbb\xbf" + b"\n".join([lines[0], b"{torn", b"[1]", b"", b'{"id": "\xff"}', lines[1]])
    )
    failures: list[SampleError] = []
    assert [s.id for s in load_samples(folder).reporting(failures.append)] == ["0000", "0001"]
    assert [f.sample_id for f in failures] == [f"metadata.jsonl:{n}" for n in (2, 3, 5)]
    assert failures[0].reason.startswith("Line 2 is not JSON")
    assert failures[1].reason == "Line 3 is not a JSON object but a list."


def test_a_csv_row_with_too_many_cells_is_one_failure(edits):
    folder = edits({}, {})
    (folder / "metadata.jsonl").unlink()
    (folder / "metadata.csv").write_text(
        "id,source_file_name,instruction\na,source/0.png,x,extra\nb,source/1.png,y\n"
    )
    failures: list[SampleError] = []
    assert [s.id for s in load_samples(folder).reporting(failures.append)] == ["b"]
    assert failures[0].reason == "Line 2 has more cells than columns."


@pytest.mark.parametrize(
    "path", ["../outside.png", "/etc/hostname", "source/../../outside.png", "memory://a.png", ".."]
)
def test_a_path_that_leaves_the_folder_ends_the_command(edits, noise, path):
    folder = edits({"mask_file_name": path})
    noise().save(folder.parent / "outside.png")
    with pytest.raises(RicError, match="which is outside its folder") as caught:
        list(load_samples(folder).reporting(lambda _: None))
    assert not isinstance(caught.value, SampleError)
    assert repr(path) in caught.value.message
    assert "must stay inside" in str(caught.value.hint)


@pytest.mark.parametrize("link", ["file", "folder"])
def test_a_symbolic_link_out_of_the_folder_ends_the_command(edits, noise, link):
    folder = edits({"source_file_name": "linked/0.png" if link == "folder" else "source/link.png"})
    outside = folder.parent / "outside"
    outside.mkdir()
    noise().save(outside / "0.png")
    if link == "folder":
        os.symlink(outside, folder / "linked")
    else:
        os.symlink(outside / "0.png", folder / "source/link.png")
    with pytest.raises(RicError, match="which is outside its folder"):
        list(load_samples(folder).reporting(lambda _: None))


def test_a_relative_folder_is_that_of_the_working_directory_at_the_time(
    edits, tmp_path, monkeypatch
):
    for place in ("one", "two"):
        folder = edits({"source_file_name": f"{place}/0.png"}, name=f"{place}/edits")
        (folder / "source").rename(folder / place)
        monkeypatch.chdir(tmp_path / place)
        assert [sample.id for sample in load_samples("edits")] == ["0000"]


def test_links_and_dots_that_stay_inside_are_fine(edits):
    folder = edits({"source_file_name": "source/../source/link.png"})
    os.symlink(folder / "source/0.png", folder / "source/link.png")
    assert next(iter(load_samples(folder))).load_source().size == (16, 12)


@pytest.mark.parametrize(("named", "stored"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_path_is_found_in_the_normal_form_that_is_on_disk(edits, noise, named, stored):
    """As when a folder was packed on macOS and its metadata written elsewhere."""
    name = {form: unicodedata.normalize(form, "é/caña.png") for form in ("NFC", "NFD")}
    folder = edits({"id": unicodedata.normalize("NFD", "é"), "source_file_name": name[named]})
    (folder / name[stored]).parent.mkdir()
    noise(20, 10).save(folder / name[stored])
    (sample,) = load_samples(folder)
    assert sample.load_source(own_size=True).size == (20, 10)
    assert sample.id == unicodedata.normalize("NFC", "é")
    outside = folder.parent / "outside.png"
    noise().save(outside)
    (folder / name[stored]).unlink()
    os.symlink(outside, folder / name[stored])
    with pytest.raises(RicError, match="which is outside its folder"):
        list(load_samples(folder))


def test_a_path_that_is_not_utf8_costs_its_row_at_most(edits, noise):
    """JSON can escape a byte of a file's name as Python holds it, and half a character too."""
    folder = edits(
        {"id": ..., "source_file_name": "pi\udcf1a.png"},
        {"source_file_name": "pi\udcf1a.png"},
        {"source_file_name": "half\ud800/a.png"},
        {},
    )
    noise(20, 10).save(folder / os.fsdecode(b"pi\xf1a.png"), "PNG")
    failures: list[SampleError] = []
    samples = list(load_samples(folder).reporting(failures.append))
    assert [s.id for s in samples] == ["0001", "0003"]
    assert samples[0].load_source(own_size=True).size == (20, 10)
    told = [(f.sample_id, f.reason) for f in failures]
    assert told == [
        ("metadata.jsonl:1", r"Its name is not UTF-8: pi\xf1a. Rename the file."),
        ("0002", "Its source_file_name holds half a character (a lone surrogate)."),
    ]


@pytest.mark.parametrize("name", ["train", "test", "val", "validation"])
def test_image_folders_named_as_splits_are_refused_with_the_reason(edits, name):
    folder = edits({})
    (folder / name).mkdir()
    with pytest.raises(RicError, match="takes it for a split and then drops the metadata"):
        load_samples(folder)


def test_two_metadata_files_are_one_too_many(edits):
    folder = edits({})
    (folder / "metadata.csv").touch()
    with pytest.raises(RicError, match=r"holds both metadata.jsonl and metadata.csv"):
        load_samples(folder)


def test_columns_of_another_name_can_be_mapped(edits):
    folder = edits({"instruction": ..., "prompt": "make it blue"})
    (sample,) = load_samples(folder, columns="instruction=prompt")
    assert sample.instruction == "make it blue"


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_a_mapped_column_that_is_missing_is_said_at_once(edits, kind):
    folder = edits({}, {})
    rows = rows_of(folder)
    if kind != "jsonl":
        (folder / "metadata.jsonl").unlink()
    if kind == "csv":
        with (folder / "metadata.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), folder / "metadata.parquet")
    with pytest.raises(RicError, match=rf"metadata.{kind}' has no column 'prompt'") as caught:
        load_samples(folder, columns="instruction=prompt").reporting(lambda _: None)
    assert not isinstance(caught.value, SampleError)
    assert caught.value.hint == f"Its columns: {', '.join(rows[0])}."


def test_a_mapped_column_that_only_a_later_json_row_fills_is_not_missing(edits):
    folder = edits({}, {"phrase": "a ball"})
    samples = list(load_samples(folder, columns="region_text=phrase"))
    assert [s.region_text for s in samples] == [None, "a ball"]


# --- writing -------------------------------------------------------------------------------------


def test_what_is_written_leaves_out_what_is_empty(tmp_path):
    rows = [{"id": "a", "source_file_name": "source/a.png", "instruction": "é", "split": None,
             "scene_text": ""}]  # fmt: skip
    assert write_folder(tmp_path / "out", iter(rows)) == 1
    assert rows_of(tmp_path / "out") == [
        {"id": "a", "source_file_name": "source/a.png", "instruction": "é"}
    ]
    assert os.listdir(tmp_path / "out") == ["metadata.jsonl"]


def test_a_writer_that_fails_leaves_nothing_behind(tmp_path):
    def rows():
        yield {"id": "a"}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_folder(tmp_path / "out", rows())
    assert os.listdir(tmp_path / "out") == []


def test_other_metadata_is_never_overwritten_and_the_same_may_be(tmp_path):
    write_folder(tmp_path, [{"id": "a"}])
    write_folder(tmp_path, [{"id": "a"}])
    with pytest.raises(RicError, match=r"metadata.jsonl' is already there and differs"):
        write_folder(tmp_path, [{"id": "b"}])
    assert rows_of(tmp_path) == [{"id": "a"}]


def test_pictures_are_spread_by_hash_beyond_ten_thousand():
    digest = hashlib.sha256(b"0041").hexdigest()
    assert picture_path("source", "0041", 10_000) == "source/0041.png"
    assert picture_path("mask", "0041", 10_001, ".webp") == f"mask/{digest[:2]}/0041.webp"
    assert picture_path("mask", "0041", None) == f"mask/{digest[:2]}/0041.png"


def test_datasets_opens_what_is_written_also_when_ids_look_like_splits(tmp_path, noise):
    datasets = pytest.importorskip("datasets")
    out = tmp_path / "out"
    rows = []
    for number, name in enumerate(["a", "test-1", "train", "my val 2", "contest"]):
        row = {"id": name, "source_file_name": picture_path("source", name, 3), "instruction": "x"}
        if number != 1:
            row["mask_file_name"] = picture_path("mask", name, 3)
        for key in ("source_file_name", "mask_file_name"):
            if key in row:
                (out / row[key]).parent.mkdir(parents=True, exist_ok=True)
                noise(seed=number).save(out / row[key])
        rows.append(row)
    write_folder(out, rows)
    loaded = datasets.load_dataset("imagefolder", data_dir=str(out), cache_dir=str(tmp_path / "c"))
    assert list(loaded) == ["train"]
    table = loaded["train"]
    assert table["id"][:] == [row["id"] for row in rows]
    assert table[0]["source"].size == (16, 12)
    assert table[1]["mask"] is None
    assert [s.id for s in load_samples(out)] == [row["id"] for row in rows]


def test_a_reason_quotes_no_more_of_a_cell_than_a_line_holds(edits):
    failures: list[SampleError] = []
    list(load_samples(edits({"split": "x" * 100_000})).reporting(failures.append))
    (failure,) = failures
    assert failure.reason.startswith("Its split is 'xxx")
    assert failure.reason.endswith("; it may be train, val or test.")
    assert len(failure.reason) < 1100
