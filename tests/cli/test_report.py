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


def test_torch_is_not_loaded_for_it(tmp_path):
    made = Path(__file__).parents[1] / "fixtures" / "runs-0.1.0"
    runs = shutil.copytree(made, tmp_path / "runs")
    script = (
        "import sys\nfrom pathlib import Path\nfrom ric.recipes.report import report\n"
        f"report(['6'], Path({str(tmp_path / 'out')!r}), runs_dir=Path({str(runs)!r}))\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
