"""Damaged tables: samples, rows that fail, or one line for the whole; and texts about samples."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fuzzing import ODD_TEXTS, ODD_VALUES, Bounds, altered, fuzzed, mutated
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ric.data.sample import load_samples
from ric.runs.descriptions import _texts_in, refuse_other_texts

ROWS = [
    {
        "id": f"{number:02d}", "instruction": f"add a ball, number {number}",
        "source_file_name": "a.png", "target_file_name": "b.png", "mask_file_name": "a.png",
        "region_text": "a ball", "scene_text": "a field with a ball", "split": "train",
        "group_id": str(number),
    }
    for number in range(3)
]  # fmt: skip
COLUMNS = "source=input_image,target=edited_image,instruction=prompts[*],mask=mask"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8), "red").save(folder / name)
    return folder


def as_json_lines(rows: list[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    stream = io.StringIO()
    table = csv.DictWriter(stream, list(ROWS[0]), extrasaction="ignore")
    table.writeheader()
    table.writerows(rows)
    return stream.getvalue().encode("utf-8", "surrogatepass")


def as_table(kind: str) -> bytes:
    picture = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(picture, format="PNG")
    cell = {"bytes": picture.getvalue(), "path": "a.png"}
    rows = [
        {"input_image": cell, "edited_image": cell, "mask": cell, "id": f"{n}",
         "prompts": ["make it red", "redder"]}
        for n in range(20)
    ]  # fmt: skip
    table, stream = pa.Table.from_pylist(rows), io.BytesIO()
    if kind == "parquet":
        pq.write_table(table, stream)
    else:
        with pa.ipc.new_stream(stream, table.schema) as writer:
            writer.write_table(table)
    return stream.getvalue()


def as_shard() -> bytes:
    picture, stream = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(picture, format="PNG")
    pictures = dict.fromkeys(
        ("input_image.png", "edited_image.png", "mask.png"), picture.getvalue()
    )
    told = json.dumps({"prompts": ["make it red", "redder"]}).encode()
    with tarfile.open(fileobj=stream, mode="w") as shard:
        for number in range(20):
            for ending, content in {**pictures, "json": told}.items():
                member = tarfile.TarInfo(f"{number}.{ending}")
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def read_all(data: Path, bounds: Bounds, **options: Any) -> None:
    """Read all samples with their pictures, as a command does; rows that fail count as refused."""
    failed: list[Exception] = []
    with bounds.held():
        samples = load_samples(data, **options)
        assert isinstance(samples.fingerprint, str)
        assert samples.row_count is None or samples.row_count >= 0
        names = []
        for sample in samples.narrowed("all", on_failure=failed.append):
            names.append(sample.id)
            if len(names) < 4:
                with bounds.held():
                    sample.load_source()
                    sample.load_mask()
        assert len(set(names)) == len(names)
    bounds.refused += bool(failed)


JSON_LINES, CSV = as_json_lines(ROWS), as_csv(ROWS)
TABLES = {kind: as_table(kind) for kind in ("parquet", "arrow")} | {"tar": as_shard()}
SOME_ROWS = st.lists(altered(ROWS[0]), min_size=1, max_size=3)


@fuzzed
@given(table=st.one_of(mutated([JSON_LINES]), SOME_ROWS.map(as_json_lines)))
def test_a_damaged_metadata_jsonl_costs_its_rows_or_is_refused(
    table: bytes, data: Path, bounds: Bounds
):
    (data / "metadata.jsonl").write_bytes(table)
    read_all(data, bounds)


@fuzzed
@given(table=st.one_of(mutated([CSV, CSV.decode().encode("utf-16")]), SOME_ROWS.map(as_csv)))
def test_a_damaged_metadata_csv_costs_its_rows_or_is_refused(
    table: bytes, data: Path, bounds: Bounds
):
    (data / "metadata.csv").write_bytes(table)
    read_all(data, bounds)


@pytest.mark.parametrize("kind", TABLES)
def test_a_damaged_table_of_pictures_costs_its_rows_or_is_refused(
    kind: str, tmp_path: Path, bounds: Bounds
):
    file = tmp_path / f"train.{kind}"

    @fuzzed
    @given(table=mutated([TABLES[kind]]))
    def read(table: bytes) -> None:
        file.write_bytes(table)
        read_all(file, bounds, columns=COLUMNS)

    read()


@fuzzed
@given(
    rows=st.lists(altered(ROWS[0]), max_size=3),
    table=st.one_of(st.none(), mutated([JSON_LINES])),
    kind=st.sampled_from(("texts.jsonl", "texts.csv", "texts")),
    name=ODD_TEXTS,
)
def test_damaged_texts_are_read_as_far_as_they_can_be(
    rows: list[Any], table: bytes | None, kind: str, name: str, tmp_path: Path, bounds: Bounds
):
    path = tmp_path / kind
    if kind == "texts":
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        (path / "00.txt").write_bytes(table or name.encode("utf-8", "surrogatepass"))
    else:
        path.write_bytes(table or (as_csv if kind.endswith("csv") else as_json_lines)(rows))
    failed: list[Exception] = []
    with bounds.held():
        refuse_other_texts(path)
        for named, column, text in _texts_in(path, failed.append):
            assert column in ("scene_text", "region_text")
            assert (named + text).encode()
    bounds.refused += bool(failed)


@fuzzed
@given(
    columns=st.one_of(ODD_TEXTS, st.lists(ODD_TEXTS, max_size=3).map("=".join)), value=ODD_VALUES
)
def test_odd_columns_are_refused(columns: str, value: Any, data: Path, bounds: Bounds):
    (data / "metadata.jsonl").write_bytes(as_json_lines([ROWS[0] | {"id": value}]))
    read_all(data, bounds, columns=columns)
