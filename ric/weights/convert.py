"""Convert checkpoints to safetensors: pickles, without running their code, and half precision.

`read_pickle` lists what a pickle holds, in a process of its own: tensors as plans (storage, dtype,
offset, size, stride). Here the storages that are needed are read, and each plan's bounds are
checked. A plan may repeat its storage's bytes (a stride of 0 is legal), so the size of all tensors
together is bounded by that of the file.
"""

from __future__ import annotations

import filecmp
import json
import math
import os
import shutil
import subprocess
import sys
import zlib
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ric.weights.read_pickle as read_pickle
from ric.errors import RicError
from ric.lfs_pointer import is_lfs_pointer
from ric.progress import Silent
from ric.weights.find import revision_of
from ric.weights.loadable import replacements
from ric.weights.table import size_in_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from ric.progress import Progress

READ_SECONDS = 60  # of processor time: the largest checkpoints take a few
READ_BYTES = 4 << 30  # of memory, while a pickle is read
MAX_EXPANSION = 1 << 30  # bytes that tensors may have beyond twice their file's: copies, and views


@dataclass(frozen=True)
class ConvertReport:
    """The result of converting a pickle.

    Attributes:
        source: The pickle.
        out: The safetensors file.
        tensors: How many were kept.
        bytes: Their size together.
        dropped_globals: Names that the pickle tried to import, in vain, sorted.
        dropped_values: Paths of values that are not tensors, such as `epoch` or `callbacks.0`.
    """

    source: Path
    out: Path
    tensors: int
    bytes: int
    dropped_globals: tuple[str, ...]
    dropped_values: tuple[str, ...]


def convert_to_safetensors(file: Path, out: Path) -> ConvertReport:
    """Write the tensors of a pickle checkpoint as safetensors, running none of its code.

    Nested dicts and lists are flattened with dots (`ema.unet.weight`, `optimizer.0`); if the
    top level has a dict `state_dict`, only its contents are written.

    Args:
        file: A checkpoint written by torch.save (.ckpt, .bin, .pt, .pth).
        out: The file to write; it must end in .safetensors. It appears whole or not at all.

    Returns:
        What was kept and what was dropped.

    Raises:
        RicError: `file` is not such a checkpoint, is broken, holds no tensor, or needs more time or
            memory than one should; `out` exists with other contents, or cannot be written.
    """
    if out.suffix != ".safetensors":
        raise RicError(f"{out} does not end in .safetensors.", "Rename the output.")
    held = _held_by(file)
    if not held["tensors"]:
        raise RicError(
            f"{file} holds no tensor that could be kept.",
            "A model pickled whole keeps its tensors inside its class: save its state_dict.",
        )
    with _said_plainly(file):
        _refuse_excess(file, held)
        tensors = _materialise(file, held["tensors"], held["places"])
    _write_once(tensors, out)
    return ConvertReport(
        source=file,
        out=out,
        tensors=len(tensors),
        bytes=sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()),
        dropped_globals=tuple(held["wanted"]),
        dropped_values=tuple(held["dropped"]),
    )


def convert_folder(
    source: Path, target: Path, note: Mapping[str, Any], progress: Progress | None = None
) -> None:
    """Copy a model's folder with its pickles converted; `target` appears whole or not at all.

    Half-precision copies of models that have no others get their plain names.

    Args:
        source: A folder of configs, tokenizers and pickles, such as a hub snapshot.
        target: The folder to write; an older one is replaced.
        note: Written to `target/converted.json`.
        progress: Where progress is reported.

    Raises:
        RicError: As `convert_to_safetensors`, or `target` cannot be written.
    """
    names = replacements(source)
    building = target.with_name(f".{target.name}.{os.getpid()}.part")
    todo = sum(file.stat().st_size for file in names)
    try:
        building.mkdir(parents=True)
        with (progress or Silent()).stage("converting", todo, unit="bytes") as stage:
            for file in sorted(file for file in source.rglob("*") if file.is_file()):
                place = building / file.relative_to(source)
                if file in names:
                    place.parent.mkdir(exist_ok=True, parents=True)
                    place = place.with_name(names[file])
                    convert = shutil.copyfile if _is_safe(file) else convert_to_safetensors
                    convert(file, place)
                    stage.advance(file.stat().st_size)
                elif file.suffix in (".json", ".txt", ".model", ".jinja") or _is_safe(file):
                    place.parent.mkdir(exist_ok=True, parents=True)
                    shutil.copyfile(file, place)
        (building / "converted.json").write_text(json.dumps(dict(note)), encoding="utf-8")
        if target.exists():
            shutil.rmtree(target)
        os.replace(building, target)
    except OSError as error:
        raise RicError(f"Cannot write {target}: {error.strerror or error}.") from None
    finally:
        shutil.rmtree(building, ignore_errors=True)


def convert_model(source: Path, out: Path, progress: Progress | None = None) -> int:
    """Make a loadable copy of a folder that holds only pickles or half-precision copies.

    Returns:
        How many files were converted.

    Raises:
        RicError: There is nothing to convert, `out` already exists, or as `convert_folder`.
    """
    names = replacements(source)
    if not names:
        raise RicError(f"{source} holds nothing to convert.", "It needs a folder of pickles.")
    if out.exists():
        raise RicError(f"{out} already exists.", "Name another folder, or delete it first.")
    convert_folder(source, out, {"id": source.name, "revision": revision_of(source)}, progress)
    return len(names)


def _is_safe(file: Path) -> bool:
    return file.suffix == ".safetensors"


def _held_by(file: Path) -> dict[str, Any]:
    """Ask `read_pickle` what a checkpoint holds (Raises RicError)."""
    try:
        if is_lfs_pointer(file):
            raise RicError(f"{file} is a git-lfs pointer, not the checkpoint.", "Run: git lfs pull")
    except OSError as error:
        raise RicError(f"Cannot read {file}: {error.strerror or error}.") from None
    command = [sys.executable, "-I", read_pickle.__file__, str(file)]
    limits = [str(READ_SECONDS), str(READ_BYTES)]
    try:
        done = subprocess.run([*command, *limits], capture_output=True, timeout=10 * READ_SECONDS)
        held: dict[str, Any] = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        raise RicError(
            f"{file} needs more than {READ_SECONDS} s or {READ_BYTES >> 30} GiB to be read: it"
            " is not a checkpoint, or is malicious."
        ) from None
    if "refused" in held:
        raise RicError(*held["refused"])
    return held


@contextmanager
def _said_plainly(file: Path) -> Iterator[None]:
    """Turn whatever a damaged or hostile checkpoint raises into a one-line RicError."""
    try:
        yield
    except RicError:
        raise
    except OSError as error:
        raise RicError(f"Cannot read {file}: {error.strerror or error}.") from None
    except Exception as error:
        raise RicError(
            f"{file} cannot be read as a checkpoint: {type(error).__name__}: {error}.",
            "It may be truncated, or not written by torch.save.",
        ) from None


def _refuse_excess(file: Path, held: Mapping[str, Any]) -> None:
    """Refuse a file whose tensors would far exceed its size, or whose storages overlap.

    Raises:
        RicError: the tensors together are larger than twice the file and a gibibyte.
        ValueError: the storages together are larger than the file.
    """
    size = file.stat().st_size
    made = sum(math.prod(row["size"]) * read_pickle.DTYPES[row["dtype"]] for row in held["tensors"])
    if made > 2 * size + MAX_EXPANSION:
        raise RicError(
            f"{file} has {size_in_words(size)} and would make {size_in_words(made)} of tensors: it"
            " is not a plain checkpoint."
        )
    if sum(length for _, length, _ in held["places"].values()) > size:
        raise ValueError("its storages overlap")


def _materialise(
    file: Path, plans: Sequence[Mapping[str, Any]], places: Mapping[str, Sequence[Any]]
) -> dict[str, Tensor]:
    """Build every planned tensor in contiguous memory of its own, as safetensors requires."""
    import torch

    users = Counter(plan["key"] for plan in plans)
    storages: dict[str, Tensor] = {}
    tensors = {}
    for plan in plans:
        key = plan["key"]
        if key not in storages:
            data = _bytes_of(file, *places[key])
            # frombuffer refuses an empty buffer
            storages[key] = torch.frombuffer(data or bytearray(16), dtype=torch.uint8)[: len(data)]
        tensor = _view(plan, storages[key]).contiguous()
        whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
        # two names for one storage, or a part of one: safetensors refuses both
        tensors[plan["name"]] = tensor if whole and users[key] == 1 else tensor.clone()
        users[key] -= 1
        if not users[key]:
            del storages[key]
    return tensors


def _bytes_of(file: Path, begins: int, length: int, crc: int | None) -> bytearray:
    with open(file, "rb") as stream:
        stream.seek(begins)
        data = bytearray(stream.read(length))
    if len(data) < length:
        raise ValueError("a storage is truncated")
    if crc is not None and zlib.crc32(data) != crc:
        raise ValueError("a storage is damaged")
    return data


def _view(plan: Mapping[str, Any], data: Tensor) -> Tensor:
    import torch

    width = read_pickle.WIDTHS[plan["stored_as"]]
    size, stride, offset = plan["size"], plan["stride"], plan["offset"]
    start, end = (n * width for n in (plan["start"], plan["start"] + plan["count"]))
    flat = data[start:end].view(getattr(torch, plan["dtype"]))
    # the slice above may be shorter than its storage, so the bounds are the slice's
    reach = sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if math.prod(size) and offset + reach >= flat.numel():
        raise ValueError("a tensor reaches beyond its storage")
    return flat.as_strided(size, stride, flat.storage_offset() + offset)


def _write_once(tensors: dict[str, Tensor], out: Path) -> None:
    """Write to a temporary file, sync, rename; refuse to overwrite a file that differs."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    aside = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, aside, metadata={"format": "pt"})
        with open(aside, "rb+") as stream:
            os.fsync(stream.fileno())
        if out.exists() and not filecmp.cmp(aside, out, shallow=False):
            raise RicError(
                f"{out} exists and holds something else.", "Name another file, or delete it first."
            )
        os.replace(aside, out)
    except (OSError, SafetensorError) as error:
        # safetensors wraps a full disk in its own class
        reason = getattr(error, "strerror", None) or error
        raise RicError(f"Cannot write {out}: {reason}.") from None
    finally:
        with suppress(OSError):
            aside.unlink()
