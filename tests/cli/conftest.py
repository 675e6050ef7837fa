"""`ric` as a user starts it, and a small data set for it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

from ric_cli.main import main


class Said(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def ric(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Said]:
    """Run `ric WORD …` in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    for name in ("RIC_DEBUG", "RIC_RUNS_DIR"):
        monkeypatch.delenv(name, raising=False)

    def run(*words: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["ric", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        code = left.value.code
        return Said(code if isinstance(code, int) else 0, *capsys.readouterr())

    return run


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three samples; the second has no paragraph, so that describing it fails."""
    folder = tmp_path / "my edits"
    folder.mkdir()
    rows = []
    for number in range(3):
        Image.new("RGB", (64, 48), (80 * number, 0, 0)).save(folder / f"{number}.png")
        row = {"id": f"{number}", "source_file_name": f"{number}.png", "instruction": "make it red"}
        row |= {"target_file_name": f"{number}.png"}
        rows.append(row if number == 1 else row | {"scene_text": f"scene {number}"})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder
