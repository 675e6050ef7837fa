from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ric.data.files_below import files_below
from ric.data.sample import load_samples


def put(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def test_linked_folders_come_last_and_no_folder_twice(tmp_path):
    data, outside = tmp_path / "data", tmp_path / "outside"
    put(data / "z.txt", data / "b" / "deep" / "1.txt", outside / "2.txt")
    (data / "a").symlink_to(data / "b")  # the same by another name
    (data / "c").symlink_to(outside)
    (outside / "round").symlink_to(data)  # a circle
    (data / "dead").symlink_to(tmp_path / "nothing")
    assert [str(file.relative_to(data)) for file in files_below(data)] == [
        "dead", "z.txt", "b/deep/1.txt", "c/2.txt",
    ]  # fmt: skip


def test_a_folder_that_is_not_there_holds_nothing(tmp_path):
    assert list(files_below(tmp_path / "none")) == []


def test_parquet_in_a_linked_folder_is_found(tmp_path, noise, encoded):
    rows = [{"before": encoded(noise(seed=n)), "prompt": f"edit {n}"} for n in range(2)]
    elsewhere, data = tmp_path / "elsewhere", tmp_path / "data"
    elsewhere.mkdir()
    data.mkdir()
    pq.write_table(pa.Table.from_pylist(rows), elsewhere / "edits.parquet")
    (data / "shards").symlink_to(elsewhere)
    (data / "again").symlink_to(elsewhere)  # no row twice
    samples = load_samples(data, columns="source=before,instruction=prompt")
    assert [sample.instruction for sample in samples] == ["edit 0", "edit 1"]
