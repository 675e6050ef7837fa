"""Fixtures every test shares: the tiny family, built once a session in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from ric.tiny_family import build_tiny_family


@pytest.fixture(scope="session")
def tiny_family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_family(tmp_path_factory.mktemp("tiny-family"))
