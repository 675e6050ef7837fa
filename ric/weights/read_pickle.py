"""List what a pickle checkpoint holds, in a process of its own, without running its code.

A pickle is a program: GLOBAL names a function, REDUCE calls it. This file has its own unpickler,
which knows the handful of names a plain tensor checkpoint uses and answers every other name
(`os.system`, `builtins.eval`, a trainer's class) with an inert class: it can be built, called and
filled, and nothing happens. It has its own reader of torch's two file formats as well (the zip of
torch 1.6 and later, and the stream before it), so no loader of torch sees the file: those hand
TorchScript archives to an interpreter and resize storages on request.

A few hundred bytes can also demand hours or all memory, within a single step of the unpickler. So
`ric.weights.convert` starts this file as a program, which limits its own processor time and
memory, and reads its answer, one JSON object. It imports the standard library alone.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import resource
import sys
import zipfile
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of torch's format before 1.6
LEGACY_PROTOCOL = 1001
MAX_DEPTH = 100  # of nested dicts: a checkpoint has about five
CONTAINERS = (dict, list, tuple)
LONGEST_ANSWER = 1 << 28  # characters

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
# Bytes of an element, of each dtype that safetensors has.
DTYPES = {
    "float32": 4, "float64": 8, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1,
    "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint8": 1, "uint16": 2, "uint32": 4,
    "uint64": 8, "bool": 1, "complex64": 8,
}  # fmt: skip
WIDTHS = {**DTYPES, "complex128": 16}


class RefusedError(Exception):
    """A message and a hint for the user."""


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


class _Dtype(_Inert):
    """A dtype, or a class of storages of it."""

    def __init__(self, name: str) -> None:
        self.name = name


class _Storage(_Inert):
    """A storage that a pickle points at: its record, its class's dtype, its window in elements."""

    def __init__(self, key: str, dtype: str, count: int, start: int = 0) -> None:
        self.key = key
        self.dtype = dtype
        self.count = count
        self.start = start


class _Plan(_Inert):
    """A tensor to be: a view of a storage."""

    def __init__(self, storage: _Storage, dtype: str, offset: Any, size: Any, stride: Any) -> None:
        self.storage = storage
        self.dtype = dtype
        self.offset = offset
        self.size = size
        self.stride = stride

    def as_row(self, name: str) -> dict[str, Any]:
        """Return what `convert` needs, in whole numbers."""
        return {
            "name": name,
            "key": self.storage.key,
            "stored_as": self.storage.dtype,
            "start": self.storage.start,
            "count": self.storage.count,
            "dtype": self.dtype,
            "offset": int(self.offset),
            "size": [int(length) for length in self.size],
            "stride": [int(step) for step in self.stride],
        }


def _rebuild_v2(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Inert:
    if not isinstance(storage, _Storage):
        return _Inert()
    return _Plan(storage, storage.dtype, offset, size, stride)


def _rebuild_v3(
    storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *_: Any
) -> _Inert:
    if not isinstance(storage, _Storage) or not isinstance(dtype, _Dtype):
        return _Inert()
    return _Plan(storage, dtype.name, offset, size, stride)


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    return data


def _rebuild_from_type(function: Any, kind: Any, arguments: Any, *_: Any) -> Any:
    return function(*arguments) if isinstance(function, _Known) else _Inert()


def _known_names() -> dict[str, Any]:
    """Return all that a pickle may import: containers, dtypes, storages, and plans of tensors."""
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
    names |= {f"torch.{name}": _Dtype(name) for name in DTYPES}
    for module in ("torch", "torch.storage", "torch.cuda"):
        names |= {f"{module}.{n}": _Dtype(dtype) for n, dtype in STORAGE_DTYPES.items()}
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
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise ValueError("an unknown kind of persistent id")
        _, dtype, key, _, count, *view = pid
        if not isinstance(dtype, _Dtype):
            raise ValueError("an unknown class of storage")
        if view and view[0] is not None:
            _, start, length = view[0]
            return _Storage(str(key), dtype.name, int(length), int(start))
        return _Storage(str(key), dtype.name, int(count))


# --- torch's two file formats --------------------------------------------------------------------


class Checkpoint(NamedTuple):
    """The contents of a pickle.

    Attributes:
        content: Of dicts, lists and plans of tensors.
        wanted: The names that it tried to import, in vain.
        length: Bytes of the pickle, or of the file that it is a part of.
        places: By storage: where its bytes begin in the file, how many, and their CRC-32, if known.
    """

    content: Any
    wanted: set[str]
    length: int
    places: dict[str, tuple[int, int, int | None]]


def read_checkpoint(file: str) -> Checkpoint:
    """Read either format (Raises RefusedError, OSError, or what a damaged file raises)."""
    with open(file, "rb") as stream:
        if zipfile.is_zipfile(stream):
            with zipfile.ZipFile(stream) as archive:
                return _read_zip(file, archive, stream)
        stream.seek(0)
        return _read_legacy(file, stream)


def _read_zip(file: str, archive: zipfile.ZipFile, stream: BinaryIO) -> Checkpoint:
    """Read the format of torch 1.6 and later: an uncompressed zip of `data.pkl` and `data/KEY`."""
    records = {info.filename.partition("/")[2]: info for info in archive.infolist()}
    if "constants.pkl" in records:
        raise RefusedError(
            f"{file} is a TorchScript program, not a checkpoint.",
            "Ask its publisher for the state_dict.",
        )
    if "data.pkl" not in records:
        raise RefusedError(f"{file} is a zip archive, but not one written by torch.save.", None)
    if "byteorder" in records and archive.read(records["byteorder"]) != b"little":
        raise RefusedError(
            f"{file} was written on a big-endian machine, which is not supported.", None
        )
    program = archive.read(records["data.pkl"])
    unpickler = _Unpickler(io.BytesIO(program))
    content = unpickler.load()
    places: dict[str, tuple[int, int, int | None]] = {}
    for name, record in records.items():
        # torch compresses nothing
        if name.startswith("data/") and record.compress_type == zipfile.ZIP_STORED:
            stream.seek(record.header_offset + 26)  # its name's length, its extra field's
            lengths = stream.read(4)
            begins = sum(int.from_bytes(lengths[at : at + 2], "little") for at in (0, 2))
            place = record.header_offset + 30 + begins, record.file_size, record.CRC
            places[name.removeprefix("data/")] = place
    return Checkpoint(content, unpickler.wanted, len(program), places)


def _read_legacy(file: str, stream: BinaryIO) -> Checkpoint:
    """Read the stream before torch 1.6: magic, version, machine, object, keys, then the bytes."""
    if stream.read(1) != b"\x80":
        raise RefusedError(
            f"{file} is not a pickle checkpoint of torch.",
            "ric weights convert reads .ckpt, .bin, .pt and .pth files written by torch.save.",
        )
    stream.seek(0)
    if _Unpickler(stream).load() != LEGACY_MAGIC:
        raise RefusedError(f"{file} is a pickle, but not one written by torch.save.", None)
    if _Unpickler(stream).load() != LEGACY_PROTOCOL:
        raise RefusedError(f"{file} was written by an unknown version of torch.save.", None)
    if not _Unpickler(stream).load().get("little_endian", True):
        raise RefusedError(
            f"{file} was written on a big-endian machine, which is not supported.", None
        )
    unpickler = _LegacyUnpickler(stream)
    content = unpickler.load()
    places: dict[str, tuple[int, int, int | None]] = {}
    size = os.fstat(stream.fileno()).st_size
    for key in _Unpickler(stream).load():
        count = int.from_bytes(stream.read(8), "little")
        begins, length = stream.tell(), count * unpickler.widths[key]
        if begins + length > size:
            raise ValueError(f"storage {key} is truncated")
        places[key] = begins, length, None
        stream.seek(begins + length)
    return Checkpoint(content, unpickler.wanted, size, places)


class _LegacyUnpickler(_Unpickler):
    """Remembers how wide each storage's elements are: the stream counts elements, not bytes."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream)
        self.widths: dict[str, int] = {}

    def persistent_load(self, pid: Any) -> Any:
        storage = super().persistent_load(pid)
        self.widths[storage.key] = WIDTHS[storage.dtype]
        return storage


# --- from an object to an answer -----------------------------------------------------------------


def _state_dict_of(content: Any) -> Any:
    inner = dict.get(content, "state_dict") if isinstance(content, dict) else None
    return inner if isinstance(inner, dict) else content


def _walk(value: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield all items of dicts and lists, and these themselves; a cycle ends at MAX_DEPTH."""
    yield name, value
    if isinstance(value, CONTAINERS) and depth < MAX_DEPTH:
        # dict's own items(): an instance's attributes come from the pickle
        items = dict.items(value) if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from _walk(item, f"{name}.{key}" if name else str(key), depth + 1)


def answer(file: str) -> dict[str, Any]:
    """List a checkpoint's tensors, where their bytes are, and what else it holds."""
    checkpoint = read_checkpoint(file)
    tensors: dict[str, dict[str, Any]] = {}
    dropped: list[str] = []
    # each value takes at least a byte of the pickle, unless its container is referenced repeatedly
    most = max(10_000, checkpoint.length)
    for number, (name, value) in enumerate(_walk(_state_dict_of(checkpoint.content))):
        if number > most:
            raise ValueError("it holds more values than it has bytes")
        if isinstance(value, CONTAINERS):
            continue
        free = name not in tensors and name != "__metadata__"
        if isinstance(value, _Plan) and value.dtype in DTYPES and free:
            tensors[name] = value.as_row(name)
        else:
            dropped.append(name)
    keys = {row["key"] for row in tensors.values()}
    places = {key: place for key, place in checkpoint.places.items() if key in keys}
    return {
        "tensors": list(tensors.values()),
        "places": places,
        "wanted": sorted(checkpoint.wanted),
        "dropped": dropped,
    }


def main(file: str, seconds: str, memory: str) -> None:
    """Print the answer about a file, within seconds of processor time and bytes of memory."""
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds)))
    resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
    try:
        text = json.dumps(answer(file))
        if len(text) > LONGEST_ANSWER:
            raise ValueError("what it holds takes too long to name")
    except RefusedError as refused:
        text = json.dumps({"refused": refused.args})
    except RecursionError:
        text = json.dumps({"refused": [f"{file} is nested too deeply to be a checkpoint.", None]})
    except OSError as error:
        text = json.dumps({"refused": [f"Cannot read {file}: {error.strerror or error}.", None]})
    except MemoryError:
        sys.exit(1)
    except Exception as error:
        # a damaged or hostile checkpoint can raise anything
        why = f"{type(error).__name__}: {error}"[:200]
        reason = f"{file} cannot be read as a checkpoint: {why}."
        hint = "It may be truncated, or not written by torch.save."
        text = json.dumps({"refused": [reason, hint]})
    sys.stdout.write(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
