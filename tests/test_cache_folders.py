"""Where caches lie."""

from __future__ import annotations

from pathlib import Path

from ric.cache_folders import cache_folder, user_cache


def test_caches_lie_where_the_environment_says_or_below_the_home(monkeypatch, tmp_path):
    for name in ("RIC_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache/ric"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg/ric"
    monkeypatch.setenv("RIC_CACHE_DIR", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


def test_a_user_without_a_home_has_a_cache_all_the_same(monkeypatch, tmp_path):
    def homeless(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", homeless)
    monkeypatch.chdir(tmp_path)
    assert user_cache() == tmp_path / ".cache"
