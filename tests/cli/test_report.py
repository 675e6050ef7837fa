"""`ric report` as it is typed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path


def test_it_prints_the_pages_path_and_json_names_it(ric, chain):
    said = ric("report", "@eval", "--runs-dir", chain.runs)
    assert (said.code, said.out) == (0, "report/index.html\n")
    assert "6 samples" in Path("report/index.html").read_text()
    said = ric("report", 2, 3, "--runs-dir", chain.runs, "--out", "two", "--json", "--quiet")
    assert json.loads(said.out) == {"command": "report", "result": "two/index.html"}
    assert said.err == ""


def test_a_run_that_is_not_there_is_one_line_with_a_hint(ric, chain):
    said = ric("report", "9", "--runs-dir", chain.runs)
    assert said.code == 1
    assert said.err.startswith(f"Error: No run 9 in {chain.runs}.\nHint: List the runs")
    assert not Path("report").exists()


def test_a_study_is_asked_for_answered_and_counted(ric, chain):
    said = ric("report", 4, "--study", 6, "--seed", 2, "--runs-dir", chain.runs)
    assert (said.code, said.out) == (0, "study/study.html\n")
    key = json.loads(Path("study/study.key.json").read_text())
    best = ["a" if pair["a"] == "In context" else "b" for pair in key["pairs"]]
    told = {"study": key["study"], "voter": "v", "saved": "2026-01-02T03:04:05Z", "answers": best}
    Path("answers.json").write_text(json.dumps(told))
    words = ("report", 4, "--runs-dir", chain.runs, "--votes", "answers.json")
    said = ric(*words)
    assert (said.code, said.out) == (0, "report/index.html\n")
    line = "Plain against In context: wins 0% (0% to 39%) of 6 decided votes, 0 without difference"
    assert line in said.err
    said = ric(*words, "--votes", "answers.json", "--json", "--quiet")
    (rate,) = json.loads(said.out)["votes"]["rates"]
    assert (rate["wins"], rate["losses"], said.err) == (0, 6, "")


def test_answers_to_another_study_and_two_wishes_at_once_are_a_line_with_a_hint(ric, chain):
    runs = ("--runs-dir", chain.runs)
    ric("report", 4, "--study", 6, *runs)
    told = {"study": "7" * 64, "voter": "v", "saved": "2026-01-02T03:04:05Z", "answers": []}
    Path("answers.json").write_text(json.dumps(told))
    said = ric("report", 4, "--votes", "answers.json", *runs)
    assert said.code == 1
    assert said.err.startswith("Error: answers.json answers study 77777777, and the key is that of")
    assert "\nHint: Name the key that was written with its page: --key FILE" in said.err
    assert not Path("report").exists()
    said = ric("report", 4, "--votes", "answers.json", "--study", 3, *runs)
    assert said.code == 1
    assert "one at a time" in said.err
    said = ric("report", 4, "--votes", "answers.json", "--key", "none.json", *runs)
    assert said.err.startswith("Error: No key of a study at none.json.")


def test_torch_is_not_loaded_for_it(tmp_path):
    made = Path(__file__).parents[1] / "fixtures" / "runs-0.1.0"
    runs = shutil.copytree(made, tmp_path / "runs")
    script = (
        "import sys\nfrom pathlib import Path\nfrom ric.recipes.report import report\n"
        f"report(['6'], Path({str(tmp_path / 'out')!r}), runs_dir=Path({str(runs)!r}))\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
