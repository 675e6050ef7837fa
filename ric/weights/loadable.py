"""Tell whether a path can be loaded: a model's folder, a pipeline's, or one file.

Only safetensors are loaded: a pickle can run any code. The only exceptions are the table's own .pth
files, which the packages that publish them read with weights_only.
"""

from __future__ import annotations

from pathlib import Path

from ric.errors import RicError
from ric.model_files import (
    PICKLE_SUFFIXES,
    has_weights,
    is_variant,
    pickles_beside,
    read_json,
    require_whole,
    without_weights,
)
from ric.weights.stand_ins import refuse_stand_ins
from ric.weights.table import find_weight

# The safety checker is 1.2 GB that no recipe loads; fp16 and non-EMA copies are the model again.
NEVER_LOADED = ("safety_checker/*", "*.fp16.*", "*non_ema*")
# Parts of a pipeline that hold no weights, by the ends of their classes' names.
WEIGHTLESS_PARTS = (
    "Scheduler", "Tokenizer", "TokenizerFast",
    "Processor", "ProcessorFast", "ProcessorPil", "Extractor",
)  # fmt: skip


def accept(path: Path, kind: str = "") -> Path:
    """Return a path that can be loaded, or refuse it with the reason.

    Args:
        path: A folder or a file.
        kind: What a folder must hold: a row of `model_files.PARTS`; "" looks for weights alone.

    Raises:
        RicError: It holds pickles, git-lfs pointers or another trainer's checkpoint, or a part of
            the model is missing.
    """
    refuse_stand_ins(path)
    if kind and path.is_dir():
        require_whole(path, kind)
    if is_loadable(path):
        return path
    if path.is_dir():
        raise without_weights(path, _folders_without_weights(path))
    raise RicError(
        f"{path} holds its weights as a pickle, which could run any code when it is loaded.",
        f"Keep its tensors alone: ric weights convert {path} NEW_FILE.safetensors",
    )


def is_loadable(path: Path) -> bool:
    """Tell whether a folder's models all have safetensors, or a file is no unknown pickle."""
    if path.is_dir():
        return not _folders_without_weights(path)
    known = find_weight(path.name) is not None
    return path.exists() and (known or not _is_pickle(path))


def is_convertible(path: Path, *, pickles: bool = True) -> bool:
    """Tell whether every model in a folder that lacks safetensors has files to make them from.

    Args:
        path: The folder.
        pickles: Whether pickles count, or only half-precision copies.
    """
    lacking = set(_folders_without_weights(path))
    found = {file.parent for file in replacements(path) if pickles or not _is_pickle(file)}
    return bool(lacking) and lacking <= found


def replacements(path: Path) -> dict[Path, str]:
    """Map each file to convert, where safetensors are missing, to the name of the result.

    Half-precision copies take precedence over pickles: they are copied without being read.
    """
    names: dict[Path, str] = {}
    for folder in _folders_without_weights(path):
        halves = sorted(folder.glob("*.fp16.safetensors"))
        names |= {file: file.name.replace(".fp16", "") for file in halves}
        if not halves:
            pickles = pickles_beside(folder)
            plain = [file for file in pickles if not is_variant(file.name)] or pickles
            names |= {file: safetensors_name(file.name.replace(".fp16", "")) for file in plain}
    return names


def _is_pickle(file: Path) -> bool:
    return file.suffix in PICKLE_SUFFIXES


def safetensors_name(pickle_name: str) -> str:
    """Return the name that the libraries look for in a pickle's place."""
    stem = pickle_name.rpartition(".")[0]
    return ("model" if stem == "pytorch_model" else stem) + ".safetensors"


def _folders_without_weights(path: Path) -> list[Path]:
    return [folder for folder in _model_folders(path) if not has_weights(folder)]


def _model_folders(path: Path) -> list[Path]:
    """List the folders that must hold weights: a pipeline's models, or the folder itself."""
    index = path / "model_index.json"
    if not index.is_file():
        return [path]
    try:
        parts = read_json(index)
    except RicError:
        return [path]
    # a part is [library, class], and [null, null] where the pipeline goes without it
    return [
        path / part
        for part, value in parts.items()
        if isinstance(value, list)
        and value
        and isinstance(value[-1], str)
        and part != "safety_checker"
        and not value[-1].endswith(WEIGHTLESS_PARTS)
    ]
