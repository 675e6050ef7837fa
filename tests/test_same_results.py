"""What `same_results.py` holds for a difference between the runs of two versions, and what not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from same_results import contents, differences


def write_run(folder: Path, **changes: Any) -> Path:
    """Write a small run; `changes` are of its record, its figure and its picture."""
    run = folder / "00001-edit"
    run.mkdir(parents=True)
    record = {"config": {"steps": changes.get("steps", 4)}, "argv": ["a", str(folder)]}
    record |= {"started": changes.get("started", "12:00"), "edits": str(run / "images")}
    (run / "run.json").write_text(json.dumps(record))
    row = {"step": 1, "loss": changes.get("loss", 0.5), "images_per_second": len(str(folder))}
    (run / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    (run / "edits-host.12.jsonl").write_text(json.dumps({"id": "x"}) + "\n")
    (run / "image.png").write_bytes(changes.get("picture", b"pixels"))
    return folder


def apart(folder: Path, **changes: Any) -> list[str]:
    before, after = write_run(folder / "a"), write_run(folder / "another", **changes)
    return differences(contents(before), contents(after))


def test_times_and_folders_are_no_difference(tmp_path):
    assert apart(tmp_path, started="13:00") == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"steps": 5}, "/00001-edit/run.json/config/steps: 4 became 5"),
        ({"loss": 0.25}, "/00001-edit/metrics.jsonl[0]/loss: 0.5 became 0.25"),
        ({"picture": b"other"}, "/00001-edit/image.png: "),
    ],
)
def test_a_setting_a_figure_or_a_picture_that_differs_is_told(tmp_path, changes, told):
    (line,) = apart(tmp_path, **changes)
    assert line.startswith(told)


def test_a_file_and_a_row_that_only_one_side_has_are_told(tmp_path):
    before, after = write_run(tmp_path / "a"), write_run(tmp_path / "b")
    (after / "00001-edit" / "sheet.png").write_bytes(b"sheet")
    (before / "00001-edit" / "edits-other.3.jsonl").write_text(json.dumps({"id": "y"}) + "\n")
    sheet, rows = differences(contents(before), contents(after))
    assert sheet == "/00001-edit/sheet.png: only after"
    assert rows.startswith("/00001-edit/edits.jsonl: [{'id': 'x'}, {'id': 'y'}] became")
