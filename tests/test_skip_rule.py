"""A test that is skipped for a reason nobody allowed fails the whole run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent


def test_an_unknown_reason_fails_and_a_known_one_is_listed(tmp_path):
    # that known ones alone fail nothing, every run of all tests shows
    names = ("conftest.py", "metric_fixtures.py", "run_fixtures.py", "chain_fixtures.py")
    names += ("allowed_skips.txt",)
    for name in names:
        shutil.copy(TESTS / name, tmp_path / name)
    (tmp_path / "test_two.py").write_text(
        "import pytest\n\n"
        "def test_known():\n    pytest.skip('../shared is absent')\n\n"
        "def test_unknown():\n    pytest.skip('no reason at all')\n"
    )
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1, run.stdout
    lines = [line.strip() for line in run.stdout.splitlines()]
    assert "1 x ../shared is absent" in lines
    assert "1 x no reason at all  <- NOT in tests/allowed_skips.txt" in lines
    assert {"test_two.py::test_known", "test_two.py::test_unknown"} <= set(lines)
