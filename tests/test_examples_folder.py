"""The examples run as they stand."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ball_photos import ball_rows
from PIL import Image

from ric.config import FitClipConfig, as_dict
from ric.data.sample import load_samples
from ric.recipes.fit_clip import fit_clip
from ric.runs.open_run import open_run
from ric.settings import resolve_config
from ric_cli.main import main

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def balls(tmp_path_factory) -> Path:
    """Balls on photographs."""
    from ric.data.folder import write_folder

    folder = tmp_path_factory.mktemp("examples") / "data"
    write_folder(folder, ball_rows(folder))
    return folder


def test_from_python_judges_every_sample_between_minus_one_and_one(balls, tmp_path, tiny_family):
    few = {"fusion_epochs": 1, "joint_epochs": 0, "limit": 4}
    config = resolve_config(FitClipConfig, {"data": str(balls), "preset": "tiny", **few})
    with open_run("fit-clip", as_dict(config), runs_dir=tmp_path) as run:
        fit_clip(config, run)
    spec = importlib.util.spec_from_file_location("from_python", EXAMPLES / "from_python.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    scores = example.judge(str(balls), str(run.path))
    assert len(scores) == 24
    assert len({round(score, 4) for _, score in scores}) > 12
    assert all(-1 <= score <= 1 for _, score in scores)


def test_an_editor_of_twenty_lines_edits_and_is_scored(tmp_path, monkeypatch, tiny_family):
    file = EXAMPLES / "add_an_editor.py"
    assert len(file.read_text().splitlines()) <= 20
    few = ("--preset", "tiny", "--limit", "4", "--quiet")
    edited, scored = tmp_path / "edit", tmp_path / "eval"

    def ric(*words: str) -> None:
        monkeypatch.setattr(sys, "argv", ["ric", *words])
        with pytest.raises(SystemExit) as left:
            main()
        assert not left.value.code

    ric("edit", "scenes:80#5", "--editor", f"{file}:Night", *few, "--run", str(edited))
    rows = [json.loads(line) for line in (edited / "edits.jsonl").read_text().splitlines()]
    assert [row["brightness"] for row in rows] == [0.4] * 4
    for sample, row in zip(load_samples("scenes:80#5").narrowed("test"), rows, strict=False):
        source = np.asarray(sample.load_source(), dtype=float)
        made = np.asarray(Image.open(edited / row["file_name"]), dtype=float)
        wanted = 0.8 * (0.4 * source) + 0.2 * np.array([0, 0, 128])
        assert np.abs(made - wanted).max() <= 2  # both operations round
    data = ("--data", "scenes:80#5", "--metrics", "l1,psnr_outside")
    ric("eval", f"Night={edited}", *data, *few, "--run", str(scored))
    told = json.loads((scored / "scores.json").read_text())
    assert told["editors"][0]["label"] == "Night"


SCRIPTS = sorted([*EXAMPLES.glob("*.sh"), *EXAMPLES.glob("slurm/*.sbatch")])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_shell_example_parses_and_uses_commands_and_options_that_exist(script):
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    from ric_cli.commands import load_command

    text = script.read_text().replace("\\\n", " ")
    for line in text.splitlines():
        words = shlex.split(line.removeprefix("exec "), comments=True)
        if words[:1] != ["ric"]:
            continue
        command = load_command(words[1])
        command = getattr(command, "commands", {}).get(words[2], command)  # ric tiny vae
        known = {name for item in command.params for name in item.opts}
        typed = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert typed <= known | {f"--no-{name[2:]}" for name in known}, line


@pytest.mark.slow
def test_the_tiny_chain_runs_on_the_demos_data(balls, tmp_path):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # where `ric` is installed
    run = subprocess.run(
        [EXAMPLES / "tiny_cpu.sh", balls],
        cwd=tmp_path,
        env=os.environ | {"PATH": path},
        check=False,
    )
    assert run.returncode == 0
    assert (tmp_path / "runs/00006-eval/table.md").is_file()
