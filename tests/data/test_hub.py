from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants
from quiet_clock import quiet_seconds

from ric.data import hub, humanedit
from ric.data.columns import ReadOptions
from ric.data.sample import load_samples
from ric.errors import RicError, SampleError

MAPPING = "source=input_image,instruction=edit_prompt"


@pytest.fixture(autouse=True)
def empty_caches(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")


@pytest.fixture
def rows(noise, encoded):
    return [
        {"input_image": {"bytes": encoded(noise(seed=n)), "path": None}, "edit_prompt": f"edit {n}"}
        for n in range(4)
    ]


def cache(tmp_path, rows, name="train-00000-of-00001.parquet"):
    snapshot = tmp_path / "hub/datasets--someone--edits/snapshots/abc123"
    (snapshot / "data").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), snapshot / "data" / name)
    (snapshot.parents[1] / "refs").mkdir(exist_ok=True)
    (snapshot.parents[1] / "refs/main").write_text("abc123")


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("BryanW/HumanEdit", "16.4 GB"),
        ("osunlp/MagicBrush", "22.4 GB"),
        ("TIGER-Lab/OmniEdit-Filtered-1.2M", "3 TB"),
        ("BleachNick/UltraEdit", "size unknown"),
    ],
)
def test_with_no_network_the_answer_comes_within_seconds(name, size):
    begun = quiet_seconds()
    with pytest.raises(RicError) as caught:
        load_samples(name)
    assert quiet_seconds() - begun < 6
    assert f"The data set {name} ({size}) is not on this machine" in caught.value.message
    assert f"hf download {name} --repo-type dataset" in str(caught.value.hint)
    assert "Drawn scenes, such as scenes:300@64#7, need no download" in str(caught.value.hint)


def test_a_mistyped_folder_is_not_looked_for_on_the_hub():
    with pytest.raises(RicError, match="No data at 'someone/edits'"):
        load_samples("someone/edits")


def test_what_hf_download_left_here_is_read_with_no_network(tmp_path, rows):
    cache(tmp_path, rows)
    samples = load_samples("someone/edits", columns=MAPPING)
    assert [s.instruction for s in samples] == ["edit 0", "edit 1", "edit 2", "edit 3"]
    assert samples.kind == "hub"
    assert samples.name == "someone/edits"
    assert samples.row_count == 4
    other = load_samples("someone/edits", columns=MAPPING + ",region_text=edit_prompt")
    assert samples.fingerprint != other.fingerprint


def test_columns_on_humanedit_keep_its_erased_masks_and_groups(tmp_path):
    snapshot = tmp_path / "hub/datasets--BryanW--HumanEdit/snapshots/abc123/data"
    snapshot.mkdir(parents=True)
    row = {**dict.fromkeys(humanedit.COLUMNS.names.values(), "x"), "INPUT_IMG": b"a",
           "OUTPUT_IMG": b"b", "MASK_IMG": b"c", "IMAGE_ID": "photo"}  # fmt: skip
    pq.write_table(pa.Table.from_pylist([row] * 2), snapshot / "train-00000-of-00001.parquet")
    samples = list(load_samples("BryanW/HumanEdit", columns="instruction=OUTPUT_DESCRIPTION"))
    assert [s.id for s in samples] == ["photo", "photo-2"]
    assert {s.group_id for s in samples} == {"photo"}
    assert {s.pictures.mask_kind for s in samples} == {"erased-black"}


def move_to_the_cache(folder: Path, hub: Path, *, shared: bool = False) -> Path:
    """Lay a folder out as huggingface_hub caches it; `shared`: with blobs beside repositories."""
    repository = hub / "datasets--someone--edits"
    snapshot = repository / "snapshots" / ("a" * 40)
    (repository / "blobs").mkdir(parents=True)
    for file in filter(Path.is_file, sorted(folder.rglob("*"))):
        name = hashlib.sha256(file.read_bytes()).hexdigest()
        blob = repository / "blobs" / name
        if shared:
            kept = hub / "blobs" / name[:2] / name
            kept.parent.mkdir(parents=True, exist_ok=True)
            file.rename(kept)
            blob.unlink(missing_ok=True)  # two masks are one blob
            blob.symlink_to(os.path.relpath(kept, blob.parent))
        else:
            file.rename(blob)
        link = snapshot / file.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot


@pytest.mark.parametrize("shared", [False, True])
def test_our_folder_is_read_as_the_hubs_cache_keeps_it(tmp_path, edits, shared):
    snapshot = move_to_the_cache(edits({}, {}), tmp_path / "hub", shared=shared)
    (tmp_path / "linked").symlink_to(snapshot)
    for name in (snapshot, snapshot / "metadata.jsonl", tmp_path / "linked", "someone/edits"):
        samples = list(load_samples(name))
        assert [sample.id for sample in samples] == ["0000", "0001"]
        assert samples[1].load_source().size == (16, 12)
        assert samples[1].load_mask().sum() == 24


@pytest.mark.parametrize("leads", ["outside", "other repository", "below blobs", "shared name",
                                   "blob outside", "blobs outside"])  # fmt: skip
def test_every_other_link_out_of_a_snapshot_stays_refused(tmp_path, edits, noise, leads):
    hub = tmp_path / "hub"
    snapshot = move_to_the_cache(edits({}), hub)
    repository = snapshot.parents[1]
    secret = {
        "outside": tmp_path / "secret.png",
        "other repository": hub / "datasets--else--edits" / "blobs" / ("b" * 64),
        "below blobs": repository / "blobs" / "more" / ("b" * 64),
        "shared name": hub / "blobs" / "cc" / ("b" * 64),
    }.get(leads, tmp_path / "secrets" / ("b" * 64))
    secret.parent.mkdir(parents=True, exist_ok=True)
    noise().save(secret, "PNG")
    link = snapshot / "source/0.png"
    blob = link.resolve()
    if leads == "blob outside":
        blob.unlink()
        blob.symlink_to(secret)
    elif leads == "blobs outside":
        for file in (repository / "blobs").iterdir():
            file.rename(secret.parent / file.name)
        (repository / "blobs").rmdir()
        (repository / "blobs").symlink_to(secret.parent)
    else:
        link.unlink()
        link.symlink_to(secret)
    with pytest.raises(RicError, match=r"names 'source/0.png', which is outside its folder"):
        list(load_samples(snapshot).reporting(lambda _: None))


def test_half_a_download_says_how_to_finish_it(tmp_path, rows):
    cache(tmp_path, rows, "train-00000-of-00034.parquet")
    with pytest.raises(RicError, match="holds 1 of 34 files") as caught:
        load_samples("someone/edits", columns=MAPPING)
    assert "hf download someone/edits" in str(caught.value.hint)


def test_what_load_dataset_left_here_is_read_too(tmp_path, rows):
    folder = tmp_path / "datasets/someone___my_edits/default/0.0.0/abc"
    folder.mkdir(parents=True)
    table = pa.Table.from_pylist(rows)
    with pa.ipc.new_stream(str(folder / "my_edits-train.arrow"), table.schema) as writer:
        writer.write_table(table)
    samples = load_samples("someone/MyEdits", columns=MAPPING)
    assert [s.instruction for s in samples] == ["edit 0", "edit 1", "edit 2", "edit 3"]


def test_a_stream_keeps_pictures_undecoded_so_that_a_broken_one_costs_its_row(tmp_path, rows):
    datasets = pytest.importorskip("datasets")
    rows[1]["input_image"]["bytes"] = b"broken"
    folder = tmp_path / "stream/data"
    folder.mkdir(parents=True)
    features = datasets.Features(input_image=datasets.Image(), edit_prompt=datasets.Value("string"))
    storage = pa.Table.from_pylist(rows).cast(features.arrow_schema)
    pq.write_table(storage, folder / "train-00000-of-00001.parquet")
    pq.write_table(storage.slice(0, 1), folder / "test-00000-of-00001.parquet")
    names = {"source": "input_image", "instruction": "edit_prompt"}
    samples, fingerprint, count = hub._stream(
        "someone/edits", str(tmp_path / "stream"), None, names, ReadOptions()
    )
    read = list(samples())
    assert [s.split for s in read] == ["train"] * 4 + ["test"]
    assert read[0].load_source().size == (16, 12)
    with pytest.raises(SampleError, match="not a picture that can be read"):
        read[1].load_source()
    assert [s.id for s in samples()] == [s.id for s in read]
    assert (len(fingerprint), count) == (64, None)


def test_a_stream_that_cannot_be_opened_is_one_line(tmp_path):
    pytest.importorskip("datasets")
    with pytest.raises(RicError, match="The data set someone/edits cannot be opened") as caught:
        hub._stream("someone/edits", str(tmp_path / "none"), None, {"source": "a"}, ReadOptions())
    assert "\n" not in caught.value.message
