"""`--engine ray`, on a real cluster: two nodes of Ray's own `cluster_utils` on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from noting import Noting

from ric.errors import RicError
from ric_cli.ray_workers import Ended, _BatchCount, _refuse_if_all_failed, _RowCount

SCENES = ("--preset", "tiny", "--device", "cpu", "--split", "all", "--steps", "2")


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head without room for work, and two nodes with room for one process each."""
    pytest.importorskip("ray", reason="ray is not installed")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    made.nodes = [made.add_node(num_cpus=1), made.add_node(num_cpus=1)]
    made.wait_for_nodes()
    yield made
    made.shutdown()


def ric(*words: object, on: Any = None) -> subprocess.Popen[str]:
    where = ("--engine", "ray", "--ray-address", on.address) if on else ()
    command = [sys.executable, "-m", "ric_cli", *map(str, words), *where]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> str:
    _, said = process.communicate(timeout=1800)
    assert process.returncode == 0, said
    return said


def rows(run: Path, kind: str = "edits") -> dict[str, Any]:
    lines = (run / f"{kind}.jsonl").read_text().splitlines()
    found = {row["id"]: row for row in map(json.loads, lines)}
    assert len(found) == len(lines)  # each once
    return found


def hashes(run: Path) -> dict[str, str]:
    files = (run / "images").glob("*.png")
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def wait_for_rows(run: Path, count: int) -> None:
    counted, seen = _RowCount(run), 0
    while (seen := seen + counted.more()) < count:
        time.sleep(0.2)


@pytest.mark.slow
def test_a_node_removed_half_way_through_1000_photos_costs_none_and_changes_none(cluster, tmp_path):
    data = ("scenes:1000@64#5", *SCENES, "--batch-size", "4")
    process = ric("edit", *data, "--run", tmp_path / "there", on=cluster)
    wait_for_rows(tmp_path / "there", 500)
    cluster.remove_node(cluster.nodes.pop(), allow_graceful=False)
    finished(process)
    finished(ric("edit", *data, "--run", tmp_path / "here"))
    there, here = (rows(tmp_path / name) for name in ("there", "here"))
    assert len(here) == 1000
    assert there == here
    assert hashes(tmp_path / "there") == hashes(tmp_path / "here")
    assert json.loads((tmp_path / "there/run.json").read_text())["status"] == "done"


@pytest.mark.slow
def test_descriptions_are_those_of_one_process_and_a_stopped_command_goes_on(cluster, tmp_path):
    data = ("scenes:60@64#5", "--preset", "tiny", "--device", "cpu", "--split", "all")
    process = ric("describe", *data, "--run", tmp_path / "there", on=cluster)
    wait_for_rows(tmp_path / "there", 10)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 143, said
    assert "To continue, repeat the command with --run" in said
    assert not list((tmp_path / "there").glob("claims/heartbeat-*"))  # the workers have left, too
    finished(ric("describe", *data, "--run", tmp_path / "there", on=cluster))
    finished(ric("describe", *data, "--run", tmp_path / "here"))
    there, here = (rows(tmp_path / name, "descriptions") for name in ("there", "here"))
    assert there == here
    assert len(here) == 60


@pytest.mark.slow
def test_scores_are_those_of_one_process_with_a_node_removed_meanwhile(cluster, tmp_path):
    data, few = "scenes:240@64#5", ("--preset", "tiny", "--device", "cpu", "--split", "all")
    finished(ric("edit", data, *few, "--editor", "none", "--run", tmp_path / "edited"))
    asked = (f"Mine={tmp_path}/edited", "--data", data, *few, "--batch-size", "4")
    process = ric("eval", *asked, "--run", tmp_path / "there", on=cluster)
    counted, seen = _BatchCount(tmp_path / "there"), 0
    while (seen := seen + counted.more()) < 10:
        time.sleep(0.1)
    cluster.remove_node(cluster.nodes.pop(), allow_graceful=False)
    finished(process)
    finished(ric("eval", *asked, "--run", tmp_path / "here"))
    for name in ("scores.json", "per_sample.jsonl", "table.csv"):
        assert (tmp_path / "there" / name).read_text() == (tmp_path / "here" / name).read_text()
    assert json.loads((tmp_path / "there/run.json").read_text())["status"] == "done"


@pytest.mark.slow
def test_what_every_worker_says_is_the_error_of_the_command(cluster, tmp_path):
    data = ("scenes:8@64", "--preset", "tiny", "--run", tmp_path / "run")
    finished(ric("describe", *data))
    process = ric("edit", *data, on=cluster)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "No worker could do its work: Error: " in said
    assert f"{tmp_path}/run is a run of `ric describe`" in said


def test_rows_are_counted_once_and_lists_of_samples_are_not(tmp_path):
    count = _RowCount(tmp_path)
    (tmp_path / "edits-a.jsonl").write_text('{"id": 1}\n{"id": 2}\n{"id"')
    (tmp_path / "samples-a.jsonl").write_text("{}\n{}\n")
    assert (count.more(), count.more()) == (2, 0)
    with open(tmp_path / "edits-a.jsonl", "a") as stream:
        stream.write(": 3}\n")
    (tmp_path / "failures-b.jsonl").write_text("{}\n")
    assert count.more() == 2


def test_an_error_of_all_workers_is_raised_and_one_of_some_is_noted():
    broken, notes = Ended(1, "Error: no\nmodel"), Noting()
    _refuse_if_all_failed([Ended(0, ""), broken, Ended(3, "")], notes)
    assert notes.lines == ["1 of 3 workers ended early: Error: no model"]
    with pytest.raises(RicError, match="No worker could do its work: Error: no model"):
        _refuse_if_all_failed([broken, broken], notes)


@pytest.mark.parametrize(
    ("command", "words", "flag"),
    [
        ("edit", ("--redo", "x"), "--redo"),
        ("edit", ("--config", "overwrite: true"), "--overwrite"),
        ("describe", ("--config", "retry_failed: true"), "--retry-failed"),
    ],
)
def test_settings_by_which_each_process_would_begin_again_are_refused(
    command, words, flag, tmp_path
):
    pytest.importorskip("ray", reason="ray is not installed")
    if words[0] == "--config":
        (tmp_path / "settings.yaml").write_text(words[1])
        words = (words[0], tmp_path / "settings.yaml")
    said = ric(command, "scenes:8@64", "--preset", "tiny", "--engine", "ray", *words)
    assert f"{flag} is not for --engine ray" in said.communicate()[1]


def test_its_options_without_it_are_refused(capsys):
    for words in (("--workers", "2"), ("--ray-address", "here:1")):
        said = ric("edit", "scenes:8@64", "--preset", "tiny", *words).communicate()[1]
        assert f"{words[0]} is for Ray alone" in said
