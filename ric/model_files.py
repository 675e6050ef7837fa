"""The files that each kind of model's folder must hold: one table, checked before loading.

Where a file is missing, transformers and diffusers often make something up: an empty tokenizer, a
config's defaults, random weights. So a folder is complete, or it is refused in one line that says
what it lacks. A model's files may be malicious: JSON is read within bounds, and of weights only the
header is read here. This file imports nothing heavy.
"""

from __future__ import annotations

import json
import math
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ric.errors import RicError, first_line
from ric.lfs_pointer import is_lfs_pointer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PICKLE_SUFFIXES = (".bin", ".ckpt", ".pt", ".pth")
LARGEST_JSON = 64 << 20  # bytes; a tokenizer of 250,000 words has 17 MB
LARGEST_HEADER = 100_000_000  # bytes; the format's own bound
MOST_LAYERS = 1000  # of one kind in a row: building more would take very long

# A folder's needs: each is a tuple of alternatives, and an alternative names the files it takes.
CONFIG = ("config.json",)
WEIGHTS = ("*.safetensors",)
TOKENIZER = ("tokenizer.json", "vocab.json + merges.txt", "vocab.txt", "*.model")
TOKENIZER_CONFIG = ("tokenizer_config.json",)  # where texts are cut, and what fills them up
PROCESSOR = ("preprocessor_config.json", "processor_config.json")
NETWORK = (CONFIG, WEIGHTS)
Needs = tuple[tuple[str, ...], ...]

# By kind of model and subfolder; "" is the model's own folder.
PARTS: dict[str, dict[str, Needs]] = {
    "pipeline": {
        "": (("model_index.json",),),
        "vae": NETWORK,
        "unet": NETWORK,
        "text_encoder": NETWORK,
        "tokenizer": (TOKENIZER, TOKENIZER_CONFIG),
        "scheduler": (("scheduler_config.json",),),
    },
    "region_encoder": {
        "": (("region_encoder.json",), ("fusion.safetensors",)),
        "clip": (*NETWORK, TOKENIZER, TOKENIZER_CONFIG, PROCESSOR),
    },
    "scene_encoder": {
        "": (("scene_encoder.json",), ("temperature.safetensors",)),
        "blip": (*NETWORK, TOKENIZER, TOKENIZER_CONFIG, PROCESSOR),
    },
    "describer": {"": (*NETWORK, TOKENIZER, PROCESSOR)},
    "segmenter": {"": (*NETWORK, PROCESSOR)},
    "text segmenter": {"": (*NETWORK, TOKENIZER, TOKENIZER_CONFIG, PROCESSOR)},
    "text and image model": {"": (*NETWORK, TOKENIZER)},
    "network": {"": NETWORK},
}
JUDGES = ("region_encoder", "scene_encoder")  # whose fits start from a plain CLIP or BLIP
# What a config must state: with a class's default the weights would load and give wrong results.
SAID: dict[str, tuple[str, ...]] = {
    "unet/config.json": (
        "act_fn", "attention_head_dim", "block_out_channels", "cross_attention_dim",
        "flip_sin_to_cos", "freq_shift", "in_channels", "norm_eps", "norm_num_groups",
        "out_channels",
    ),
    "vae/config.json": ("block_out_channels", "latent_channels"),
    "scheduler/scheduler_config.json": (
        "beta_end", "beta_schedule", "beta_start", "num_train_timesteps",
    ),
}  # fmt: skip
# The files that accelerate, transformers' Trainer and DeepSpeed write beside trained weights.
OF_TRAINERS = (
    "optimizer.*", "scheduler.bin", "scheduler.pt", "random_states_*.pkl", "rng_state*.pth",
    "scaler.pt", "trainer_state.json", "custom_checkpoint_*.pkl", "zero_to_fp32.py", "global_step*",
)  # fmt: skip
# The prefixes that wrappers of a network add to the names of all weights.
WRAPPERS = {"module": "DistributedDataParallel", "_orig_mod": "torch.compile"}
# Weights in these need a scale, or a table, that a plain network does not have.
QUANTISED = {"I8", "U8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F4"}
DTYPE_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "F8_E8M0": 1, "I16": 2, "U16": 2,
    "F16": 2, "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8, "C64": 8,
}  # fmt: skip


def require_whole(folder: Path, kind: str) -> None:
    """Check that a model's folder holds all that its kind needs, and that its files are sound.

    Args:
        folder: The model's.
        kind: A row of `PARTS`.

    Raises:
        RicError: something is missing, damaged, a pickle, a git-lfs pointer, quantised, or another
            trainer's.
    """
    if kind in JUDGES and not (folder / f"{kind}.json").is_file():
        kind = "text and image model"
    parts = PARTS[kind]
    lacking = [
        f"{part}/{need}".removeprefix("/")
        for part, needs in parts.items()
        for need in _lacking(folder / part, needs)
    ]
    if lacking:
        raise _not_whole(folder, kind, lacking)
    for part in parts:
        for file in sorted((folder / part).glob("*.safetensors")):
            if problem := unusable(file):
                raise RicError(f"{file} cannot be used: {problem}.", _hint_for(problem))
        for file in sorted((folder / part).glob("*.json")):
            _refuse_odd(folder, file)


def has_weights(folder: Path) -> bool:
    """Tell whether a folder holds safetensors that the libraries load, and all of their shards."""
    for index in folder.glob("*.safetensors.index.json"):
        shards = shards_of(index)
        if not shards or not all((folder / shard).exists() for shard in shards):
            return False
    return any(file.exists() and not is_variant(file.name) for file in folder.glob("*.safetensors"))


def is_variant(name: str) -> bool:
    """Tell whether a file is a copy of the model beside it, in half precision or without EMA."""
    return ".fp16." in name or "non_ema" in name


def pickles_beside(folder: Path) -> list[Path]:
    """List the pickles that may be a model's weights, without a trainer's own files."""
    ours = ("training_args.bin", "optimizer.bin", "optimizer.pt", "scheduler.bin", "scheduler.pt")
    return [
        file
        for file in sorted(folder.glob("*"))
        if file.suffix in PICKLE_SUFFIXES
        and file.name not in ours
        and not file.name.startswith("rng_state")
    ]


def shards_of(index: Path) -> set[str] | None:
    """Read the file names in a sharded model's index; None if it cannot be read."""
    try:
        return {str(name) for name in read_json(index)["weight_map"].values()}
    except (RicError, KeyError, AttributeError):
        return None


def of_another_trainer(folder: Path) -> RicError | None:
    """Return the error for a folder that is another trainer's checkpoint; None if it is not.

    A trainer may leave its own files beside a complete model, which can be loaded as it is.
    """
    if any((folder / name).exists() for name in ("model_index.json", "config.json")):
        return None
    names = sorted(entry.name for entry in folder.iterdir())
    signs = [name for name in names if any(fnmatch(name, sign) for sign in OF_TRAINERS)]
    if not signs:
        return None
    about = f"{folder} is the checkpoint of another trainer ({', '.join(signs[:3])})"
    if "unet" in names:
        pipeline = ("model_index.json", *filter(None, PARTS["pipeline"]))
        lacking = ", ".join(part for part in pipeline if part not in names)
        return RicError(
            f"{about} and not a pipeline: it lacks {lacking}.",
            "Copy the pipeline that was trained, put this folder's unet in place of its own, and"
            " name the copy.",
        )
    return RicError(
        f"{about} and not a model: it lacks config.json.",
        "Write the model with its trainer's save_pretrained, and name that folder.",
    )


def read_json(path: Path, what: str = "") -> dict[str, Any]:
    """Read a JSON object, within the size and depth of a model's files.

    Args:
        path: The file.
        what: What its folder should hold, for the message.

    Raises:
        RicError: The file is missing, unreadable or holds something else.
    """
    if not path.is_file():
        missing = "no such folder" if not path.parent.is_dir() else f"no {path.name}"
        raise RicError(f"{path.parent} does not hold {what or path.name} ({missing}).")
    try:
        if is_lfs_pointer(path):
            raise RicError(f"{path} is a git-lfs pointer, not the file itself.", PULL)
        if path.stat().st_size > LARGEST_JSON:
            raise RicError(f"{path} has over {LARGEST_JSON >> 20} MB: it is not a model's file.")
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RicError(f"Cannot read {path}: {first_line(error)}") from error
    except RecursionError:
        raise RicError(f"{path} is nested too deeply: it is not a model's file.") from None
    if not isinstance(loaded, dict):
        raise RicError(f"{path} does not hold a JSON object.")
    return loaded


def unusable(file: Path) -> str | None:
    """Explain why a safetensors file is not a plain network's weights, by its header; else None."""
    try:
        header = read_header(file)
    except OSError as error:
        return error.strerror or str(error)
    except ValueError as error:
        return str(error)
    wrappers = {name.split(".")[0] for name in header}
    if header and wrappers <= WRAPPERS.keys():
        first = sorted(wrappers)[0]
        return f"its names begin with '{first}.', the prefix of {WRAPPERS[first]}"
    if found := {tensor["dtype"] for tensor in header.values()} & QUANTISED:
        return f"it is quantised ({', '.join(sorted(found))})"
    return None


def read_header(file: Path) -> dict[str, Any]:
    """Read a safetensors header: 8 bytes of length, JSON, then offsets that fill the file.

    Returns:
        Each tensor's `dtype`, `shape` and `data_offsets`, by name.

    Raises:
        ValueError: the file is truncated, too long, or not safetensors; says which.
        OSError: it cannot be read.
    """
    if is_lfs_pointer(file):
        raise ValueError("it is a git-lfs pointer, not the weights")
    size = file.stat().st_size
    with open(file, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > size - 8:
            raise ValueError(f"truncated: its header is incomplete ({size} bytes)")
        text = stream.read(min(length, LARGEST_HEADER))
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        end = _check_layout(header)
    except _LayoutError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError("its header is not that of a safetensors file") from None
    expected = 8 + length + end
    if size < expected:
        raise ValueError(f"truncated: {size} of {expected} bytes")
    if size > expected:
        raise ValueError(f"{size - expected} bytes too long")
    return header


class _LayoutError(ValueError):
    """Tensors overlap, leave gaps or differ in size from their shape."""


def _check_layout(header: Mapping[str, Any]) -> int:
    """Check that tensors follow one another without gaps; return where the last one ends."""
    position = 0
    for name, tensor in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        start, end = tensor["data_offsets"]
        width = DTYPE_BYTES.get(tensor["dtype"])
        if width is not None and math.prod(tensor["shape"]) * width != end - start:
            raise _LayoutError(f"the size of tensor {name} does not match its shape")
        if start != position:
            raise _LayoutError(f"tensor {name} does not begin where the one before it ends")
        position = end
    return position


def _lacking(folder: Path, needs: Needs) -> Iterator[str]:
    """Yield a folder's unmet needs, each by its first alternative."""
    for ways in needs:
        if ways == WEIGHTS:
            met = has_weights(folder)
        else:
            met = any(all(_holds(folder, name) for name in way.split(" + ")) for way in ways)
        if not met:
            yield ways[0]


def _holds(folder: Path, name: str) -> bool:
    """Tell whether a file that matches a name is there and not empty."""
    return any(file.is_file() and file.stat().st_size for file in folder.glob(name))


PULL = "Fetch the real files: git lfs pull, or: hf download ID --local-dir FOLDER"


def _not_whole(folder: Path, kind: str, lacking: list[str]) -> RicError:
    """Make the error for an incomplete folder: what it is, if that is clear, and what it lacks."""
    parts = PARTS[kind]
    if folder.is_dir() and (error := of_another_trainer(folder)):
        return error
    if kind == "pipeline" and "model_index.json" in lacking:
        return RicError(
            f"{folder} is not a diffusers pipeline: it has no model_index.json.",
            "Name a train-unet run, a pipeline folder, or a hub id such as "
            "timbrooks/instruct-pix2pix.",
        )
    for part in parts:
        if part and not (folder / part).is_dir():
            needed = ", ".join(filter(None, parts))
            return RicError(f"The {kind} in {folder} has no folder {part}.", f"It needs: {needed}.")
    weightless = [folder / name for name in lacking if name.endswith("*.safetensors")]
    if weightless and len(weightless) == len(lacking):
        return without_weights(folder, [file.parent for file in weightless])
    return RicError(
        f"The {kind} in {folder} is incomplete: it lacks {', '.join(lacking)}.",
        "Copy or download the folder again.",
    )


def without_weights(model: Path, folders: list[Path]) -> RicError:
    """Make the error for folders of a model that lack usable weights, with the command that helps.

    That command writes to a new folder: the model may be in the hub's cache, whose files are links.
    """
    first = folders[0]
    pickles = pickles_beside(first)
    halves = sorted(first.glob("*.fp16.safetensors"))
    convert = f"ric weights convert {model} NEW_FOLDER"
    if halves:
        return RicError(
            f"{first} holds only the half-precision variant ({halves[0].name}).",
            f"Write its files with their plain names to a new folder: {convert}",
        )
    if pickles:
        return RicError(
            f"{first} holds its weights as a pickle ({pickles[0].name}), which could run any code "
            "when it is loaded.",
            f"Write only its tensors to a new folder: {convert}",
        )
    return RicError(
        f"{first} is incomplete: it holds no complete safetensors.",
        "Copy or download it again; ric weights check names broken files.",
    )


def _refuse_odd(folder: Path, file: Path) -> None:
    """Read a JSON file, and refuse forbidden entries and the lack of required ones."""
    held = read_json(file)
    if not file.name.endswith("config.json"):
        return
    if "quantization_config" in held:
        raise RicError(
            f"{file} has a quantization_config; only plain weights are loaded.",
            "Get the model in float32, bfloat16 or float16.",
        )
    if (count := _layers(held)) > MOST_LAYERS:
        raise RicError(f"{file} names {count:.3g} layers, which no model has.")
    needed = SAID.get(file.relative_to(folder).as_posix(), ())
    if missing := [key for key in needed if held.get(key) is None]:
        raise RicError(
            f"{file} does not say {', '.join(missing)}.", "Copy or download the folder again."
        )


def _layers(said: Any, key: str = "") -> float:
    """Return the largest number of layers that a config names, at any depth."""
    if isinstance(said, dict):
        return max((_layers(value, name) for name, value in said.items()), default=0)
    if isinstance(said, list):
        return max((_layers(value, key) for value in said), default=0)
    counted = "layers" in key or key == "depths"
    return min(said, 1e9) if counted and isinstance(said, int | float) else 0


def _hint_for(problem: str) -> str:
    if "git-lfs" in problem:
        return PULL
    if "its names begin" in problem:
        return "Save the network itself: accelerator.unwrap_model(model).save_pretrained(FOLDER)"
    if "quantised" in problem:
        return "Get the model in float32, bfloat16 or float16."
    return "Copy or download it again."
