"""Broken files found without loading them: headers against sizes, names against hashes."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

from ric.lfs_pointer import NO_CONTENT, is_lfs_pointer
from ric.weights.loadable import shards_of

DTYPE_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "I16": 2, "U16": 2, "F16": 2,
    "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8, "C64": 8,
}  # fmt: skip


def check_weights(path: Path) -> list[str]:
    """Look for broken files without loading them.

    Args:
        path: A folder (all below it is checked), a safetensors file, or a file whose name ends in
            eight digits of its SHA-256, as torch's do.

    Returns:
        One line per problem; empty when everything is whole.
    """
    if path.is_file():
        problem = _problem_of(path)
        return [f"{path}: {problem}"] if problem else []
    if not path.is_dir():
        return [f"{path}: does not exist"]
    files = sorted(path.rglob("*.safetensors"))
    problems = [f"{file}: {problem}" for file in files if (problem := _problem_of(file))]
    for index in sorted(path.rglob("*.safetensors.index.json")):
        shards = shards_of(index)
        if shards is None:
            problems.append(f"{index}: no index of shards can be read from it")
        missing = sorted(name for name in shards or () if not (index.parent / name).exists())
        problems += [f"{index.parent / name}: is missing" for name in missing]
    if not files and not problems:
        problems.append(f"{path}: holds no safetensors")
    return problems


def wrong_hash(file: Path, published_name: str) -> str | None:
    """Compare a file with the eight digits of SHA-256 that end its published name.

    Returns:
        What is wrong, or None.
    """
    import hashlib  # 5 ms, most of them OpenSSL's

    match = re.search(r"-([0-9a-f]{8})\.\w+$", published_name)
    if match is None:
        return "no safetensors file, and its name holds no hash to check it against"
    with open(file, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest.startswith(match[1]):
        return None
    return f"its SHA-256 begins with {digest[:8]}, its name says {match[1]}"


def _problem_of(file: Path) -> str | None:
    if is_lfs_pointer(file):
        return NO_CONTENT
    if file.suffix != ".safetensors":
        return wrong_hash(file, file.name)
    try:
        return _layout_problem(file)
    except OSError as error:
        return error.strerror or str(error)
    except (ValueError, KeyError, TypeError, AttributeError):
        return "its header is not that of a safetensors file"


def _layout_problem(file: Path) -> str | None:
    """Read a safetensors header: 8 bytes of length, JSON, then offsets that fill the file."""
    size = file.stat().st_size
    with open(file, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > size - 8:
            return f"truncated: its header is not all there ({size} bytes)"
        header = json.loads(stream.read(length))
    header.pop("__metadata__", None)
    position = 0
    for name, tensor in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        start, end = tensor["data_offsets"]
        width = DTYPE_BYTES.get(tensor["dtype"])
        if width is not None and math.prod(tensor["shape"]) * width != end - start:
            return f"the tensor {name} has another size than its shape says"
        if start != position:
            return f"the tensor {name} does not begin where the one before it ends"
        position = end
    expected = 8 + length + position
    if size < expected:
        return f"truncated: {size} of {expected} bytes"
    return f"{size - expected} bytes too long" if size > expected else None
