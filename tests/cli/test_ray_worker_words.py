"""What a process on Ray has said reaches the command, whatever its bytes are."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ric_cli.ray_workers import _process


def test_a_worker_may_say_what_is_not_utf8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "child").write_text("#!/bin/sh\nprintf 'bad\\377.png' >&2\nexit 3\n")
    (tmp_path / "child").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "child"))
    assert _process([], str(tmp_path)) == (3, "bad\ufffd.png")
