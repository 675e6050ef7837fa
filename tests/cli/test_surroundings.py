"""Streams nobody reads, variables of other libraries: no work is lost and no result changes."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ric_cli.console import print_json, say
from ric_cli.surroundings import DEFAULTS, lost_output, settle

RIC = [sys.executable, "-m", "ric_cli"]


def gone() -> int:
    """Open a pipe that nobody reads; its writing end."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def closed_at_start(*numbers: int) -> str:
    return "exec " + " ".join(f"{number}>&-" for number in numbers) + '; exec "$@"'


# --- streams -------------------------------------------------------------------------------------


@pytest.mark.parametrize("numbers", [(1,), (2,), (0, 1, 2)], ids=str)
def test_closed_streams_are_nobody_s_output_and_no_error(numbers, tmp_path):
    words = ["sh", "-c", closed_at_start(*numbers), "sh", *RIC, "weights", "ls"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("tiny" in done.stdout) == (1 not in numbers)


def test_a_file_never_gets_the_number_of_a_closed_stream(tmp_path):
    script = (
        "from ric_cli.surroundings import settle; settle()\n"
        "file = open('checkpoint', 'wb')\n"
        "print('printed'); open('number', 'w').write(str(file.fileno()))"
    )
    words = ["sh", "-c", closed_at_start(0, 1, 2), "sh", sys.executable, "-c", script]
    assert subprocess.run(words, cwd=tmp_path, check=True).returncode == 0
    assert int((tmp_path / "number").read_text()) > 2
    assert (tmp_path / "checkpoint").read_bytes() == b""


def test_a_reader_that_goes_away_is_no_traceback(tmp_path):
    with os.fdopen(gone(), "w") as writing:
        done = subprocess.run(
            [*RIC, "weights", "ls"], stdout=writing, stderr=subprocess.PIPE, text=True, cwd=tmp_path
        )
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_result_that_the_disk_has_no_room_for_is_told(tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*RIC, "weights", "ls"], stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path
        )
    assert done.returncode == 1
    assert done.stderr == ("Error: Standard output cannot be written: No space left on device.\n")


def test_work_goes_on_when_nobody_reads_what_is_said(data, tmp_path):
    words = [*RIC, "describe", data, "--preset", "tiny", "--limit", "1", "--run", "mine"]
    with os.fdopen(gone(), "w") as writing:
        done = subprocess.run(words, stdout=writing, stderr=writing, cwd=tmp_path)
    # the path of what was made could not be given
    assert done.returncode == 1
    assert json.loads((tmp_path / "mine/run.json").read_text())["status"] == "done"


BARS = """
import os, sys
from ric_cli.console import make_progress
from ric_cli.surroundings import settle
settle()
with make_progress(quiet=False).stage("training", total=2) as stage:
    stage.advance(loss=1.0)
    os.write(1, b"begun\\n")
    sys.stdin.readline()
    stage.advance(loss=0.5)
print("done")
"""


def test_work_goes_on_when_its_terminal_is_closed(tmp_path):
    master, slave = pty.openpty()
    words = [sys.executable, "-c", BARS]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=slave, text=True) as process:
        os.close(slave)
        assert process.stdout.readline() == "begun\n"
        os.close(master)
        assert process.communicate("\n")[0] == "done\n"
    assert process.returncode == 0


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_narrow_stream_gets_what_it_lacks_as_escapes(encoding, tmp_path):
    narrow = os.environ | {"PYTHONIOENCODING": f"{encoding}:strict"}
    words = [*RIC, "runs", "show", "中±"]
    done = subprocess.run(words, env=narrow, capture_output=True, cwd=tmp_path)
    shown = {"ascii": "\\u4e2d\\xb1", "cp1252": "\\u4e2d±", "utf-8": "中±"}[encoding]
    error, _ = done.stderr.decode(encoding).splitlines()
    assert (done.returncode, error) == (1, f"Error: No run at '{shown}'.")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_json_is_the_same_object_whatever_the_stream_takes(encoding, tmp_path):
    value = {"data": "für 中 ± \U0001f600", "file": "menu\udce9"}
    script = (
        "import json, sys; from ric_cli.console import print_json\n"
        "from ric_cli.surroundings import settle; settle()\n"
        "print_json(json.loads(sys.argv[1]))"
    )
    narrow = os.environ | {"PYTHONIOENCODING": f"{encoding}:strict"}
    words = [sys.executable, "-c", script, json.dumps(value)]
    said = subprocess.run(words, env=narrow, stdout=subprocess.PIPE, check=True).stdout
    assert json.loads(said.decode(encoding)) == value


def test_streams_of_a_test_or_a_notebook_stay_its_own(capsys):
    settle()
    say("a")
    print_json(1)
    assert capsys.readouterr() == ("1\n", "a\n")
    assert lost_output() is None


# --- variables -----------------------------------------------------------------------------------

# of accelerate, unless said otherwise; each of them would change a training, or end it
POISON = {
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4",
    "ACCELERATE_DYNAMO_BACKEND": "INDUCTOR",
    "ACCELERATE_MIXED_PRECISION": "fp16",
    "ACCELERATE_TORCH_DEVICE": "meta",
    "ACCELERATE_USE_DEEPSPEED": "true",
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "7",
    "DIFFUSERS_ATTN_BACKEND": "flash",
    "LOCAL_RANK": "0",
    "PMI_RANK": "1",
}
TRAIN = ("train-unet", "--preset", "tiny", "--device", "cpu", "--steps", "2", "--batch-size", "2")


def test_no_variable_of_another_library_changes_a_training(
    ric, edits, tmp_path, metrics_of, monkeypatch
):
    assert ric(*TRAIN, edits, "--run", "plain").code == 0
    for name, value in POISON.items():
        monkeypatch.setenv(name, value)
    assert ric(*TRAIN, edits, "--run", "poisoned").code == 0
    assert metrics_of(tmp_path / "poisoned") == metrics_of(tmp_path / "plain")


def test_processes_that_mpirun_has_started_do_not_train_a_run_each(ric, edits, monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    said = ric(*TRAIN, edits, "--run", "run")
    assert (said.code, said.out) == (1, "")
    error, hint = said.err.splitlines()
    assert error.startswith("Error: OMPI_COMM_WORLD_SIZE is 2: each of the 2 processes")
    assert "torchrun --nproc-per-node 2" in hint
    assert not Path("run").exists()


INLINE = "module://matplotlib_inline.backend_inline"  # as notebooks of Colab set it


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("MPLBACKEND", INLINE, "import ric.report.curves"),
        ("USE_TORCH", "0", "import transformers; assert transformers.is_torch_available()"),
    ],
)
def test_libraries_can_be_used_whatever_a_notebook_has_set(name, value, line):
    script = f"from ric_cli.surroundings import settle; settle(); {line}"
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, env=os.environ | {name: value}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["COLUMNS", "LINES"])
@pytest.mark.parametrize("value", ["0", "-1", "", "wide", "\u00b2", "000"])
def test_a_terminal_without_room_hides_no_error(tmp_path, name, value):
    words = [*RIC, "eval", "X=nowhere"]
    environment = os.environ | {name: value}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert "Hint: " in done.stderr


def test_what_the_user_has_set_beside_stays_and_the_rest_has_a_default(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setenv("COLUMNS", "72")
    for name in DEFAULTS.keys() - {"OMP_WAIT_POLICY"}:
        monkeypatch.delenv(name, raising=False)
    settle()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
    assert os.environ["COLUMNS"] == "72"
    assert all(os.environ[name] == value for name, value in DEFAULTS.items() if "WAIT" not in name)


def test_a_launcher_s_variables_stay_where_it_has_started_others(monkeypatch):
    told = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "a"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    settle()
    assert {name: os.environ.get(name) for name in told} == told
    monkeypatch.setenv("WORLD_SIZE", "1")
    settle()
    assert not {"RANK", "LOCAL_RANK"} & os.environ.keys()


@pytest.mark.parametrize(("preset", "threads"), [("tiny", "1"), ("paper", None)])
def test_small_networks_run_on_one_thread_unless_the_user_says_else(
    ric, data, monkeypatch, preset, threads
):
    words = ("describe", data, "--preset", preset, "--describer", "dataset", "--dry-run")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    ric(*words)
    assert os.environ.get("OMP_NUM_THREADS") == threads
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    ric(*words)
    assert os.environ["OMP_NUM_THREADS"] == "3"


def test_torch_s_threads_sleep_while_they_wait():
    script = (
        "from ric_cli.surroundings import settle, take_one_thread; settle(); take_one_thread()\n"
        "import torch; print(torch.get_num_threads(), torch.__config__.parallel_info())"
    )
    unset = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "MKL_", "KMP_"))}
    shown = unset | {"OMP_DISPLAY_ENV": "true"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=shown, capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[0] == "1"
    assert re.search(r"OMP_WAIT_POLICY ?= ?'PASSIVE'", done.stderr)
