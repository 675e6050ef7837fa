"""A run killed at any line that reads or writes its folder ends as if it never was."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

# Forks a child for each line of ric/runs that a run of three samples passes, the first time and the
# last, or for every so-and-so-many-th; kills it there, goes on with a run of its own, and prints
# what is not as it should be.
KILL_AT_EVERY_LINE = """
import json, os, signal, sys
from collections import Counter
from pathlib import Path
import ric.runs.provenance
from ric.runs.open_run import open_run

IDS = ["a", "b", "c"]
FILES = ("claims.py", "rows.py", "strays.py", "run.py", "open_run.py", "finished.py", "record.py")
folder, shared, every = Path(sys.argv[1]), sys.argv[2] == "shared", int(sys.argv[3])
ric.runs.provenance.environment_report = lambda folder: {}  # asks git, in a process of its own

def work(path):
    "Do the samples; return the ids of what is there, and the status."
    with open_run("describe", {}, runs_dir=path.parent, run=path, shared=shared) as run:
        done = {row["id"] for row in run.rows("descriptions")}
        for sample in IDS:
            if sample not in done and (not shared or run.claims.take(sample)):
                run.append("descriptions", {"id": sample})
    return sorted(row["id"] for row in run.rows("descriptions")), run.record["status"]

def traced(path, at_line):
    def trace(frame, event, argument):
        place, _, name = frame.f_code.co_filename.rpartition("/ric/runs/")
        if not place or name not in FILES:
            return None
        if event == "line":
            at_line((name, frame.f_lineno))
        return trace
    sys.settrace(trace)
    try:
        work(path)
    finally:
        sys.settrace(None)

work(folder / "first")  # what is kept from then on
passed = Counter()
traced(folder / "whole", lambda line: passed.update([line]))
moments = {(line, 1) for line in passed}
moments |= {(line, often) for line, often in passed.items() if line[0] in ("claims.py", "rows.py")}
wrong = {}
for number, (line, time) in enumerate(sorted(moments)[::every]):
    path = folder / str(number)
    child = os.fork()
    if not child:
        seen = Counter()
        def kill(passing):
            seen[passing] += 1
            if passing == line and seen[line] == time:
                os.kill(os.getpid(), signal.SIGKILL)
        traced(path, kill)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status)
    try:
        found = [*work(path), sorted(str(file.relative_to(path)) for file in path.rglob("*"))]
    except BaseException as error:
        found = repr(error)
    if not killed or found != [IDS, "done", ["descriptions.jsonl", "run.json"]]:
        wrong[f"{line}, {time}"] = found
print(json.dumps({"kills": len(range(0, len(moments), every)), "wrong": wrong}))
"""


EVERY, SOME = 1, 20  # of the lines


@pytest.mark.parametrize(
    ("how", "every"),
    [
        ("shared", SOME),
        *(pytest.param(how, EVERY, marks=pytest.mark.slow) for how in ("shared", "alone")),
    ],
)
def test_a_run_killed_at_any_line_goes_on_at_once_loses_no_row_and_leaves_nothing_behind(
    tmp_path: Path, how: str, every: int, tally
):
    words = [sys.executable, "-c", KILL_AT_EVERY_LINE, str(tmp_path), how, str(every)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["kills"] > 150 // every
    assert told["wrong"] == {}
    tally("kills", told["kills"])
