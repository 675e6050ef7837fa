"""Rows that several processes write at once: nothing lost, nothing doubled, nothing half."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ric.runs.rows
from ric.runs.rows import (
    append_row,
    create_atomically,
    merge_rows,
    read_lines,
    read_rows,
    write_atomically,
    writer_name,
    writer_of,
)

APPEND = """
import sys
from pathlib import Path
from ric.runs.rows import append_row, writer_name
folder, first = Path(sys.argv[1]), int(sys.argv[2])
for i in range(first, first + 60):
    append_row(folder / f"edits-{writer_name()}.jsonl", {"id": f"{i:03d}", "text": "é" * 5000})
"""


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_two_processes_append_at_once_and_readers_merge_by_id(tmp_path):
    # ids 30 to 59 are written by both
    words = [sys.executable, "-c", APPEND, str(tmp_path)]
    processes = [subprocess.Popen([*words, first]) for first in ("0", "30")]
    assert [process.wait() for process in processes] == [0, 0]
    assert len(list(tmp_path.glob("edits-*.jsonl"))) == 2
    rows = list(read_rows(tmp_path, "edits"))
    assert sorted(row["id"] for row in rows) == [f"{i:03d}" for i in range(90)]
    assert {row["text"] for row in rows} == {"é" * 5000}

    assert merge_rows(tmp_path, "edits") == 90
    assert [file.name for file in tmp_path.iterdir()] == ["edits.jsonl"]
    assert sorted(row["id"] for row in lines(tmp_path / "edits.jsonl")) == [
        f"{i:03d}" for i in range(90)
    ]


def test_the_first_row_of_an_id_wins_and_the_merged_file_comes_first(tmp_path):
    append_row(tmp_path / "edits.jsonl", {"id": "a", "n": 1})
    append_row(tmp_path / "edits-x.1.jsonl", {"id": "a", "n": 2})
    append_row(tmp_path / "edits-x.1.jsonl", {"id": "b", "n": 3})
    assert [(row["id"], row["n"]) for row in read_rows(tmp_path, "edits")] == [("a", 1), ("b", 3)]


def test_rows_of_another_kind_are_left_alone(tmp_path):
    append_row(tmp_path / "edits-x.1.jsonl", {"id": "a"})
    append_row(tmp_path / "failures-x.1.jsonl", {"id": "b"})
    assert merge_rows(tmp_path, "edits") == 1
    assert (tmp_path / "failures-x.1.jsonl").exists()
    assert merge_rows(tmp_path, "matched") == 0
    assert not (tmp_path / "matched.jsonl").exists()


@pytest.mark.parametrize("torn", ['{"id": "b", "te', '{"id": "é'.encode()[:-1], "12", "\n"])
def test_a_torn_last_line_is_dropped_and_the_next_row_does_not_hang_on_to_it(tmp_path, torn):
    path = tmp_path / "edits-x.1.jsonl"
    append_row(path, {"id": "a"})
    with path.open("ab") as stream:
        stream.write(torn if isinstance(torn, bytes) else torn.encode())
    assert list(read_rows(tmp_path, "edits")) == [{"id": "a"}]
    append_row(path, {"id": "c"})
    assert list(read_rows(tmp_path, "edits")) == [{"id": "a"}, {"id": "c"}]


def test_a_reader_misses_nothing_when_the_files_are_merged_under_it(tmp_path):
    for writer in ("x.1", "x.2"):
        for i in range(3):
            append_row(tmp_path / f"edits-{writer}.jsonl", {"id": f"{writer}-{i}"})
    rows = read_rows(tmp_path, "edits")
    found = [next(rows)["id"]]
    merge_rows(tmp_path, "edits")
    found += [row["id"] for row in rows]
    assert found == [f"{writer}-{i}" for writer in ("x.1", "x.2") for i in range(3)]


def test_a_merge_that_fails_leaves_every_writers_rows(tmp_path, monkeypatch):
    append_row(tmp_path / "edits-x.1.jsonl", {"id": "a"})

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        merge_rows(tmp_path, "edits")
    assert [file.name for file in tmp_path.iterdir()] == ["edits-x.1.jsonl"]


def test_a_write_that_fails_leaves_the_old_file_whole(tmp_path, monkeypatch):
    write_atomically(tmp_path / "run.json", "old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "run.json", "new")
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]
    assert (tmp_path / "run.json").read_text() == "old"


def test_a_file_is_created_once(tmp_path):
    assert create_atomically(tmp_path / "run.json", "first")
    assert not create_atomically(tmp_path / "run.json", "second")
    assert (tmp_path / "run.json").read_text() == "first"
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]


def test_a_file_is_created_where_the_file_system_knows_no_links(tmp_path, monkeypatch):
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert create_atomically(tmp_path / "run.json", "first")
    assert (tmp_path / "run.json").read_text() == "first"


def test_a_writers_name_is_safe_in_a_file_name(monkeypatch):
    assert writer_of("gpu-node.example/1", 42) == "gpu_node_example_1.42"
    assert writer_of("node", 42, "1f2e3d4c") == "node_1f2e3d4c.42"
    monkeypatch.setattr(ric.runs.rows.socket, "gethostname", lambda: "a-b")
    for place, name in (("1f2e3d4c", "a_b_1f2e3d4c"), ("", "a_b")):
        monkeypatch.setattr(ric.runs.rows, "writer_place", lambda place=place: place)
        assert writer_name() == f"{name}.{os.getpid()}"


@pytest.mark.parametrize("changed", ["boot_id", "ns/pid"])
def test_another_boot_and_another_pid_namespace_are_other_places(monkeypatch, changed):
    told = {"boot_id": "39a2ec24", "ns/pid": "pid:[4026531836]"}
    monkeypatch.setattr(Path, "read_text", lambda path, encoding: told["boot_id"] + "\n")
    monkeypatch.setattr(os, "readlink", lambda path: told["ns/pid"])
    place = ric.runs.rows.writer_place.__wrapped__
    before = place()
    assert len(before) == 8
    assert place() == before
    told[changed] += "1"
    assert place() != before


def test_a_system_that_tells_no_namespace_has_one_place(monkeypatch):
    def absent(path: str) -> str:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(os, "readlink", absent)
    assert ric.runs.rows.writer_place.__wrapped__() == ""


def test_reading_a_file_passes_over_what_is_no_row(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\nnot json\n[1]\n\n{"step": 2}\n')
    assert [row["step"] for row in read_lines(tmp_path / "metrics.jsonl")] == [1, 2]


def test_rows_of_any_shape_are_passed_over_and_hide_no_other(tmp_path):
    odd = ["[" * 100_000, "7", '"x"', "{}", '{"id": null}', '{"id": 7}', '{"id": ["a"]}', "\ufeff"]
    text = "\n".join(['{"id": "a"}', *odd, '{"id": "b"}'])
    (tmp_path / "edits-x.1.jsonl").write_text(text + "\n")
    assert [row["id"] for row in read_rows(tmp_path, "edits")] == ["a", "b"]
    assert merge_rows(tmp_path, "edits") == 2


def test_a_name_that_is_not_utf_8_is_written_and_read_as_it_is(tmp_path):
    row = {"id": os.fsdecode(b"\xff.png"), "text": "\u20ac"}
    append_row(tmp_path / "edits-x.1.jsonl", row)
    merge_rows(tmp_path, "edits")
    assert list(read_rows(tmp_path, "edits")) == [row]
    write_atomically(tmp_path / "run.json", json.dumps(row, ensure_ascii=False))
    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8")) == row
