"""Checkpoints that are whole or absent: safetensors and one JSON, written aside, synced, renamed.

`step-000500/` holds a `<name>.safetensors` per group of tensors (model, moments, average) and
`state.json`, which is written last and lists every file's size: the folder counts only when all
are there at that size. There is no random state to save: every draw is a function of seed, step
and sample. accelerate's save_state is not used, since it writes pickles.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ric.errors import RicError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Tensors = dict[str, torch.Tensor]


def save_checkpoint(
    folder: Path,
    step: int,
    groups: Mapping[str, Tensors],
    state: Mapping[str, Any],
    *,
    keep: int,
) -> Path:
    """Write `folder/step-<step>`, then delete all but the last `keep` complete ones.

    Args:
        folder: The run's `checkpoints` folder.
        step: Steps done.
        groups: File name (without ending) to tensors; any memory format.
        state: JSON-ready facts; `step` and `threads` are added.
        keep: How many complete checkpoints stay, at least 1.

    Raises:
        RicError: the disk is full or the folder cannot be written; earlier checkpoints are
            untouched and nothing half-written stays.
    """
    path = folder / f"step-{step:06d}"
    aside = folder / f".step-{step:06d}.{os.getpid()}"
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        for name, tensors in groups.items():
            # safetensors refuses channels_last; the format is put back on loading
            save_file(
                {key: tensor.detach().contiguous() for key, tensor in tensors.items()},
                aside / f"{name}.safetensors",
            )
        sizes = {file.name: file.stat().st_size for file in sorted(aside.iterdir())}
        for file in aside.iterdir():
            _sync(file)
        facts = {**state, "step": step, "threads": torch.get_num_threads(), "files": sizes}
        (aside / "state.json").write_text(json.dumps(facts, indent=2) + "\n")
        _sync(aside / "state.json")
        _sync(aside)
        if path.exists():
            # deleting takes long, and a kill in the midst of it would leave neither
            replaced = folder / f".step-{step:06d}.{os.getpid()}.replaced"
            path.rename(replaced)
            aside.rename(path)
            shutil.rmtree(replaced)
        else:
            aside.rename(path)
        _sync(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
        raise RicError(
            f"Cannot write the checkpoint of step {step} in {folder}: "
            f"{'the disk is full' if full else error}.",
            "The last complete checkpoint is untouched; free some space and repeat the command.",
        ) from None
    for old in complete_checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return path


def complete_checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints under `folder` that are whole, by the step they hold."""
    found = []
    for state_file in folder.glob("*/state.json"):
        # a dot means: not renamed yet
        if state_file.parent.name.startswith("."):
            continue
        try:
            state = json.loads(state_file.read_text())
            whole = all(
                (state_file.parent / name).stat().st_size == size
                for name, size in state["files"].items()
            )
            step = int(state["step"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        if whole:
            found.append((step, state_file.parent))
    return [path for _, path in sorted(found)]


def load_checkpoint(path: Path) -> tuple[dict[str, Tensors], dict[str, Any]]:
    """Read a complete checkpoint: its groups of tensors (on the CPU) and its state."""
    state = json.loads((path / "state.json").read_text())
    groups = {file.stem: load_file(file) for file in sorted(path.glob("*.safetensors"))}
    return groups, state


def clear_unfinished(folder: Path) -> None:
    """Delete what a killed process left half-written."""
    for path in folder.glob(".step-*"):
        shutil.rmtree(path, ignore_errors=True)


def optimizer_tensors(
    named: Iterable[tuple[str, torch.nn.Parameter]], optimizer: torch.optim.Optimizer
) -> Tensors:
    """Collect AdamW's moments and step counts by parameter name."""
    tensors = {}
    for name, parameter in named:
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{name}:{key}"] = value
    return tensors


def restore_optimizer(
    named: Iterable[tuple[str, torch.nn.Parameter]],
    optimizer: torch.optim.Optimizer,
    tensors: Tensors,
) -> None:
    """Put moments back, each in its parameter's own memory format.

    The fused kernel takes moments of another layout without a word and then updates the wrong
    elements; `empty_like(parameter).copy_` keeps channels_last where the parameter has it.
    """
    states: dict[str, Tensors] = {}
    for key, value in tensors.items():
        name, _, entry = key.rpartition(":")
        states.setdefault(name, {})[entry] = value
    for name, parameter in named:
        if name in states:
            optimizer.state[parameter] = {
                entry: torch.empty_like(parameter).copy_(value)
                if entry != "step"
                else value.to(parameter.device, copy=True)
                for entry, value in states[name].items()
            }


def restore_tensors(into: Mapping[str, torch.Tensor], tensors: Tensors) -> None:
    """Copy tensors into those of the same names, keeping their memory format and device.

    Raises:
        RicError: the names or the shapes differ.
    """
    if {name: tensor.shape for name, tensor in into.items()} != {
        name: tensor.shape for name, tensor in tensors.items()
    }:
        raise RicError("The checkpoint belongs to a model with other parameters.")
    with torch.no_grad():
        for name, tensor in into.items():
            tensor.copy_(tensors[name])


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
