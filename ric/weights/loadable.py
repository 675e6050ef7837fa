"""Whether a path can be loaded: a model's folder, a pipeline's, or one file.

Only safetensors are loaded: a pickle can run any code. The one exception are the table's own .pth
files, which the packages that publish them read with weights_only.
"""

from __future__ import annotations

import json
from fnmatch import fnmatch
from pathlib import Path

from ric.errors import RicError
from ric.weights.stand_ins import refuse_stand_ins
from ric.weights.table import find_weight

PICKLE_SUFFIXES = (".bin", ".ckpt", ".pt", ".pth")
# The safety checker is 1.2 GB that no recipe loads; fp16 and non-EMA copies are the model again.
NEVER_LOADED = ("safety_checker/*", "*.fp16.*", "*non_ema*")
# Parts of a pipeline that hold no weights, by the ends of their classes' names.
WEIGHTLESS_PARTS = (
    "Scheduler", "Tokenizer", "TokenizerFast",
    "Processor", "ProcessorFast", "ProcessorPil", "Extractor",
)  # fmt: skip


def accept(path: Path) -> Path:
    """Hand a path on, or say why it cannot be loaded.

    Raises:
        RicError: It holds pickles, git-lfs pointers or another trainer's checkpoint, or a part of
            the model is missing.
    """
    refuse_stand_ins(path)
    if is_loadable(path):
        return path
    pickles = pickles_in(path)
    if pickles:
        target = pickles[0].with_name(safetensors_name(pickles[0].name))
        raise RicError(
            f"{path} holds its weights as a pickle ({pickles[0].name}), which could run any code "
            "when it is loaded.",
            f"Keep its tensors alone: ric weights convert {pickles[0]} {target}",
        )
    missing = ", ".join(str(folder) for folder in _folders_without_weights(path))
    raise RicError(
        f"{path} is incomplete: no whole safetensors in {missing}.",
        "Copy or download it again; ric weights check names broken files.",
    )


def is_loadable(path: Path) -> bool:
    """Whether this is a folder whose every model has whole safetensors, or no unknown pickle."""
    if path.is_dir():
        return not _folders_without_weights(path)
    known = find_weight(path.name) is not None
    return path.exists() and (known or path.suffix not in PICKLE_SUFFIXES)


def is_pickled(path: Path) -> bool:
    """Whether every model in a folder that lacks safetensors has a pickle to make them from."""
    lacking = set(_folders_without_weights(path))
    return bool(lacking) and lacking <= {file.parent for file in pickles_in(path)}


def pickles_in(path: Path) -> list[Path]:
    """List the pickles that stand where safetensors should."""
    if path.is_file():
        return [path] if path.suffix in PICKLE_SUFFIXES else []
    return [
        file
        for folder in _folders_without_weights(path)
        for file in sorted(folder.glob("*"))
        if file.suffix in PICKLE_SUFFIXES and file.name != "training_args.bin"
    ]


def safetensors_name(pickle_name: str) -> str:
    """Give the name that the libraries look for in a pickle's place."""
    stem = pickle_name.rpartition(".")[0]
    return ("model" if stem == "pytorch_model" else stem) + ".safetensors"


def shards_of(index: Path) -> set[str] | None:
    """Read the files that a sharded model's index names; None when it cannot be read."""
    try:
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _folders_without_weights(path: Path) -> list[Path]:
    return [folder for folder in _model_folders(path) if not _has_safetensors(folder)]


def _model_folders(path: Path) -> list[Path]:
    """The folders that must hold weights: the models of a pipeline, or the folder itself."""
    index = path / "model_index.json"
    if not index.is_file():
        return [path]
    try:
        parts = json.loads(index.read_text(encoding="utf-8"))
    except ValueError:
        return [path]
    # a part is [library, class], and [null, null] where the pipeline goes without it
    return [
        path / part
        for part, value in parts.items()
        if isinstance(value, list)
        and isinstance(value[-1], str)
        and part != "safety_checker"
        and not value[-1].endswith(WEIGHTLESS_PARTS)
    ]


def _has_safetensors(folder: Path) -> bool:
    for index in folder.glob("*.safetensors.index.json"):
        shards = shards_of(index)
        if not shards or not all((folder / shard).exists() for shard in shards):
            return False
    return any(
        file.exists() and not any(fnmatch(file.name, pattern) for pattern in NEVER_LOADED)
        for file in folder.glob("*.safetensors")
    )
