"""What must not lie in a run's folder: links out of it, and what killed processes left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import SafetensorError

from ric.errors import RicError
from ric.runs.artifacts import artifact_folder
from ric.runs.open_run import open_run
from ric.runs.record import artifact_of
from ric.runs.rows import writer_name


def gone_writer() -> str:
    """Name a process of this machine that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return f"{writer_name().rpartition('.')[0]}.{process.pid}"


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A run that was interrupted."""
    opened = open_run("edit", {}, runs_dir=tmp_path, run=tmp_path / "run")
    with pytest.raises(KeyboardInterrupt), opened:
        raise KeyboardInterrupt
    return opened.path


def again(run: Path) -> None:
    with open_run("edit", {}, runs_dir=run.parent, run=run):
        pass


@pytest.mark.parametrize("name", ["metrics.jsonl", "images", "deep/er/a.png"])
def test_a_run_with_a_link_out_of_it_is_not_gone_on_with(stopped, tmp_path, name):
    outside = tmp_path / "outside"
    outside.write_text("theirs")
    link = stopped / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside)
    with pytest.raises(RicError) as raised:
        again(stopped)
    assert raised.value.message == f"{link} is a link out of its run, to {outside}."
    assert outside.read_text() == "theirs"


def test_an_artifact_with_a_link_out_of_its_run_is_not_taken(stopped, tmp_path):
    again(stopped)
    outside = tmp_path / "outside"
    outside.mkdir()
    (stopped / "pipeline").symlink_to(outside)
    with pytest.raises(RicError, match=r"pipeline is a link out of its run"):
        artifact_of(stopped, "pipeline")
    (stopped / "pipeline").unlink()
    (stopped / "pipeline").mkdir()
    (stopped / "pipeline" / "unet").symlink_to(outside)
    with pytest.raises(RicError, match=r"pipeline/unet is a link out of its run"):
        artifact_of(stopped, "pipeline")


def test_links_within_a_run_and_a_link_to_the_whole_run_are_followed(stopped, tmp_path):
    (stopped / "a.txt").touch()
    (stopped / "b.txt").symlink_to("a.txt")
    (tmp_path / "alias").symlink_to(stopped)
    again(tmp_path / "alias")
    assert artifact_of(tmp_path / "alias", "b.txt").name == "b.txt"


def test_what_ended_processes_wrote_aside_is_removed_and_what_others_write_is_not(
    stopped, tmp_path
):
    left = gone_writer()
    names = [f".run.json.{left}", f"images/.png.{left}", f"scored/1f/.000-000001.json.{left}"]
    of_another_boot = ".edits.jsonl.vm_0c0ffee0.17"
    for name in [*names, of_another_boot, "images/.gitkeep", ".DS_Store", "images/a.b_c.1.png"]:
        (stopped / name).parent.mkdir(parents=True, exist_ok=True)
        (stopped / name).touch()
    (stopped / f".pipeline.{left}" / "unet").mkdir(parents=True)
    # another one at work on the run writes something aside at this moment
    other = {"host": "node7", "pid": 1, "started": 5}
    beat = stopped / "claims" / "heartbeat-node7.1"
    beat.parent.mkdir(exist_ok=True)
    beat.write_text(json.dumps(other))
    (stopped / ".run.json.node7.1").touch()
    open_run("edit", {}, runs_dir=tmp_path, run=stopped, shared=True).claims.leave()
    found = {str(file.relative_to(stopped)) for file in stopped.rglob("*")}
    assert not found & {*names, f".pipeline.{left}"}
    assert {of_another_boot, ".run.json.node7.1"} <= found
    beat.unlink()
    again(stopped)
    found = {str(file.relative_to(stopped)) for file in stopped.rglob("*") if file.is_file()}
    assert found == {"run.json", "images/.gitkeep", ".DS_Store", "images/a.b_c.1.png"}


def test_an_artifact_that_cannot_be_written_is_one_line_and_leaves_nothing(stopped):
    run = open_run("edit", {}, runs_dir=stopped.parent, run=stopped)
    said = r"Cannot write .*/pipeline: .*No space left"
    with pytest.raises(RicError, match=said) as raised, artifact_folder(run, "pipeline"):
        raise SafetensorError("Error while serializing: I/O error: No space left on device")
    assert raised.value.hint == "Free some space, and repeat the command."
    assert not [name for name in os.listdir(stopped) if "pipeline" in name]
