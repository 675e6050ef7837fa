"""A test that is skipped for a reason nobody allowed fails the whole run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


@pytest.mark.parametrize(
    ("reason", "code", "mark"),
    [("../shared is absent", 0, ""), ("no reason at all", 1, "NOT in tests/allowed_skips.txt")],
)
def test_an_unknown_reason_fails_and_a_known_one_is_listed(tmp_path, reason, code, mark):
    names = ("conftest.py", "metric_fixtures.py", "run_fixtures.py", "allowed_skips.txt")
    for name in names:
        shutil.copy(TESTS / name, tmp_path / name)
    (tmp_path / "test_one.py").write_text(
        f"import pytest\n\ndef test_it():\n    pytest.skip({reason!r})\n"
    )
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == code, run.stdout
    assert f"1 x {reason}" in run.stdout
    assert "test_one.py::test_it" in run.stdout
    assert mark in run.stdout
