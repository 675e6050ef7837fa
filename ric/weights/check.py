"""Find broken files without loading them: headers against sizes, names against hashes."""

from __future__ import annotations

import re
from pathlib import Path

from ric.lfs_pointer import NO_CONTENT, is_lfs_pointer
from ric.model_files import read_header, shards_of


def check_weights(path: Path) -> list[str]:
    """Look for broken files without loading them.

    Args:
        path: A folder (all below it is checked), a safetensors file, or a file whose name ends in
            eight digits of its SHA-256, as torch's do.

    Returns:
        One line per problem; empty when every file is intact.
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
            problems.append(f"{index}: not a readable index of shards")
        missing = sorted(name for name in shards or () if not (index.parent / name).exists())
        problems += [f"{index.parent / name}: is missing" for name in missing]
    if not files and not problems:
        problems.append(f"{path}: holds no safetensors")
    return problems


def wrong_hash(file: Path, published_name: str) -> str | None:
    """Compare a file with the eight digits of its SHA-256 that end its published name.

    Returns:
        What is wrong, or None.
    """
    import hashlib  # 5 ms, most of them OpenSSL's

    match = re.search(r"-([0-9a-f]{8})\.\w+$", published_name)
    if match is None:
        return "not a safetensors file, and its name holds no hash to check it against"
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
        read_header(file)
    except OSError as error:
        return error.strerror or str(error)
    except ValueError as error:
        return str(error)
    return None
