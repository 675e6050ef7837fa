"""What looks like weights and cannot be loaded: git-lfs pointers, trainers' checkpoints."""

from __future__ import annotations

from fnmatch import fnmatch
from typing import TYPE_CHECKING

from ric.errors import RicError
from ric.lfs_pointer import NO_CONTENT, is_lfs_pointer

if TYPE_CHECKING:
    from pathlib import Path

# What accelerate, transformers' Trainer and DeepSpeed leave beside the weights of a training.
_OF_TRAINERS = (
    "optimizer.*", "scheduler.bin", "scheduler.pt", "random_states_*.pkl", "rng_state*.pth",
    "scaler.pt", "trainer_state.json", "custom_checkpoint_*.pkl", "zero_to_fp32.py", "global_step*",
)  # fmt: skip
_WEIGHTS = (".safetensors", ".bin", ".ckpt", ".pt", ".pth")
_PIPELINE = ("model_index.json", "vae", "text_encoder", "tokenizer", "scheduler", "unet")


def refuse_stand_ins(path: Path) -> None:
    """Stop where a path holds something in place of weights that can be loaded.

    Raises:
        RicError: A file of weights is a git-lfs pointer, or the folder is the checkpoint of another
            trainer and no model or pipeline.
    """
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    weights = (file for file in files if file.suffix in _WEIGHTS)
    pointer = next(filter(is_lfs_pointer, weights), None)
    if pointer:
        raise RicError(f"{pointer} {NO_CONTENT}.")
    whole = ("model_index.json", "config.json")  # of a pipeline, of a model
    if not path.is_dir() or any((path / name).exists() for name in whole):
        return
    names = sorted(entry.name for entry in path.iterdir())
    signs = [name for name in names if any(fnmatch(name, sign) for sign in _OF_TRAINERS)]
    if signs:
        raise _of_another_trainer(path, names, signs)


def _of_another_trainer(path: Path, names: list[str], signs: list[str]) -> RicError:
    about = f"{path} is the checkpoint of another trainer ({', '.join(signs[:3])})"
    if "unet" in names:
        lacking = ", ".join(part for part in _PIPELINE if part not in names)
        return RicError(
            f"{about} and no pipeline: it lacks {lacking}.",
            "Copy the pipeline that was trained, put this folder's unet in place of its own, and"
            " name the copy.",
        )
    return RicError(
        f"{about} and no model: it lacks config.json.",
        "Write the model with its trainer's save_pretrained, and name that folder.",
    )
