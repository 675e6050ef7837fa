"""What people see: bars on a terminal, plain lines elsewhere, and never markup for text."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys

import pytest
from rich.table import Table

import ric_cli.console
from ric.errors import RicError
from ric.progress import Silent
from ric_cli.console import (
    PlainLines,
    explain,
    make_progress,
    print_json,
    print_line,
    say,
    show_error,
    styled,
)
from ric_cli.tables import print_table

STAGE = """
import time
from ric_cli.console import make_progress
progress = make_progress(quiet=False)
with progress.stage("training [a]", total=200, done=100) as stage:
    for step in range(100):
        time.sleep(0.005)
        stage.advance(loss=1 / (step + 1))
        if step == 50:
            progress.note("half of it")
"""


def on_a_terminal(script: str) -> str:
    """Run a script with a pseudo-terminal as its stderr; return what it wrote there."""
    master, slave = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "CI")}
    words = [sys.executable, "-c", script]
    environment |= {"TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(words, stderr=slave, stdout=slave, env=environment) as process:
        os.close(slave)
        written = b""
        while True:
            try:
                written += os.read(master, 4096)
            except OSError:
                # the other end is closed
                break
    os.close(master)
    assert process.returncode == 0
    return written.decode()


def test_a_terminal_gets_a_bar_with_count_rate_time_left_and_values():
    written = on_a_terminal(STAGE)
    assert "\x1b[" in written
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written).replace("\r", "\n")
    last = plain.rstrip().splitlines()[-1]
    assert re.search(r"training \[a\] .* 200/200 [\d.]+ steps/s 0:00:00 loss 0\.01", last)
    # the hundred steps of an earlier attempt are not counted as speed
    rate = float(re.search(r"([\d.]+) steps/s", last)[1])
    assert rate < 100 / 0.5
    assert "half of it" in [line.strip() for line in plain.splitlines()]


def test_elsewhere_a_stage_is_a_line_without_control_characters(capsys):
    progress = make_progress(quiet=False)
    assert isinstance(progress, PlainLines)
    with progress.stage("training", total=4, done=2) as stage:
        stage.advance(loss=0.5)
        stage.advance(loss=0.25)
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"training: 4/4 steps, [\d.]+/s, loss 0\.25\n", err)


EXPLAINED = ["edits that are right although their surroundings did not follow"] * 4


def test_prose_breaks_between_words_on_a_terminal_and_nowhere_else(capsys, monkeypatch):
    text = " ".join(EXPLAINED)
    script = f"from ric_cli.console import explain, say; explain({text!r}); say({text!r})"
    *prose, said = on_a_terminal(script).replace("\r", "").splitlines()
    assert len(prose) > 1
    assert max(map(len, prose)) <= 120
    assert " ".join(line.strip() for line in prose) == text
    assert said == text  # a terminal wraps it itself, and copies it whole
    monkeypatch.setenv("FORCE_COLOR", "1")  # as for a log of CI
    explain(text)
    assert capsys.readouterr().err == text + "\n"


def test_a_long_stage_says_a_line_now_and_then_with_the_time_left(capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(ric_cli.console.time, "monotonic", lambda: clock[0])
    with PlainLines().stage("training", total=1000) as stage:
        for _ in range(25):
            clock[0] += 1.0
            stage.advance()
    assert capsys.readouterr().err.splitlines() == [
        "training: 10/1000 steps, 1.0/s, 16:30 left",
        "training: 20/1000 steps, 1.0/s, 16:20 left",
        "training: 25/1000 steps, 1.0/s, 16:15 left",
    ]


def test_quiet_is_silent(capsys):
    progress = make_progress(quiet=True)
    assert isinstance(progress, Silent)
    progress.note("x")
    with progress.stage("training") as stage:
        stage.advance(loss=1.0)
    assert capsys.readouterr() == ("", "")


def test_text_is_never_taken_for_markup_and_lines_are_not_broken(capsys):
    text = "[red]photos[old][/] :dog: " + "x" * 300
    say(text)
    show_error(RicError(text, "see [b]"))
    assert capsys.readouterr().err == f"{text}\nError: {text}\nHint: see [b]\n"


ODD = "\x1b]0;x\x07\x9b2J\u202e\n\r"
SHOWN = "\\x1b]0;x\\x07\\x9b2J\\u202e\\n\\r"


def test_nothing_that_is_printed_is_obeyed_by_a_terminal(capsys):
    say(ODD)
    show_error(RicError(ODD, ODD))
    progress = PlainLines()
    progress.note(ODD)
    with progress.stage(ODD, total=1) as stage:
        stage.advance()
    table = Table(ODD, title=ODD)
    table.add_row(ODD)
    table.add_row(styled(ODD, "bold"))
    print_table(table)
    print_line(ODD)
    out, err = capsys.readouterr()
    lines = (out + err).splitlines()
    assert sum(SHOWN in line for line in lines) == 5 + 5
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", out + err)


def test_a_bar_s_name_is_not_obeyed_either():
    script = STAGE.replace("training [a]", "\\x1b]0;x\\x07")
    assert "\x1b]0;x" not in on_a_terminal(script)


def test_json_holds_what_a_terminal_would_obey_as_escapes(capsys):
    value = {"id": ODD, "name": "für 中"}
    print_json(value)
    out = capsys.readouterr().out
    assert json.loads(out) == value
    assert "für 中" in out
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", out)


@pytest.mark.parametrize(
    ("done", "elapsed", "said"),
    [
        (32, 10.0, "3.2/s"),
        (10, 10.0, "1.0/s"),
        (5, 9.5, "1.9 s/step"),
        (0, 9.5, "0.0/s"),
        (0, 0, "0.0/s"),
    ],
)
def test_a_pace_slower_than_one_a_second_is_told_in_seconds(done, elapsed, said):
    assert ric_cli.console.pace(done, elapsed, "steps") == said
