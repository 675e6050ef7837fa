"""Checkpoints that are whole or absent: safetensors and one JSON, written aside, synced, renamed.

`step-000500/` holds a `<name>.safetensors` per group of tensors (model, moments, average) and
`state.json`, which is written last and lists every file's size and SHA-256. A checkpoint counts
only if all files are there at that size, and training resumes from it only if all digests match (a
disk or a copy may have changed a byte). There is no random state to save: every draw is a function
of seed, step and sample. accelerate's save_state is not used, since it writes pickles.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file

from ric.errors import RicError
from ric.model_files import read_header
from ric.progress import Silent
from ric.weights import size_in_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ric.progress import Progress
    from ric.runs.run import RunDir

Tensors = dict[str, torch.Tensor]
# what reading a state of any shape may raise
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError,
              RecursionError)  # fmt: skip
MOST = 2**31  # steps or threads
# the types in a checkpoint: weights and moments, 8-bit moments, step counts
SAFETENSORS_NAMES = {
    torch.float32: "F32", torch.float64: "F64", torch.bfloat16: "BF16", torch.float16: "F16",
    torch.int64: "I64", torch.int32: "I32", torch.uint8: "U8", torch.int8: "I8",
}  # fmt: skip


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
        RicError: the disk has too little room, or the folder cannot be written; earlier
            checkpoints are untouched and nothing half-written stays.
    """
    path = folder / f"step-{step:06d}"
    aside = folder / f".step-{step:06d}.{os.getpid()}"
    _refuse_small_disk(folder, step, groups)
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        digests = {
            f"{name}.safetensors": write_tensors(tensors, aside / f"{name}.safetensors")
            for name, tensors in groups.items()
        }
        sizes = {file.name: file.stat().st_size for file in sorted(aside.iterdir())}
        for file in aside.iterdir():
            _sync(file)
        facts = {**state, "step": step, "threads": torch.get_num_threads(), "files": sizes}
        facts = _signed({**facts, "sha256": digests})
        (aside / "state.json").write_text(json.dumps(facts, indent=2) + "\n")
        _sync(aside / "state.json")
        _sync(aside)
        if path.exists():
            # deleting takes long, and a kill in the middle of it would leave neither
            replaced = folder / f".step-{step:06d}.{os.getpid()}.replaced"
            path.rename(replaced)
            aside.rename(path)
            shutil.rmtree(replaced)
        else:
            aside.rename(path)
        _sync(folder)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        full = error.errno == errno.ENOSPC
        raise RicError(
            f"Cannot write the checkpoint of step {step} in {folder}: "
            f"{'the disk is full' if full else error}.",
            "The last complete checkpoint is untouched; free some space and repeat the command.",
        ) from None
    for old in complete_checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return path


def write_tensors(tensors: Tensors, file: Path) -> str:
    """Write a safetensors file, holding one tensor's copy at a time.

    The library's own writer needs all of them at once, contiguous and on the CPU: a second copy of
    every channels_last convolution, and of everything on a GPU. The memory format is restored on
    loading.

    Returns:
        The SHA-256 of the bytes handed to the file.
    """
    # wide types first, so each tensor begins at a multiple of its own width
    ordered = sorted(tensors.items(), key=lambda item: -item[1].element_size())
    header: dict[str, Any] = {}
    end = 0
    for name, tensor in ordered:
        begin, end = end, end + tensor.nbytes
        dtype = SAFETENSORS_NAMES[tensor.dtype]
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with open(file, "wb") as stream:

        def write(content: bytes | memoryview) -> None:
            digest.update(content)
            stream.write(content)

        write(len(text).to_bytes(8, "little") + text)
        for _, tensor in ordered:
            plain = tensor.detach().cpu().contiguous()
            write(plain.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _refuse_small_disk(folder: Path, step: int, groups: Mapping[str, Tensors]) -> None:
    """Refuse to start writing what will not fit (raises RicError)."""
    needed = sum(tensor.nbytes for tensors in groups.values() for tensor in tensors.values())
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise RicError(
            f"The checkpoint of step {step} takes {size_in_words(needed)}, but the disk of {folder}"
            f" has {size_in_words(free)} left: the run stops before writing it.",
            "The last complete checkpoint is untouched; free some space and repeat the command.",
        )


def complete_checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints under `folder` whose files are all there, by step."""
    return [path for _, path in _complete(folder)]


def _complete(folder: Path) -> list[tuple[int, Path]]:
    found = []
    for state_file in folder.glob("*/state.json"):
        # a leading dot: not renamed yet
        if state_file.parent.name.startswith("."):
            continue
        try:
            state = json.loads(state_file.read_text())
            whole = all(
                (state_file.parent / name).stat().st_size == size
                for name, size in state["files"].items()
            )
            step = int(state["step"])
        except UNREADABLE:
            continue
        if whole:
            found.append((step, state_file.parent))
    return sorted(found)


def all_checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints that were once whole under `folder`, damaged ones too, by step.

    If a kill interrupts a deletion, the remains of the old checkpoint rank below newer ones.
    """
    found = {path: step for step, path in _complete(folder)}
    for path in folder.glob("step-*"):
        number = path.name.removeprefix("step-")
        if path not in found and number.isdecimal():
            found[path] = int(number)
    return sorted(found, key=lambda path: (found[path], path))


def damage_of(path: Path) -> str | None:
    """Name the first damaged or missing file of a checkpoint; None if all are as written.

    Checkpoints of 0.1.0 have no digests, so damage that leaves the sizes and a file's header is not
    found.
    """
    try:
        state = json.loads((path / "state.json").read_text())
        signed = "sha256" in state or "sha256_of_this" in state
        if signed and state.pop("sha256_of_this") != _digest_of(state):
            return "state.json"
        if not all(_is_count(state[key], least) for key, least in (("step", 0), ("threads", 1))):
            return "state.json"
        for name, size in state["files"].items():
            file = path / name
            if not file.is_file() or file.stat().st_size != size:
                return str(name)
            if not signed and file.suffix == ".safetensors" and not _has_header(file):
                return str(name)
        for name, expected in state.get("sha256", {}).items():
            with open(path / name, "rb") as stream:
                if hashlib.file_digest(stream, "sha256").hexdigest() != expected:
                    return str(name)
    except UNREADABLE:
        return "state.json"
    return None


def _has_header(file: Path) -> bool:
    try:
        read_header(file)
    except ValueError:
        return False
    return True


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < MOST


def _signed(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Add the digest of all facts, replacing that of the checkpoint that was resumed from."""
    own = {key: value for key, value in facts.items() if key != "sha256_of_this"}
    return {**own, "sha256_of_this": _digest_of(own)}


def _digest_of(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def load_checkpoint(path: Path) -> tuple[dict[str, Tensors], dict[str, Any]]:
    """Read a complete checkpoint: its groups of tensors (on the CPU) and its state."""
    state = json.loads((path / "state.json").read_text())
    groups = {file.stem: load_file(file) for file in sorted(path.glob("*.safetensors"))}
    return groups, state


def clear_unfinished(folder: Path) -> None:
    """Delete the half-written checkpoints of killed processes."""
    for path in folder.glob(".step-*"):
        shutil.rmtree(path, ignore_errors=True)


# bitsandbytes' tables for 8-bit moments: the same for all weights, rebuilt by the optimizer
TABLES = ("qmap1", "qmap2")


def optimizer_tensors(
    named: Iterable[tuple[str, torch.nn.Parameter]], optimizer: torch.optim.Optimizer
) -> Tensors:
    """Collect an optimizer's state, such as moments and step counts, by parameter name."""
    tensors = {}
    for name, parameter in named:
        for key, value in optimizer.state.get(parameter, {}).items():
            if key not in TABLES:
                tensors[f"{name}:{key}"] = torch.as_tensor(value)
    return tensors


def restore_optimizer(
    named: Iterable[tuple[str, torch.nn.Parameter]],
    optimizer: torch.optim.Optimizer,
    tensors: Tensors,
) -> None:
    """Restore an optimizer's state, each tensor in its parameter's memory format.

    The fused kernel silently accepts moments of another layout and then updates the wrong elements;
    `empty_like(parameter).copy_` keeps channels_last where the parameter has it. State that the
    optimizer already has is filled in place and keeps its type.
    """
    states: dict[str, Tensors] = {}
    for key, value in tensors.items():
        name, _, entry = key.rpartition(":")
        states.setdefault(name, {})[entry] = value
    for name, parameter in named:
        state = optimizer.state[parameter]
        for entry, value in states.get(name, {}).items():
            there = state.get(entry)
            if isinstance(there, int):
                state[entry] = int(value)
            elif there is not None:
                there.copy_(value)
            elif entry == "step":
                state[entry] = value.to(parameter.device, copy=True)
            else:
                state[entry] = torch.empty_like(parameter).copy_(value)


def restore_tensors(into: Mapping[str, torch.Tensor], tensors: Tensors) -> None:
    """Copy tensors into those of the same names, which keep their memory format and device.

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


def last_checkpoint(run: RunDir, progress: Progress | None = None) -> Path | None:
    """Find the newest intact checkpoint of a run and set the number of threads to its own.

    Sums are split among threads, so another number gives different last bits. Call it before
    anything is computed: the encodings before the first step must come out the same too.

    Args:
        run: The run.
        progress: Shows a note for each damaged checkpoint; the one before it is used.

    Returns:
        The checkpoint's folder; None if the run starts from the beginning.

    Raises:
        RicError: there are checkpoints, and all of them are damaged.
    """
    folder = run.path / "checkpoints"
    clear_unfinished(folder)
    found = all_checkpoints(folder)
    for path in reversed(found):
        if (file := damage_of(path)) is None:
            state = json.loads((path / "state.json").read_text(encoding="utf-8"))
            torch.set_num_threads(state["threads"])
            return path
        (progress or Silent()).note(f"{path / file} is damaged: the checkpoint before it is used")
    if found:
        raise RicError(
            f"Every checkpoint in {folder} is damaged: the digests do not match.",
            f"Restore an intact one, or delete them to start over: rm -r {folder}",
        )
    return None
