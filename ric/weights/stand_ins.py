"""Files that look like weights but cannot be loaded: git-lfs pointers, trainers' checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ric.errors import RicError
from ric.lfs_pointer import NO_CONTENT, is_lfs_pointer
from ric.model_files import PICKLE_SUFFIXES, of_another_trainer

if TYPE_CHECKING:
    from pathlib import Path


def refuse_stand_ins(path: Path) -> None:
    """Refuse a path that holds a stand-in for weights.

    Raises:
        RicError: A file of weights is a git-lfs pointer, or the folder is the checkpoint of another
            trainer, not a model or pipeline.
    """
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    weights = (file for file in files if file.suffix in (".safetensors", *PICKLE_SUFFIXES))
    if pointer := next(filter(is_lfs_pointer, weights), None):
        raise RicError(f"{pointer} {NO_CONTENT}.")
    if path.is_dir() and (error := of_another_trainer(path)):
        raise error
