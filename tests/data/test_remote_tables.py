"""Folders and parquet files at an address are read as they would be from a disk."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ric.data.file_state import tables_state
from ric.data.sample import load_samples
from ric.errors import RicError


def a_table(count: int) -> bytes:
    picture, table = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(picture, "PNG")
    cells = [{"bytes": picture.getvalue(), "path": None}] * count
    told = {"input_image": cells, "edited_image": cells, "edit_prompt": ["make it blue"] * count}
    pq.write_table(pa.table(told), table)
    return table.getvalue()


def test_parquet_at_an_address_is_read_as_from_a_disk(store, tmp_path):
    for name, count in (("data/train-0.parquet", 3), ("data/test-0.parquet", 2)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(a_table(count))
        store.pipe_file(f"/bucket/{name}", a_table(count))
    there, here = load_samples("memory://bucket/data"), load_samples(tmp_path / "data")
    assert (there.kind, there.row_count) == (here.kind, here.row_count) == ("parquet", 5)
    assert there.fingerprint == here.fingerprint
    assert [(one.id, one.split) for one in there] == [(one.id, one.split) for one in here]
    assert next(iter(there)).load_source().size == (8, 8)
    single = load_samples("memory://bucket/data/test-0.parquet")
    assert len(list(single)) == single.row_count == 2


def test_metadata_at_an_address_may_be_named_itself(store):
    row = b'{"id": "a", "source_file_name": "a.png", "instruction": "x"}\n'
    store.pipe_file("/bucket/data/metadata.jsonl", row)
    for name in ("memory://bucket/data", "memory://bucket/data/metadata.jsonl"):
        assert [one.id for one in load_samples(name)] == ["a"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("memory://bucket/nothing", "No data at 'memory://bucket/nothing'"),
        ("memory://bucket/gone.parquet", "gone.parquet' cannot be read"),
        ("memory://bucket/torn.parquet", "torn.parquet' cannot be read as a table"),
        ("nosuch://bucket/data", "cannot be looked up: Protocol not known: nosuch"),
    ],
)
def test_an_address_with_nothing_to_read_is_told_in_one_line(store, name, said):
    store.pipe_file("/bucket/torn.parquet", a_table(3)[:-9])
    with pytest.raises(RicError, match=said) as caught:
        load_samples(name)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("scheme", ["memory://", "file://", ""])
def test_a_table_that_is_replaced_by_one_of_its_size_has_another_state(store, tmp_path, scheme):
    folder = "bucket" if scheme == "memory://" else str(tmp_path)

    def put(colour: str) -> None:
        content = a_table(2).replace(b"make it blue", b"make it " + colour.encode())
        if scheme == "memory://":
            store.pipe_file("/bucket/a.parquet", content)
        else:
            (tmp_path / "new").write_bytes(content)
            (tmp_path / "new").rename(tmp_path / "a.parquet")

    put("blue")
    for name in (f"{scheme}{folder}", f"{scheme}{folder}/a.parquet"):
        samples = load_samples(name)
        first = tables_state(samples)
        assert first
        assert tables_state(samples) == first
        put("cyan")
        assert tables_state(samples) not in (None, first)


def test_a_table_whose_server_tells_no_version_has_no_state(store, monkeypatch):
    store.pipe_file("/bucket/a.parquet", a_table(2))
    samples = load_samples("memory://bucket/a.parquet")
    told = store.info
    monkeypatch.setattr(
        type(store), "info",
        lambda self, path, **how: {key: told(path)[key] for key in ("name", "size", "type")},
    )  # fmt: skip
    assert tables_state(samples) is None
