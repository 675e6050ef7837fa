"""Weights are known by their bytes: each file is read once, and compared with what is published."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ric.weights import digest, find_weight, is_published, weights_digest

DINO = "facebook/dino-vits16"  # whose commit is pinned


def weigh(file: Path, content: bytes = b"weights") -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIC_CACHE_DIR", str(tmp_path / "ric-cache"))


def test_a_file_is_read_once_until_it_changes_in_place(tmp_path, monkeypatch):
    file, read = tmp_path / "a.safetensors", []
    first = weigh(file)
    assert weights_digest(file) == weights_digest(tmp_path) == first
    real = hashlib.file_digest

    def counted(*given):
        read.append(given)
        return real(*given)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    assert weights_digest(file) == first
    assert read == []
    second = weigh(file, b"strange")
    assert weights_digest(file) == second != first
    assert len(read) == 1


def test_several_files_have_the_digest_of_sha256sum_s_lines(tmp_path):
    one, two = (
        weigh(tmp_path / name, name.encode()) for name in ("1.safetensors", "2.safetensors")
    )
    lines = f"{one}  1.safetensors\n{two}  2.safetensors\n"
    assert weights_digest(tmp_path) == hashlib.sha256(lines.encode()).hexdigest()


def test_a_damaged_cache_is_no_digest(tmp_path):
    file = tmp_path / "a.safetensors"
    first = weigh(file)
    assert weights_digest(file) == first
    (kept,) = (tmp_path / "ric-cache" / "digests").iterdir()
    kept.write_text("no JSON")
    assert digest.file_digest(file) == first
    assert json.loads(kept.read_text())["sha256"] == first


def test_a_file_is_the_published_one_by_the_digits_in_its_name(tmp_path):
    weight = find_weight("lpips-alex")
    file = tmp_path / weight.file_name
    known = weigh(file)
    assert not is_published(weight, file)
    assert is_published(replace(weight, revision=known[:8]), file)


def snapshot(cache: Path, commit: str) -> Path:
    """Lay weights down as the hub's client does: a link to a blob of their digest's name."""
    repository = cache / "hub/models--facebook--dino-vits16"
    name = weigh(cache / "new")
    (repository / "blobs").mkdir(parents=True)
    (cache / "new").rename(repository / "blobs" / name)
    folder = repository / "snapshots" / commit
    folder.mkdir(parents=True)
    (folder / "model.safetensors").symlink_to(repository / "blobs" / name)
    return folder


def test_a_snapshot_is_published_at_its_pinned_commit_with_its_blobs_bytes(tmp_path):
    weight = find_weight(DINO)
    folder = snapshot(tmp_path, weight.revision)
    assert is_published(weight, folder)
    (folder / "model.safetensors").resolve().write_bytes(b"tuned")
    assert not is_published(weight, folder)
    assert not is_published(weight, snapshot(tmp_path / "other", "a" * 40))


def test_a_folder_that_the_hub_filled_is_published_and_a_bare_copy_is_not_known_to_be(tmp_path):
    weight = find_weight(DINO)
    folder = tmp_path / "facebook--dino-vits16"
    known = weigh(folder / "model.safetensors")
    assert not is_published(weight, folder)
    told = folder / ".cache/huggingface/download/model.safetensors.metadata"
    told.parent.mkdir(parents=True)
    told.write_text(f"{weight.revision}\n{known}\n1700000000.0\n")
    assert is_published(weight, folder)
    weigh(folder / "model.safetensors", b"tuned")
    assert not is_published(weight, folder)


def test_what_was_converted_here_counts_by_its_commit(tmp_path):
    weight = find_weight(DINO)
    folder = tmp_path / "ric-cache/weights/facebook--dino-vits16"
    weigh(folder / "model.safetensors")
    for commit, published in ((weight.revision, True), ("a" * 40, False)):
        (folder / "converted.json").write_text(json.dumps({"id": DINO, "revision": commit}))
        assert is_published(weight, folder) is published
    shutil.copytree(folder, tmp_path / "copy")
    assert not is_published(weight, tmp_path / "copy")
