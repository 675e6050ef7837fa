"""Pickle checkpoints to safetensors, without running what is in them.

A pickle is a program: GLOBAL names a function, REDUCE calls it. This file has its own unpickler,
which knows the handful of names a plain tensor checkpoint uses and answers every other name
(`os.system`, `builtins.eval`, a trainer's class) with an inert class: it can be built, called and
filled, and nothing happens. It has its own reader of torch's two file formats as well (the zip of
torch 1.6 and later, and the stream before it), so no loader of torch sees the file: those hand
TorchScript archives to an interpreter and resize storages on request.

Tensors are plans (storage, dtype, offset, size, stride) until the pickle has been read to its end;
then the storages of those that are kept are read, and `as_strided` checks each plan's bounds.
"""

from __future__ import annotations

import filecmp
import io
import json
import math
import os
import pickle
import shutil
import zipfile
from collections import Counter, OrderedDict
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from ric.errors import RicError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import torch
    from torch import Tensor

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of torch's format before 1.6
LEGACY_PROTOCOL = 1001
MAX_DEPTH = 100  # of nested dicts: a checkpoint has about five
MAX_EXPANSION = 1 << 30  # bytes a tensor may have beyond its file's size: strides of 0 are legal

# Legacy storages have a class per dtype; everything newer says UntypedStorage and a dtype.
STORAGE_DTYPES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "UntypedStorage": "uint8",
}
DTYPES = (
    "float32", "float64", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "int64", "int32",
    "int16", "int8", "uint8", "uint16", "uint32", "uint64", "bool", "complex64",
)  # fmt: skip


@dataclass(frozen=True)
class ConvertReport:
    """What became of a pickle.

    Attributes:
        source: The pickle.
        out: The safetensors file.
        tensors: How many were kept.
        bytes: Their size together.
        dropped_globals: Names the pickle wanted to import and did not get, sorted.
        dropped_values: Where values stood that are no tensors, such as `epoch` or `callbacks.0`.
    """

    source: Path
    out: Path
    tensors: int
    bytes: int
    dropped_globals: tuple[str, ...]
    dropped_values: tuple[str, ...]


def convert_to_safetensors(file: Path, out: Path) -> ConvertReport:
    """Write the tensors of a pickle checkpoint as safetensors; run nothing that is in it.

    Nested dicts and lists are flattened with dots (`ema.unet.weight`, `optimizer.0`); a top level
    that has a dict `state_dict` gives that dict's inside alone.

    Args:
        file: A checkpoint written by torch.save (.ckpt, .bin, .pt, .pth).
        out: The file to write; it must end in .safetensors. It appears whole or not at all.

    Returns:
        What was kept and what was dropped.

    Raises:
        RicError: `file` is no such checkpoint, is broken, or holds no tensor; `out` exists with
            other contents, or cannot be written.
    """
    if out.suffix != ".safetensors":
        raise RicError(f"{out} does not end in .safetensors.", "Name the output so.")
    checkpoint = _read(file)
    plans: dict[str, _Plan] = {}
    dropped: list[str] = []
    for name, value in _leaves(_state_dict_of(checkpoint.content), ""):
        free = name not in plans and name != "__metadata__"
        if isinstance(value, _Plan) and value.kept and free:
            plans[name] = value
        else:
            dropped.append(name)
    if not plans:
        raise RicError(
            f"{file} holds no tensor that could be kept.",
            "A model pickled whole keeps its tensors inside its class: save its state_dict.",
        )
    with _said_plainly(file):
        tensors = _materialise(plans, checkpoint.fetch, file.stat().st_size)
    _write_once(tensors, out)
    return ConvertReport(
        source=file,
        out=out,
        tensors=len(tensors),
        bytes=sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()),
        dropped_globals=tuple(sorted(checkpoint.wanted)),
        dropped_values=tuple(dropped),
    )


def convert_folder(
    source: Path, names: Mapping[Path, str], target: Path, note: Mapping[str, Any]
) -> None:
    """Copy a model's folder with its pickles converted; `target` appears whole or not at all.

    Args:
        source: A folder of configs, tokenizers and pickles, such as a hub snapshot.
        names: The pickles to convert, and what each one's safetensors are called.
        target: The folder to write; an older one is replaced.
        note: Stands in `target/converted.json`.

    Raises:
        RicError: As `convert_to_safetensors`, or the disk is full.
    """
    building = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        building.mkdir(parents=True)
        for file in sorted(file for file in source.rglob("*") if file.is_file()):
            place = building / file.relative_to(source)
            if file in names:
                place.parent.mkdir(exist_ok=True, parents=True)
                convert_to_safetensors(file, place.with_name(names[file]))
            elif file.suffix in (".json", ".txt", ".model", ".jinja", ".safetensors"):
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


# --- what stands in for the names of a pickle ----------------------------------------------------


class _Inert:
    """Takes the place of anything unknown: every use is accepted and none has an effect."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Inert:
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> _Inert:
        return _Inert()

    def __setstate__(self, *state: Any) -> None:
        pass

    def __setitem__(self, *item: Any) -> None:
        pass

    def append(self, *item: Any) -> None:
        pass

    def extend(self, *items: Any) -> None:
        pass

    def add(self, *item: Any) -> None:
        pass


class _Known:
    """One allowed function, wrapped so that a pickle's BUILD cannot rewrite its attributes."""

    __slots__ = ("_function",)
    _function: Callable[..., Any]

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "_function", function)

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setattr__(self, *item: Any) -> None:
        pass

    def __setstate__(self, *state: Any) -> None:
        pass


class _Storage(_Inert):
    """A storage that a pickle points at: its record, its class's dtype, its window in elements."""

    def __init__(self, key: str, dtype: torch.dtype, count: int, start: int = 0) -> None:
        self.key = key
        self.dtype = dtype
        self.count = count
        self.start = start


class _Plan(_Inert):
    """A tensor to be: a view of a storage."""

    def __init__(
        self, storage: _Storage, dtype: torch.dtype, offset: Any, size: Any, stride: Any
    ) -> None:
        self.storage = storage
        self.dtype = dtype
        self.offset = offset
        self.size = size
        self.stride = stride

    @property
    def kept(self) -> bool:
        """Whether safetensors has its dtype."""
        return str(self.dtype) in {f"torch.{name}" for name in DTYPES}


def _rebuild_v2(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Inert:
    if not isinstance(storage, _Storage):
        return _Inert()
    return _Plan(storage, storage.dtype, offset, size, stride)


def _rebuild_v3(
    storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *_: Any
) -> _Inert:
    return (
        _Plan(storage, dtype, offset, size, stride) if isinstance(storage, _Storage) else _Inert()
    )


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    return data


def _rebuild_from_type(function: Any, kind: Any, arguments: Any, *_: Any) -> Any:
    return function(*arguments) if isinstance(function, _Known) else _Inert()


def _known_names() -> dict[str, Any]:
    """Everything a pickle may import: containers, dtypes, storages, and tensors planned here."""
    import torch

    names: dict[str, Any] = {
        "collections.OrderedDict": OrderedDict,
        "torch.Size": _Known(tuple),
        "torch._utils._rebuild_tensor": _Known(_rebuild_v2),
        "torch._utils._rebuild_tensor_v2": _Known(_rebuild_v2),
        "torch._utils._rebuild_tensor_v3": _Known(_rebuild_v3),
        "torch._utils._rebuild_parameter": _Known(_rebuild_parameter),
        "torch._utils._rebuild_parameter_with_state": _Known(_rebuild_parameter),
        "torch._tensor._rebuild_from_type_v2": _Known(_rebuild_from_type),
    }
    names |= {f"torch.{name}": getattr(torch, name) for name in DTYPES}
    for module in ("torch", "torch.storage", "torch.cuda"):
        names |= {f"{module}.{n}": getattr(torch, dtype) for n, dtype in STORAGE_DTYPES.items()}
    return names


class _Unpickler(pickle.Unpickler):
    """An unpickler that imports nothing."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream, encoding="utf-8", errors="replace")
        self._known = _known_names()
        self.wanted: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in self._known:
            return self._known[full]
        self.wanted.add(full)
        # a fresh class each time: what a pickle does to one reaches nothing else
        return type("Inert", (_Inert,), {})

    def persistent_load(self, pid: Any) -> Any:
        """Read `("storage", class, key, device, count[, view])`; nothing else may be persistent."""
        import torch

        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise ValueError("an unknown kind of persistent id")
        _, dtype, key, _, count, *view = pid
        if not isinstance(dtype, torch.dtype):
            raise ValueError("an unknown class of storage")
        if view and view[0] is not None:
            _, start, length = view[0]
            return _Storage(str(key), dtype, int(length), int(start))
        return _Storage(str(key), dtype, int(count))


# --- torch's two file formats --------------------------------------------------------------------


class _Checkpoint(NamedTuple):
    """What a pickle held, the names it did not get, and how to read its storages as bytes."""

    content: Any
    wanted: set[str]
    fetch: Callable[[str], bytearray]


@contextmanager
def _said_plainly(file: Path) -> Iterator[None]:
    """A damaged or hostile checkpoint can raise anything: say it in one line."""
    try:
        yield
    except RicError:
        raise
    except OSError as error:
        raise RicError(f"Cannot read {file}: {error.strerror or error}.") from None
    except RecursionError:
        raise RicError(f"{file} is nested too deeply to be a checkpoint.") from None
    except Exception as error:
        raise RicError(
            f"{file} cannot be read as a checkpoint: {type(error).__name__}: {error}.",
            "It may be truncated, or not written by torch.save.",
        ) from None


def _read(file: Path) -> _Checkpoint:
    with _said_plainly(file), open(file, "rb") as stream:
        if zipfile.is_zipfile(stream):
            return _read_zip(file)
        stream.seek(0)
        return _read_legacy(file, stream)


def _read_zip(file: Path) -> _Checkpoint:
    """Read the format of torch 1.6 and later: a zip of `data.pkl` and `data/KEY`, not packed."""
    with zipfile.ZipFile(file) as archive:
        records = {info.filename.partition("/")[2]: info for info in archive.infolist()}
        if "constants.pkl" in records:
            raise RicError(
                f"{file} is a TorchScript program, not a checkpoint.",
                "Ask its publisher for the state_dict.",
            )
        if "data.pkl" not in records:
            raise RicError(f"{file} is a zip archive, but not one written by torch.save.")
        if "byteorder" in records and archive.read(records["byteorder"]) != b"little":
            raise RicError(f"{file} was written on a big-endian machine, which is not supported.")
        unpickler = _Unpickler(io.BytesIO(archive.read(records["data.pkl"])))
        content = unpickler.load()

    def fetch(key: str) -> bytearray:
        record = records[f"data/{key}"]
        if record.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"storage {key} is compressed, which torch never does")
        with zipfile.ZipFile(file) as archive:
            return bytearray(archive.read(record))

    return _Checkpoint(content, unpickler.wanted, fetch)


def _read_legacy(file: Path, stream: BinaryIO) -> _Checkpoint:
    """Read the stream before torch 1.6: magic, version, machine, object, keys, then the bytes."""
    if stream.read(1) != b"\x80":
        raise RicError(
            f"{file} is no pickle checkpoint of torch.",
            "ric weights convert reads .ckpt, .bin, .pt and .pth files written by torch.save.",
        )
    stream.seek(0)
    if _Unpickler(stream).load() != LEGACY_MAGIC:
        raise RicError(f"{file} is a pickle, but not one written by torch.save.")
    if _Unpickler(stream).load() != LEGACY_PROTOCOL:
        raise RicError(f"{file} was written by an unknown version of torch.save.")
    if not _Unpickler(stream).load().get("little_endian", True):
        raise RicError(f"{file} was written on a big-endian machine, which is not supported.")
    unpickler = _LegacyUnpickler(stream)
    content = unpickler.load()
    places: dict[str, tuple[int, int]] = {}
    size = os.fstat(stream.fileno()).st_size
    for key in _Unpickler(stream).load():
        count = int.from_bytes(stream.read(8), "little")
        places[key] = (stream.tell(), count * unpickler.widths[key])
        if sum(places[key]) > size:
            raise ValueError(f"storage {key} is truncated")
        stream.seek(sum(places[key]))

    def fetch(key: str) -> bytearray:
        with open(file, "rb") as again:
            again.seek(places[key][0])
            return bytearray(again.read(places[key][1]))

    return _Checkpoint(content, unpickler.wanted, fetch)


class _LegacyUnpickler(_Unpickler):
    """Remembers how wide each storage's elements are: the stream counts elements, not bytes."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream)
        self.widths: dict[str, int] = {}

    def persistent_load(self, pid: Any) -> Any:
        storage = super().persistent_load(pid)
        self.widths[storage.key] = storage.dtype.itemsize
        return storage


# --- from an object to a file --------------------------------------------------------------------


def _state_dict_of(content: Any) -> Any:
    inner = dict.get(content, "state_dict") if isinstance(content, dict) else None
    return inner if isinstance(inner, dict) else content


def _leaves(value: Any, name: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Walk dicts and lists; a container that holds itself ends at MAX_DEPTH."""
    if isinstance(value, (dict, list, tuple)) and depth < MAX_DEPTH:
        # dict's own items(): an instance's attributes come from the pickle
        items = dict.items(value) if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from _leaves(item, f"{name}.{key}" if name else str(key), depth + 1)
    else:
        yield name, value


def _materialise(
    plans: Mapping[str, _Plan], fetch: Callable[[str], bytearray], file_size: int
) -> dict[str, Tensor]:
    """Give every planned tensor its own contiguous memory, as safetensors asks."""
    import torch

    users = Counter(plan.storage.key for plan in plans.values())
    storages: dict[str, Tensor] = {}
    tensors = {}
    for name, plan in plans.items():
        key = plan.storage.key
        if key not in storages:
            data = fetch(key)
            # frombuffer takes no empty buffer
            storages[key] = torch.frombuffer(data or bytearray(16), dtype=torch.uint8)[: len(data)]
        tensor = _view(plan, storages[key], file_size + MAX_EXPANSION).contiguous()
        whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
        # two names for one storage, or a part of one: safetensors takes neither
        tensors[name] = tensor if whole and users[key] == 1 else tensor.clone()
        users[key] -= 1
        if not users[key]:
            del storages[key]
    return tensors


def _view(plan: _Plan, data: Tensor, limit: int) -> Tensor:
    width = plan.storage.dtype.itemsize
    start, count = plan.storage.start, plan.storage.count
    flat = data[start * width : (start + count) * width].view(plan.dtype)
    size = tuple(int(length) for length in plan.size)
    if math.prod(size) * plan.dtype.itemsize > limit:
        raise ValueError("a tensor is larger than its file")
    # the slice above may be shorter than its storage, so the bounds are the slice's
    reach = sum((n - 1) * int(step) for n, step in zip(size, plan.stride, strict=True))
    if math.prod(size) and int(plan.offset) + reach >= flat.numel():
        raise ValueError("a tensor reaches beyond its storage")
    return flat.as_strided(size, tuple(plan.stride), flat.storage_offset() + int(plan.offset))


def _write_once(tensors: dict[str, Tensor], out: Path) -> None:
    """Write aside, sync, rename; leave an existing file alone unless it is the same."""
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
