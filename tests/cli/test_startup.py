"""`ric --help` is quick because it imports nothing heavy; benchmarks/startup.py has the times."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = (
    "torch", "transformers", "diffusers", "numpy", "PIL", "datasets", "huggingface_hub", "yaml",
    "rich.progress", "ric.runs.run", "ric.weights", "ric.runs.provenance", "ric.data",
)  # fmt: skip
SCRIPT = """
import json, sys
sys.argv = ["ric", *sys.argv[1:]]
from ric_cli.main import main
try:
    main()
except SystemExit as left:
    print(json.dumps([left.code, sorted(sys.modules)]))
"""


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--help"], 0),
        (["train-unet", "--help"], 0),
        (["fit-clip"], 2),
        (["edit", "x", "--steps", "ten"], 2),
        (["no-such-command"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_help_and_usage_errors_import_nothing_heavy(words, code):
    done = subprocess.run([sys.executable, "-c", SCRIPT, *words], capture_output=True, text=True)
    left, modules = json.loads(done.stdout.splitlines()[-1])
    assert left == code
    assert [name for name in HEAVY if name in modules] == []


def test_help_imports_no_command():
    done = subprocess.run([sys.executable, "-c", SCRIPT, "--help"], capture_output=True, text=True)
    _, modules = json.loads(done.stdout.splitlines()[-1])
    ours = {name for name in modules if name.startswith(("ric.", "ric_cli."))}
    assert ours == {
        "ric.addresses", "ric.errors", "ric.interrupt", "ric.launcher", "ric.plain_line",
        "ric.progress",
        "ric_cli.commands", "ric_cli.console", "ric_cli.main", "ric_cli.surroundings",
    }  # fmt: skip


@pytest.mark.parametrize("words", [["runs", "ls"], ["weights", "ls"], ["describe", "nowhere"]])
def test_what_needs_no_network_of_ours_imports_no_torch(words, tmp_path):
    command = [sys.executable, "-c", SCRIPT, *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    _, modules = json.loads(done.stdout.splitlines()[-1])
    assert [name for name in ("torch", "transformers", "diffusers") if name in modules] == []
