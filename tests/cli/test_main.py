"""The error boundary: exit codes, one line and a hint, no traceback; completion."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from PIL import Image

import ric_cli.main
from ric.interrupt import Interrupted


def test_help_is_0_and_lists_the_commands_in_the_methods_order(ric):
    said = ric("--help")
    assert said.code == 0
    order = ["describe", "fit-clip", "fit-blip", "train-unet", "edit", "eval", "doctor", "weights"]
    places = [said.out.index(f" {name} ") for name in order]
    assert places == sorted(places)


def test_an_error_is_1_with_a_line_and_a_hint_and_no_traceback(ric):
    said = ric("describe", "no-such-folder", "--preset", "tiny")
    assert said.code == 1
    assert said.out == ""
    error, hint = said.err.splitlines()
    assert error.startswith("Error: ")
    assert "no-such-folder" in error
    assert hint.startswith("Hint: ")


def test_ric_debug_shows_the_traceback(monkeypatch, tmp_path):
    words = [sys.executable, "-m", "ric_cli", "runs", "show", "7"]
    done = subprocess.run(
        words, cwd=tmp_path, env=os.environ | {"RIC_DEBUG": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert "RicError: No run 7 in runs." in done.stderr


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["fit-clip"], "Missing argument 'DATA'"),
        (["edit", "x", "--steps", "0"], "greater than or equal to 1"),
        (["edit", "x", "--steps", "ten"], "valid integer"),
        (["edit", "x", "--dtype", "fp16"], "'fp16' is not one of 'auto', 'bf16', 'fp32'"),
        (["edit", "x", "--no-such-flag"], "No such option: --no-such-flag"),
        (["paint"], "No such command 'paint'"),
        (["data", "out"], "Give either --source DIR or --from DATA"),
        (["data", "out", "--source", "a", "--from", "b"], "Give either --source DIR or --from"),
        (["weights", "get"], "Name one weight, or the command that needs them: --for COMMAND."),
        (["weights", "get", "tiny", "--for", "edit"], "Name one weight, or the command that"),
    ],
)
def test_wrong_usage_is_2_and_says_what_is_wrong(ric, words, complaint):
    said = ric(*words)
    assert said.code == 2
    assert said.out == ""
    assert complaint in " ".join(said.err.replace("│", " ").split())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_being_stopped_is_130_or_143(ric, monkeypatch, number, code):
    def stopped() -> None:
        raise Interrupted(number)

    monkeypatch.setattr(ric_cli.main, "app", stopped)
    said = ric("describe")
    assert (said.code, said.out) == (code, "")
    assert said.err == f"Stopped: interrupted by {number.name}.\n"


STOPPED_AT = """
import os, signal, sys
class Stop:
    def find_spec(self, name, *more):
        if name == sys.argv[0]:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Stop())
sys.argv = sys.argv[1:]
from ric_cli.main import main
main()
"""


@pytest.mark.parametrize("module", ["ric_cli.surroundings", "ric_cli.commands", "typer", "rich"])
def test_a_ctrl_c_while_a_library_is_imported_is_one_line_and_130(module, tmp_path):
    words = [sys.executable, "-c", STOPPED_AT, module, "runs", "ls"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "Stopped: interrupted by SIGINT.\n"


def test_a_stop_that_a_library_has_made_another_error_of_is_one_still(ric, monkeypatch):
    class Named:
        def __set_name__(self, owner: type, name: str) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    def imports() -> None:
        type("Owner", (), {"place": Named()})  # a RuntimeError in Python 3.11

    monkeypatch.setattr(ric_cli.main, "app", imports)
    said = ric("describe")
    assert (said.code, said.err) == (130, "Stopped: interrupted by SIGINT.\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_outside_a_loop_stops_the_command(ric, monkeypatch, number):
    monkeypatch.setattr(ric_cli.main, "app", lambda: os.kill(os.getpid(), number))
    assert ric("describe").code == 128 + number


def test_a_full_disk_is_1_and_said(ric, monkeypatch):
    def full() -> None:
        raise OSError(28, "No space left on device", "runs/00001-edit/run.json")

    monkeypatch.setattr(ric_cli.main, "app", full)
    said = ric("edit")
    assert said.code == 1
    assert said.err == (
        "Error: The disk is full (runs/00001-edit/run.json).\n"
        "Hint: Free some space; repeat the command.\n"
    )


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (["data", "/proc/nope", "--source", "photos"], "/proc/nope"),
        (["demo", "/proc/demo"], "/proc/demo"),
    ],
    ids=["data", "demo"],
)
def test_a_folder_that_cannot_be_made_is_1_with_its_name_and_no_traceback(
    ric, tmp_path, words, place
):
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "photos/dog.png")
    said = ric(*words)
    assert (said.code, said.out) == (1, "")
    error, hint = said.err.splitlines()[-2:]
    assert error.startswith("Error: ")
    assert place in error
    assert "No such file or directory" in error
    assert hint.startswith("Hint: ")
    assert "Traceback" not in said.err


def test_a_file_the_system_refuses_is_1_and_named(ric, monkeypatch):
    def refused() -> None:
        raise PermissionError(13, "Permission denied", "runs/00001-edit/run.json")

    monkeypatch.setattr(ric_cli.main, "app", refused)
    said = ric("edit")
    assert said.code == 1
    assert said.err == (
        "Error: Cannot read or write runs/00001-edit/run.json: Permission denied.\n"
        "Hint: Check the path and its permissions. "
        "RIC_DEBUG=1 shows where it was.\n"
    )


@pytest.mark.parametrize("home", ["a file", "/proc"])
def test_a_home_that_cannot_be_written_names_the_variable_that_helps(
    ric, edits, tmp_path, monkeypatch, home
):
    # nobody, not even root, can make a folder below a file
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / home))
    monkeypatch.delenv("RIC_CACHE_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    said = ric("fit-blip", edits, "--preset", "tiny", "--device", "cpu")
    assert (said.code, said.out) == (1, "")
    error, hint = said.err.splitlines()[-2:]
    assert error.startswith(f"Error: Cannot read or write {tmp_path / home}/.cache")
    assert hint == "Hint: ric's caches are there; set RIC_CACHE_DIR to a writable folder."


def test_a_write_that_the_system_refuses_in_an_open_file_is_1_and_said(ric, monkeypatch):
    def refused() -> None:
        raise OSError(27, "File too large")

    monkeypatch.setattr(ric_cli.main, "app", refused)
    said = ric("edit")
    assert said.code == 1
    assert said.err == (
        "Error: The system has refused to read or write: File too large.\n"
        "Hint: RIC_DEBUG=1 shows where it was.\n"
    )


def test_a_fault_without_a_number_of_the_system_is_not_hidden(ric, monkeypatch):
    def broken() -> None:
        raise OSError("something else")

    monkeypatch.setattr(ric_cli.main, "app", broken)
    with pytest.raises(OSError, match="something else"):
        ric_cli.main.main()


def test_ric_debug_shows_where_a_file_was_refused(ric, monkeypatch):
    def refused() -> None:
        raise PermissionError(13, "Permission denied", "x")

    monkeypatch.setattr(ric_cli.main, "app", refused)
    monkeypatch.setenv("RIC_DEBUG", "1")
    with pytest.raises(PermissionError):
        ric_cli.main.main()


@pytest.mark.parametrize(
    ("shell", "typed"),
    [
        ("bash", {"COMP_WORDS": "ric f", "COMP_CWORD": "1"}),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "ric f"}),
        ("fish", {"_TYPER_COMPLETE_ARGS": "ric f", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}),
    ],
)
def test_shells_complete_the_commands(shell, typed):
    script = "import sys; sys.argv[0] = 'ric'; from ric_cli.main import main; main()"
    asked = os.environ | typed | {"_RIC_COMPLETE": f"complete_{shell}"}
    done = subprocess.run([sys.executable, "-c", script], env=asked, capture_output=True, text=True)
    assert done.returncode == 0
    assert "fit-clip" in done.stdout
    assert "fit-blip" in done.stdout
    assert "describe" not in done.stdout


COMPLETED = """
import sys
sys.argv[0] = "ric"
from ric_cli.main import main
try:
    main()
except SystemExit:
    heavy = {"torch", "transformers", "diffusers", "numpy", "PIL"} & set(sys.modules)
    print(*sorted(heavy), file=sys.stderr)
"""


@pytest.fixture
def three_runs(tmp_path):
    for name, status in (("00001-edit", "failed"), ("00002-edit", "done"), ("00003-eval", "done")):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        record = {"schema": 1, "command": name[6:], "status": status, "config": {}}
        (folder / "run.json").write_text(json.dumps(record | {"started": "2026-01-01"}))


@pytest.mark.usefixtures("three_runs")
@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("runs show 000", ["00001-edit", "00002-edit", "00003-eval"]),
        ("runs show @", ["@edit", "@eval"]),
        ("runs show 00002", ["00002-edit"]),
        ("runs show 7", []),
        ("runs show --runs-dir elsewhere 000", []),
        ("runs join 00001-edit 0", ["00001-edit", "00002-edit"]),
        ("report @ev", ["@eval"]),
        ("eval Mine=000", ["Mine=00001-edit", "Mine=00002-edit"]),
        ("eval Mine = 000", ["00001-edit", "00002-edit"]),  # as bash splits the words
        ("eval A=@edit --agree-with 0", ["00003-eval"]),
        ("edit photo.png --captions 0", []),
        ("weights get facebook/dino-", ["facebook/dino-vits16", "facebook/dino-vitb8"]),
    ],
)
def test_shells_complete_runs_and_weights_without_torch(typed, completed, tmp_path):
    words = typed.split()
    asked = {"COMP_WORDS": f"ric {typed}", "COMP_CWORD": str(len(words))}
    asked = os.environ | asked | {"_RIC_COMPLETE": "complete_bash"}
    command = [sys.executable, "-c", COMPLETED]
    done = subprocess.run(command, env=asked, cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr == "\n"
    assert done.stdout.split() == completed


@pytest.mark.usefixtures("three_runs")
def test_a_name_that_was_completed_is_understood(ric):
    said = ric("runs", "show", "00002-edit", "--json")
    assert json.loads(said.out)["run"] == "runs/00002-edit"
