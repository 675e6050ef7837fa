"""A run's folder: its number, its life, who may work on it, and how it is found again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ric.errors import RicError, SampleError
from ric.interrupt import Interrupted
from ric.runs.claims import process_identity
from ric.runs.open_run import open_run
from ric.runs.record import (
    SCHEMA,
    find_artifact,
    find_run,
    list_runs,
    parents_of,
    read_record,
    status_of,
)

CONFIG = {"data": "photos", "steps": 3, "lr": 1e-4, "device": "auto", "weights": None}
FIXTURE = Path(__file__).parents[1] / "fixtures" / "run-schema-1"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a Python process of its own; it may write to us and read from us."""
    words = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


def finished_run(runs: Path, command: str = "describe") -> Path:
    with open_run(command, CONFIG, runs_dir=runs) as run:
        pass
    return run.path


# --- numbers ---------------------------------------------------------------------------------

OPEN_TWENTY = """
import sys, time
from pathlib import Path
from ric.runs.open_run import open_run
runs, me, other, command = Path(sys.argv[1]), *sys.argv[2:5]
for i in range(20):
    (runs / f"ready-{me}-{i}").touch()
    while not (runs / f"ready-{other}-{i}").exists():
        pass
    print(open_run(command, {}, runs_dir=runs / "runs").path.name)
"""


def test_two_commands_that_start_at_the_same_moment_take_two_numbers(tmp_path, monkeypatch):
    processes = [
        start(OPEN_TWENTY, tmp_path, "a", "b", "edit"),
        start(OPEN_TWENTY, tmp_path, "b", "a", "eval"),
    ]
    names = [name for process in processes for name in process.communicate()[0].split()]
    assert len(names) == 40
    assert sorted(int(name[:5]) for name in names) == list(range(1, 41))


def test_a_number_is_not_given_again_when_its_run_was_deleted(runs):
    shutil.rmtree(finished_run(runs))
    assert finished_run(runs).name == "00002-describe"


def test_a_runs_folder_that_cannot_be_made_says_which_flag_to_change(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RicError, match=r"Cannot create runs in .*/file/runs: Not a directory\."):
        open_run("edit", CONFIG, runs_dir=tmp_path / "file" / "runs")


# --- --run DIR -------------------------------------------------------------------------------


def test_a_named_folder_that_is_not_there_is_made(runs, tmp_path):
    with open_run("edit", CONFIG, runs_dir=runs, run=tmp_path / "new" / "mine") as run:
        assert not run.resumed
    assert read_record(tmp_path / "new" / "mine")["status"] == "done"


def test_an_unfinished_run_of_the_same_settings_is_resumed(runs):
    run = open_run("edit", CONFIG, runs_dir=runs)
    run.append("edits", {"id": "a"})
    with pytest.raises(ValueError, match="broke"), run:
        raise ValueError("broke")
    started = read_record(run.path)["started"]
    # where it is executed does not change what it is
    elsewhere = CONFIG | {"device": "cuda", "weights": "w"}
    with open_run("edit", elsewhere, runs_dir=runs, run=run.path) as again:
        assert again.resumed
        assert not again.finished_before
        assert [row["id"] for row in again.rows("edits")] == ["a"]
        assert {"error", "ended"}.isdisjoint(read_record(run.path))
    record = read_record(run.path)
    assert (record["status"], record["started"]) == ("done", started)
    assert record["config"]["device"] == "cuda"


def test_other_settings_are_refused_with_the_list_of_differences(runs):
    path = finished_run(runs)
    with pytest.raises(RicError) as raised:
        open_run("describe", CONFIG | {"steps": 4, "lr": 1.0}, runs_dir=runs, run=path)
    assert raised.value.message == (
        f"{path} was started with other settings: lr: 0.0001 there, 1.0 now; steps: 3 there, 4 now."
    )
    assert raised.value.hint == "Use the same settings to resume it, or name another folder."


def test_a_run_records_what_an_automatic_dtype_means_here_and_keeps_it(runs, monkeypatch):
    path, config = runs / "mine", CONFIG | {"dtype": "auto", "device": "cpu"}
    monkeypatch.setattr("ric.device.computes_in_bf16", lambda device: False)
    for dtype in ("auto", "fp32"):
        open_run("edit", config | {"dtype": dtype}, runs_dir=runs, run=path, shared=True)
        assert read_record(path)["config"]["dtype"] == "fp32"
    monkeypatch.setattr("ric.device.computes_in_bf16", lambda device: True)
    with pytest.raises(RicError, match="dtype: 'fp32' there, 'bf16' now"):
        open_run("edit", config, runs_dir=runs, run=path, shared=True)


def test_another_commands_run_is_refused(runs):
    path = finished_run(runs, "fit-clip")
    with pytest.raises(RicError, match=r"is a run of `ric fit-clip`, not of `ric edit`\."):
        open_run("edit", CONFIG, runs_dir=runs, run=path)


OPEN = """
import sys
from pathlib import Path
from ric.runs.open_run import open_run
path = Path(sys.argv[1])
with open_run("edit", {"steps": 1}, runs_dir=path.parent, run=path, shared=True):
    print("opened")
"""


def test_a_folder_that_another_process_is_just_making_a_run_is_joined(runs, monkeypatch):
    answers = []
    fsync = os.fsync

    def meet_another(descriptor: int) -> None:
        if not answers:  # the folder is there, its run.json not yet
            answers.append(None)
            answers[0] = start(OPEN, runs / "shared").communicate(timeout=60)[0]
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", meet_another)
    run = open_run("edit", {"steps": 1}, runs_dir=runs, run=runs / "shared", shared=True)
    assert answers == ["opened\n"]
    assert run.resumed


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(runs, tmp_path):
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(RicError, match=r"exists and is not a run \(it has no run\.json\)\."):
        open_run("edit", CONFIG, runs_dir=runs, run=tmp_path)
    with pytest.raises(RicError, match=r"photo\.jpg exists and is not a run"):
        open_run("edit", CONFIG, runs_dir=runs, run=tmp_path / "photo.jpg")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "photo.jpg"]


def test_a_folder_below_a_file_is_refused(runs, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RicError, match=r"Cannot create a run in .*/file/run: Not a directory\."):
        open_run("edit", CONFIG, runs_dir=runs, run=tmp_path / "file" / "run")


def test_a_finished_run_is_opened_without_being_touched(runs):
    path = finished_run(runs)
    before = (path / "run.json").read_bytes()
    with open_run("describe", CONFIG, runs_dir=runs, run=path) as run:
        assert run.finished_before
    assert (path / "run.json").read_bytes() == before
    assert sorted(file.name for file in path.iterdir()) == ["run.json"]


WORK = """
import sys
from pathlib import Path
from ric.runs.open_run import open_run
config = {"data": "photos", "steps": 3, "lr": 1e-4, "device": "auto", "weights": None}
with open_run("edit", config, runs_dir=Path(sys.argv[1]), shared=sys.argv[2] == "shared") as run:
    run.claims.take("first")
    print(run.path, flush=True)
    sys.stdin.readline()
    run.append("edits", {"id": "first"})
"""


def test_a_run_at_work_is_refused_unless_it_may_be_shared(runs):
    with start(WORK, runs, "alone") as other:
        path = Path(other.stdout.readline().strip())
        with pytest.raises(RicError) as raised:
            open_run("edit", CONFIG, runs_dir=runs, run=path)
        other.stdin.write("\n")
    assert raised.value.message == (
        f"Process {other.pid} on {process_identity()['host']} is at work in {path}."
    )
    assert read_record(path)["status"] == "done"


def test_the_last_of_several_processes_to_leave_finishes_a_shared_run(runs):
    with start(WORK, runs, "shared") as other:
        path = Path(other.stdout.readline().strip())
        with open_run("edit", CONFIG, runs_dir=runs, run=path, shared=True) as run:
            assert not run.claims.take("first")
            assert run.claims.take("second")
            run.append("edits", {"id": "second"})
        # we are through, the other is not
        assert status_of(read_record(path), path) == "running"
        assert not (path / "edits.jsonl").exists()
        other.stdin.write("\n")
    assert read_record(path)["status"] == "done"
    rows = [json.loads(line) for line in (path / "edits.jsonl").read_text().splitlines()]
    assert sorted(row["id"] for row in rows) == ["first", "second"]
    assert sorted(file.name for file in path.iterdir()) == ["edits.jsonl", "run.json"]


def test_a_sample_that_a_killed_process_left_undone_keeps_a_shared_run_from_being_done(runs):
    with start(WORK, runs, "shared") as other:
        path = Path(other.stdout.readline().strip())
        shared = {"runs_dir": runs, "run": path, "shared": True}
        run = open_run("edit", CONFIG, **shared)
        assert not run.claims.take("first")
        with (
            pytest.raises(
                RicError, match=r"1 samples \(first\) were begun in .* before it finished them\."
            ),
            run,
        ):
            kill(other)
    assert read_record(path)["status"] == "interrupted"
    with open_run("edit", CONFIG, **shared) as run:
        assert run.claims.take("first")
        run.append("edits", {"id": "first"})
    assert read_record(path)["status"] == "done"


def test_a_run_whose_process_was_killed_says_so_and_can_be_resumed(runs):
    with start(WORK, runs, "alone") as other:
        path = Path(other.stdout.readline().strip())
        assert status_of(read_record(path)) == "running"
        os.kill(other.pid, signal.SIGKILL)
        # not waited for yet: to the system it is a zombie, to us it is gone
        while Path(f"/proc/{other.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.01)
        assert status_of(read_record(path), path) == "killed"
    with open_run("edit", CONFIG, runs_dir=runs, run=path) as run:
        assert run.resumed
        assert run.claims.take("first")
    assert read_record(path)["status"] == "done"


def test_a_run_on_another_host_is_at_work_while_its_heart_beats(runs):
    run = open_run("edit", CONFIG, runs_dir=runs)
    elsewhere = {"host": "node7", "pid": 1, "started": 5}
    run.note(process=elsewhere, status="running")
    shutil.rmtree(run.path / "claims")
    beat = run.path / "claims" / "heartbeat-node7.1"
    beat.parent.mkdir()
    beat.write_text(json.dumps(elsewhere))
    assert status_of(read_record(run.path), run.path) == "running"
    os.utime(beat, (time.time() - 90, time.time() - 90))
    assert status_of(read_record(run.path), run.path) == "killed"


# --- how it ended ----------------------------------------------------------------------------


def test_leaving_without_an_error_is_done(runs):
    with open_run("edit", CONFIG, runs_dir=runs) as run:
        assert read_record(run.path)["status"] == "running"
    record = read_record(run.path)
    assert record["status"] == "done"
    assert record["ended"] >= record["started"]


@pytest.mark.parametrize("stop", [Interrupted(signal.SIGTERM), KeyboardInterrupt()])
def test_being_asked_to_stop_is_interrupted(runs, stop):
    with pytest.raises(type(stop)), open_run("edit", CONFIG, runs_dir=runs) as run:
        raise stop
    assert read_record(run.path)["status"] == "interrupted"
    assert "error" not in read_record(run.path)


def test_an_error_is_failed_with_its_words(runs):
    with pytest.raises(RicError), open_run("edit", CONFIG, runs_dir=runs) as run:
        raise RicError("The loss was not finite.")
    assert read_record(run.path)["status"] == "failed"
    assert read_record(run.path)["error"] == "The loss was not finite."


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("why", "status"), [("stop", "interrupted"), ("fail", "failed")])
def test_a_signal_while_a_stopped_run_closes_does_not_leave_it_running(runs, number, why, status):
    with start(CLOSE, runs, int(number), why) as process:
        path = Path(process.stdout.readline().strip())
        said = process.communicate()[0].split()
    assert said == [{"stop": "KeyboardInterrupt", "fail": "ValueError"}[why]]
    assert read_record(path)["status"] == status
    assert not list(path.glob("claims/heartbeat-*"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_a_finished_run_is_merged_interrupts_it_and_it_can_be_resumed(
    runs, number, code
):
    with start(CLOSE, runs, int(number), "merge") as process:
        path = Path(process.stdout.readline().strip())
        said = process.communicate()[0].split()
    assert said == ["Interrupted", str(code)]
    assert read_record(path)["status"] == "interrupted"
    with open_run("edit", {}, runs_dir=runs, run=path) as run:
        assert [row["id"] for row in run.rows("edits")] == ["a"]
    assert read_record(path)["status"] == "done"


SIGNAL_AT_EVERY_LINE = """
import json, os, signal, sys
from pathlib import Path
import ric.runs.provenance
from ric.runs.open_run import open_run
from ric.interrupt import Interrupted
folder, number = Path(sys.argv[1]), int(sys.argv[2])
ric.runs.provenance.environment_report = lambda folder: {}

def stop(number, frame):
    raise Interrupted(number)

def begin(path, at):
    "Open and enter a run; raise the signal at line number `at`; return how many lines there were."
    passed = 0
    def trace(frame, event, argument):
        nonlocal passed
        if "/ric/runs/" not in frame.f_code.co_filename:
            return None
        if event == "line":
            passed += 1
            if passed == at:
                sys.settrace(None)
                signal.raise_signal(number)
        return trace
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, stop)
    sys.settrace(trace)
    try:
        run = open_run("edit", {}, runs_dir=path.parent, run=path)
        run.__enter__()
    finally:
        sys.settrace(None)
    run._beating.close()
    return passed

begin(folder / "first", None)
lines, said = begin(folder / "whole", None), {}
for at in range(1, lines + 1, 3):
    path = folder / str(at)
    try:
        begin(path, at)
        said[at] = "went on"
    except Interrupted:
        record = path / "run.json"
        said[at] = json.loads(record.read_text())["status"] if record.exists() else "no run"
print(json.dumps([lines, sorted({*said.values()}), list(said.values())[-1]]))
"""


def test_a_signal_between_a_runs_creation_and_its_first_step_leaves_it_interrupted(tmp_path):
    with start(SIGNAL_AT_EVERY_LINE, tmp_path, int(signal.SIGTERM)) as process:
        lines, said, last = json.loads(process.communicate()[0])
    assert lines > 100
    assert said == ["interrupted", "no run"]
    assert last == "interrupted"


CLOSE = """
import signal, sys
from pathlib import Path
import ric.runs.open_run
import ric.runs.run
from ric.runs.claims import Claims
number, why = int(sys.argv[2]), sys.argv[3]
leave, merge = Claims.leave, ric.runs.run.merge_rows
def signal_first(work):
    def work_after(*given):
        if not closing:
            closing.append(True)
            for _ in range(2):
                signal.raise_signal(number)
        return work(*given)
    return work_after
closing = []
ric.runs.run.merge_rows = signal_first(merge)
ric.runs.run.now = signal_first(ric.runs.run.now) if why != "merge" else ric.runs.run.now
closing.append(True)
run = ric.runs.open_run.open_run("edit", {}, runs_dir=Path(sys.argv[1]))
closing.clear()
print(run.path, flush=True)
try:
    with run:
        run.append("edits", {"id": "a"})
        run.append("samples", {"id": "a"})
        if why == "stop":
            raise KeyboardInterrupt
        if why == "fail":
            raise ValueError("bad")
except BaseException as error:
    print(type(error).__name__, getattr(error, "exit_code", ""))
"""


def test_rows_that_cannot_be_merged_make_a_run_failed(runs, monkeypatch):
    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    run = open_run("edit", CONFIG, runs_dir=runs)
    monkeypatch.setattr("ric.runs.run.merge_rows", full)
    with pytest.raises(OSError, match="No space left"), run:
        run.append("edits", {"id": "a"})
    record = read_record(run.path)
    assert (record["status"], record["error"]) == ("failed", "[Errno 28] No space left on device")


def test_a_full_disk_does_not_hide_why_a_run_failed(runs, monkeypatch):
    def full(self: object) -> None:
        raise OSError(28, "No space left on device")

    run = open_run("edit", CONFIG, runs_dir=runs).__enter__()
    monkeypatch.setattr(type(run), "_save", full)
    run.__exit__(ValueError, ValueError("why"), None)
    assert run.record["error"] == "why"


def test_a_resumed_run_tries_its_failed_samples_again(runs):
    run = open_run("edit", CONFIG, runs_dir=runs)
    run.fail(SampleError("a", "source", "it is torn"))
    with pytest.raises(KeyboardInterrupt), run:
        raise KeyboardInterrupt
    assert list(run.rows("failures")) == [{"id": "a", "stage": "source", "reason": "it is torn"}]
    again = open_run("edit", CONFIG, runs_dir=runs, run=run.path)
    assert list(again.rows("failures")) == []
    assert again.claims.take("a")


def test_no_step_stands_twice_in_the_metrics_of_a_resumed_run(runs):
    run = open_run("train-unet", CONFIG, runs_dir=runs)
    for step in (1, 2, 3, 4):
        run.log_metrics({"step": step, "loss": 1.0})
    with (run.path / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 5, "lo')
    run.forget_metrics_after(2)
    for step in (3, 4):
        run.log_metrics({"step": step, "loss": 2.0})
    assert [(row["step"], row["loss"]) for row in run.metrics()] == [
        (1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0),
    ]  # fmt: skip


def test_rows_of_metrics_of_any_shape_are_dropped_when_a_run_goes_on(runs):
    run = open_run("train-unet", CONFIG, runs_dir=runs)
    odd = ['{"step": 1}', '{"step": "x"}', '{"step": null}', "{}", "[]", '{"step": [2]}']
    (run.path / "metrics.jsonl").write_text("\n".join(odd) + "\n")
    run.forget_metrics_after(2)
    assert run.metrics() == [{"step": 1}]


# --- secrets ---------------------------------------------------------------------------------


def test_addresses_stand_without_their_secrets_in_all_that_a_run_writes_and_it_is_gone_on_with(
    runs, monkeypatch
):
    address = "https://me:hush@host/data.jsonl?sig=hush"
    monkeypatch.setattr(sys, "argv", ["ric", "edit", address])
    config = CONFIG | {"data": address}
    run = open_run("edit", config, runs_dir=runs)
    run.note_data(address, "a" * 64)
    run.note(weights={"pipeline": {"id": address}})
    run.fail(SampleError("a", "source", f"cannot read {address}"))
    with pytest.raises(RicError), run:
        raise RicError(f"No answer from {address}")
    texts = [file.read_text() for file in run.path.rglob("*") if file.is_file()]
    assert len(texts) > 1
    assert not [text for text in texts if "hush" in text]
    record = read_record(run.path)
    hidden = "https://***@host/data.jsonl?sig=***"
    assert record["config"]["data"] == record["data"]["name"] == record["argv"][2] == hidden
    with open_run("edit", config, runs_dir=runs, run=run.path) as again:
        again.note_data(address, "a" * 64)
        assert again.resumed
    # a run of an earlier version tells them itself
    (run.path / "run.json").write_text(json.dumps(record | {"config": config, "status": "done"}))
    assert read_record(run.path)["config"]["data"] == hidden
    assert open_run("edit", config, runs_dir=runs, run=run.path).finished_before


# --- what it is made from --------------------------------------------------------------------


def stopped_run(runs: Path, *references: str) -> Path:
    """Leave an edit run that took what `references` name, and was interrupted."""
    run = open_run("edit", CONFIG, runs_dir=runs)
    for reference in references:
        run.add_parent(run.resolve(reference))
    with pytest.raises(KeyboardInterrupt), run:
        raise KeyboardInterrupt
    return run.path


def test_a_resumed_run_takes_the_run_it_took_at_first_though_a_newer_one_is_finished(runs):
    first = finished_run(runs, "fit-clip")
    path = stopped_run(runs, "@fit-clip")
    assert read_record(path)["resolved"] == {"@fit-clip": "../00001-fit-clip"}
    newer = finished_run(runs, "fit-clip")
    assert find_run("@fit-clip", runs) == newer
    with open_run("edit", CONFIG, runs_dir=runs, run=path) as again:
        assert again.record["parents"] == ["../00001-fit-clip"]
        assert again.resolve("@fit-clip") == first
    record = read_record(path)
    assert record["parents"] == ["../00001-fit-clip"]
    assert record["resolved"] == {"@fit-clip": "../00001-fit-clip"}


def test_a_run_that_was_taken_and_is_gone_is_named(runs):
    first = finished_run(runs, "fit-clip")
    path = stopped_run(runs, "@fit-clip")
    finished_run(runs, "fit-clip")
    shutil.rmtree(first)
    run = open_run("edit", CONFIG, runs_dir=runs, run=path)
    with pytest.raises(RicError) as raised:
        run.resolve("@fit-clip")
    assert raised.value.message == (
        f"{first}, which {path} used for '@fit-clip' when it began, is gone."
    )
    assert raised.value.hint == "Put it back, or use a new run (omit --run)."


def test_what_a_run_took_is_found_after_the_whole_runs_folder_was_moved(runs, tmp_path):
    first = finished_run(runs, "fit-clip")
    path = stopped_run(runs, str(first), "1")
    moved = tmp_path / "elsewhere"
    runs.rename(moved)
    run = open_run("edit", CONFIG, runs_dir=moved, run=moved / path.name)
    assert run.resolve(str(first)) == run.resolve("1") == moved / first.name


def test_a_reference_that_names_no_run_is_none_and_not_remembered(runs):
    run = open_run("edit", CONFIG, runs_dir=runs)
    assert run.resolve("org/name") is None
    assert "resolved" not in run.record


def test_of_two_processes_of_a_shared_run_the_first_ones_resolution_wins(runs):
    first = finished_run(runs, "fit-clip")
    one = open_run("edit", CONFIG, runs_dir=runs, shared=True)
    # opened before the other has looked
    two = open_run("edit", CONFIG, runs_dir=runs, run=one.path, shared=True)
    assert one.resolve("@fit-clip") == first
    finished_run(runs, "fit-clip")
    assert two.resolve("@fit-clip") == first
    assert read_record(one.path)["resolved"] == {"@fit-clip": "../00001-fit-clip"}


def test_data_that_changed_since_a_run_began_is_refused_when_it_is_resumed(runs):
    run = open_run("edit", CONFIG, runs_dir=runs)
    for fingerprint in (None, "a" * 64, "a" * 64, None):
        run.note_data("photos", fingerprint)
    with pytest.raises(KeyboardInterrupt), run:
        raise KeyboardInterrupt
    again = open_run("edit", CONFIG, runs_dir=runs, run=run.path)
    again.note_data("photos", "a" * 64)
    with pytest.raises(RicError) as raised:
        again.note_data("photos", "b" * 64)
    assert raised.value.message == (
        "The data 'photos' has changed since this run began: "
        f"fingerprint {'a' * 16} then, {'b' * 16} now."
    )
    assert raised.value.hint == "Use a new run (omit --run), or restore the data."
    assert read_record(run.path)["data"] == {"name": "photos", "fingerprint": "a" * 64}


def test_two_processes_of_a_shared_run_do_not_read_different_data(runs):
    one = open_run("edit", CONFIG, runs_dir=runs, shared=True)
    two = open_run("edit", CONFIG, runs_dir=runs, run=one.path, shared=True)
    one.note_data("photos", "a" * 64)
    with pytest.raises(RicError, match="has changed since this run began"):
        two.note_data("photos", "b" * 64)


# --- finding ---------------------------------------------------------------------------------


def test_parents_are_found_after_the_whole_runs_folder_was_moved(runs, tmp_path):
    parent = finished_run(runs)
    with open_run("edit", CONFIG, runs_dir=runs) as run:
        run.add_parent(parent)
        run.add_parent(parent)
    assert read_record(run.path)["parents"] == ["../00001-describe"]
    runs.rename(tmp_path / "elsewhere")
    moved = tmp_path / "elsewhere" / run.path.name
    (found,) = parents_of(moved, read_record(moved))
    assert found == tmp_path / "elsewhere" / "00001-describe"
    assert read_record(found)["command"] == "describe"


def test_a_run_is_found_by_path_number_and_command(runs):
    first, second = finished_run(runs), finished_run(runs)
    with pytest.raises(KeyboardInterrupt), open_run("describe", CONFIG, runs_dir=runs) as third:
        raise KeyboardInterrupt
    assert find_run(str(first), runs) == first
    assert find_run("2", runs) == find_run("00002", runs) == second
    assert find_run("3", runs) == third.path
    # the latest one that is finished
    assert find_run("@describe", runs) == second
    assert [path for path, _ in list_runs(runs)] == [first, second, third.path]


def test_what_names_no_run_is_said_or_is_none(runs, tmp_path):
    finished_run(runs)
    with pytest.raises(RicError, match=r"No finished run of `ric edit` in ") as raised:
        find_run("@edit", runs)
    assert raised.value.hint == "List the runs: ric runs ls"
    with pytest.raises(RicError, match=r"No run 7 in "):
        find_run("7", runs)
    assert find_run(str(tmp_path), runs) is None
    assert find_run("timbrooks/instruct-pix2pix", runs) is None


def test_an_artifact_is_found_or_the_run_says_what_it_is(runs):
    path = finished_run(runs)
    (path / "descriptions.jsonl").touch()
    assert find_artifact("1", "descriptions.jsonl", runs) == path / "descriptions.jsonl"
    assert find_artifact("org/name", "pipeline", runs) is None
    with pytest.raises(RicError) as raised:
        find_artifact("@describe", "pipeline", runs)
    assert raised.value.message == f"{path} has no pipeline: it is a run of `ric describe`, done."


# --- schemas ---------------------------------------------------------------------------------


def test_a_run_of_schema_1_stays_readable(tmp_path):
    record = read_record(FIXTURE / "00002-fit-clip")
    assert (record["schema"], record["command"], record["status"]) == (1, "fit-clip", "done")
    assert record["config"]["fusion_lr"] == 1e-3
    assert [path.name for path, _ in list_runs(FIXTURE)] == ["00001-describe", "00002-fit-clip"]
    assert parents_of(FIXTURE / "00002-fit-clip", record) == [FIXTURE / "00001-describe"]
    assert find_run("@describe", FIXTURE) == FIXTURE / "00001-describe"
    shutil.copytree(FIXTURE / "00002-fit-clip", tmp_path / "run")
    run = open_run("fit-clip", record["config"], runs_dir=tmp_path, run=tmp_path / "run")
    assert run.finished_before
    assert [row["step"] for row in run.metrics()] == [1, 2]


def test_what_open_run_writes_has_the_keys_of_the_kept_fixture(runs):
    with open_run("describe", CONFIG, runs_dir=runs) as run:
        pass
    kept = read_record(FIXTURE / "00001-describe")
    assert kept["schema"] == SCHEMA
    assert read_record(run.path).keys() == kept.keys() - {"data", "weights"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"schema": 99}', "was written by a newer ric (schema 99; this one reads up to 1)."),
        ('{"schema": 1}', "run.json cannot be read: it is not a run record."),
        ("[1]", "run.json cannot be read: it is not a run record."),
        ('{"schema": "x"}', "run.json cannot be read: it is not a run record."),
        ('{"sche', "run.json cannot be read: it is not a run record."),
    ],
)
def test_a_run_json_that_cannot_be_read_says_why(runs, text, words):
    path = finished_run(runs)
    (path / "run.json").write_text(text)
    with pytest.raises(RicError) as raised:
        read_record(path)
    assert raised.value.message.endswith(words)
    # one such run does not hide the others
    finished_run(runs)
    assert [path.name for path, _ in list_runs(runs)] == ["00002-describe"]


def test_a_folder_that_is_no_run_says_so(tmp_path):
    with pytest.raises(RicError, match=r"is not a run: it has no run\.json\."):
        read_record(tmp_path)


def test_a_setting_that_an_older_version_did_not_have_is_taken_as_its_default(tmp_path):
    before = {"preset": "tiny", "editor": "ddpm-inversion", "steps": 3}
    with pytest.raises(Interrupted), open_run("edit", before, runs_dir=tmp_path) as run:
        raise Interrupted(signal.SIGTERM)
    now = before | {"text_to_image": "tiny", "skip": 11}
    with pytest.raises(RicError, match="skip: 11 there, 5 now"):
        open_run("edit", now | {"skip": 5}, runs_dir=tmp_path, run=run.path)
    assert open_run("edit", now, runs_dir=tmp_path, run=run.path).resumed


def test_a_setting_that_its_editor_does_not_read_may_differ(tmp_path):
    before = {"preset": "tiny", "editor": "ip2p", "skip": 36}
    with pytest.raises(Interrupted), open_run("edit", before, runs_dir=tmp_path) as run:
        raise Interrupted(signal.SIGTERM)
    assert open_run("edit", before | {"skip": 5}, runs_dir=tmp_path, run=run.path).resumed
