"""The README's first steps, typed one after the other."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def first_steps() -> str:
    """Return the README's first block of commands under "First steps"."""
    text = (ROOT / "README.md").read_text()
    (block,) = re.findall(r"^## First steps\n\n```\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return block


def test_the_first_steps_clone_show_and_activate():
    assert [line.split()[0] for line in first_steps().splitlines()] == ["git", "make", "source"]


@pytest.mark.slow
def test_the_readme_s_first_steps_in_a_fresh_clone_lead_to_the_demo_s_page(tmp_path):
    clone, demo, activate = first_steps().splitlines()
    clone = clone.replace("URL-OF-THIS-REPOSITORY", str(ROOT))
    # the environment of the tests stands for the one that make creates in two minutes
    lines = ["set -e", clone, f"ln -s {sys.prefix} .venv", demo, activate, "ric --version"]
    surroundings = {
        key: value
        for key, value in os.environ.items()
        if key not in ("RIC_TINY_FAMILY", "RIC_CACHE_DIR", "HF_HUB_OFFLINE", "VIRTUAL_ENV")
    }
    surroundings["PYTHONPATH"] = str(tmp_path / "ric")  # the clone's code, not this checkout's
    ran = subprocess.run(
        [shutil.which("bash") or "bash", "-c", "\n".join(lines)],
        cwd=tmp_path,
        env=surroundings,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    page = tmp_path / "ric" / "demo" / "report" / "index.html"
    assert page.is_file()
    assert page.relative_to(tmp_path / "ric").as_posix() in (ROOT / "README.md").read_text()
    assert ran.stdout.splitlines()[-1].startswith("ric ")
