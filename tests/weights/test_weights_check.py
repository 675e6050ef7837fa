"""Broken files are found without loading them."""

from __future__ import annotations

import json
from pathlib import Path

from ric.weights import check_weights


def problem_of(tmp_path: Path, content: bytes) -> list[str]:
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    return [line.removeprefix(f"{file}: ") for line in check_weights(file)]


def test_a_file_that_safetensors_itself_wrote_is_whole(tmp_path):
    import torch
    from safetensors.torch import save_file

    tensors = {"a": torch.ones(3, 2), "b": torch.zeros(5, dtype=torch.bfloat16), "c": torch.ones(0)}
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert check_weights(tmp_path) == []


def test_broken_safetensors_are_named_with_what_is_wrong(tmp_path, safetensors_bytes):
    whole = safetensors_bytes()
    assert problem_of(tmp_path, whole) == []
    assert problem_of(tmp_path, whole[:-3]) == [
        f"truncated: {len(whole) - 3} of {len(whole)} bytes"
    ]
    assert problem_of(tmp_path, whole[:20]) == ["truncated: its header is incomplete (20 bytes)"]
    assert problem_of(tmp_path, b"") == ["truncated: its header is incomplete (0 bytes)"]
    assert problem_of(tmp_path, whole + b"!") == ["1 bytes too long"]
    assert problem_of(tmp_path, (2).to_bytes(8, "little") + b"[]") == [
        "its header is not that of a safetensors file"
    ]
    assert problem_of(tmp_path, safetensors_bytes(shape=(3,))) == [
        "the size of tensor w does not match its shape"
    ]


def test_a_hole_between_tensors_is_found(tmp_path):
    header = {"w": {"dtype": "U8", "shape": [2], "data_offsets": [1, 3]}}
    text = json.dumps(header).encode()
    content = len(text).to_bytes(8, "little") + text + bytes(3)
    assert problem_of(tmp_path, content) == ["tensor w does not begin where the one before it ends"]


def test_an_index_that_cannot_be_read_is_a_problem(tmp_path, model_folder):
    model_folder(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{")
    assert "not a readable index of shards" in check_weights(tmp_path)[0]


def test_an_empty_or_missing_folder_is_a_problem(tmp_path):
    assert check_weights(tmp_path) == [f"{tmp_path}: holds no safetensors"]
    assert check_weights(tmp_path / "gone") == [f"{tmp_path / 'gone'}: does not exist"]


def test_a_file_is_checked_against_the_hash_in_its_name(tmp_path):
    file = tmp_path / "net-01234567.pth"
    file.write_bytes(b"hello")
    assert check_weights(file) == [
        f"{file}: its SHA-256 begins with 2cf24dba, its name says 01234567"
    ]
    plain = tmp_path / "net.pth"
    plain.write_bytes(b"hello")
    assert "its name holds no hash to check it against" in check_weights(plain)[0]
