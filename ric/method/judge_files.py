"""The format of a judge on disk: a transformers folder, ric's own files beside it, no pickles.

```
region_encoder/             or scene_encoder/
  region_encoder.json       or scene_encoder.json: schema, gated, num_heads, width, …
  fusion.safetensors        the fusion and the logit scale, which are not transformers'; a scene
                            encoder has temperature.safetensors with its logit scale
  clip/                     or blip/: config, model.safetensors, tokenizer, preprocessor config
```
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, TypeGuard

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ric.errors import RicError, first_line
from ric.method.judge_pixels import PixelNumbers
from ric.model_files import read_json, require_whole
from ric.pretrained import load_network, refuse_not_finite

SCHEMA = 1


def load_tower(
    kind: type[PreTrainedModel], folder: Path, model_type: str, unused: tuple[str, ...]
) -> PreTrainedModel:
    """Load a transformers model from a local folder in float32, in evaluation mode.

    Args:
        kind: `CLIPModel` or `BlipForImageTextRetrieval`.
        folder: The folder `save_pretrained` wrote.
        model_type: The model type in its config.json: `clip` or `blip`.
        unused: Parts of the names of parameters that the contrastive path does not use and that
            may therefore be missing.

    Raises:
        RicError: The folder is missing, holds another model, only pickled weights or broken files,
            or lacks weights that the contrastive path needs.
    """
    found = read_json(folder / "config.json", what=f"a {model_type.upper()} model").get(
        "model_type"
    )
    if found != model_type:
        raise RicError(
            f"{folder} holds a model of type {found!r}, not {model_type!r}.",
            f"Give the folder of a {kind.__name__}.",
        )
    require_whole(folder, "text and image model")
    model = load_network(kind, folder, dtype=torch.float32, unused=unused)
    refuse_not_finite(model, folder)
    return model


def load_pixel_numbers(folder: Path, size: int) -> PixelNumbers:
    """Read mean and std from the preprocessor config beside a model; OpenAI's where there is none.

    Args:
        folder: The model's folder.
        size: The tower's input side in pixels, from the model's own config.

    Raises:
        RicError: The file is not a JSON object, or mean or std is not three finite numbers, std's
            above 0.
    """
    numbers: dict[str, Any] = {}
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (folder / name).is_file():
            loaded = read_json(folder / name, what="a preprocessor's numbers")
            # transformers 5 writes all parts of a processor into one file
            numbers = loaded.get("image_processor", loaded)
            break
    default = PixelNumbers(size)
    found = {}
    for key in ("mean", "std"):
        given = numbers.get(f"image_{key}") if isinstance(numbers, dict) else numbers
        found[key] = getattr(default, key) if given is None else given
    if not all(_of_three_channels(values) for values in found.values()) or min(found["std"]) <= 0:
        raise RicError(
            f"{folder / name} holds image_mean {found['mean']} and image_std {found['std']}, not"
            " RGB's."
        )
    return PixelNumbers(size, tuple(map(float, found["mean"])), tuple(map(float, found["std"])))


def _of_three_channels(values: Any) -> bool:
    return (
        isinstance(values, list | tuple)
        and len(values) == 3
        and all(isinstance(value, int | float) and math.isfinite(value) for value in values)
    )


def save_tower(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pixels: PixelNumbers,
    image_processor: str,
    folder: Path,
) -> None:
    """Write a model, its tokenizer and its preprocessor config as transformers reads them.

    Args:
        model: The CLIP or BLIP.
        tokenizer: Its fast tokenizer.
        pixels: Its input size, mean and std.
        image_processor: The transformers class of its image processor: `CLIPImageProcessor`, ….
        folder: Created if missing.
    """
    model.save_pretrained(folder, state_dict=_plain_layout(model.state_dict()))
    tokenizer.save_pretrained(folder)
    side = {"height": pixels.size, "width": pixels.size}
    numbers = {
        "image_processor_type": image_processor,
        "do_resize": True,
        "size": side,
        "resample": 3,  # PIL's number for bicubic
        "do_center_crop": False,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(pixels.mean),
        "image_std": list(pixels.std),
        "do_convert_rgb": True,
    }
    write_json(folder / "preprocessor_config.json", numbers)


def find_artifact(path: Path, name: str, made_by: str) -> tuple[Path, dict[str, Any]]:
    """Find an encoder's folder and read its json.

    Args:
        path: The folder itself, or a run's folder that contains one called `name`.
        name: `region_encoder` or `scene_encoder`.
        made_by: The command that writes it, for the hint.

    Returns:
        The folder and the contents of its `<name>.json`.

    Raises:
        RicError: There is no such folder, it is incomplete, or its schema is not this version's.
    """
    folder = path / name if (path / name).is_dir() else path
    if not (folder / f"{name}.json").is_file():
        raise RicError(
            f"{path} holds no {name} (no {name}.json).",
            f"Give a run of {made_by}, or its {name} folder.",
        )
    require_whole(folder, name)
    settings = read_json(folder / f"{name}.json", what=f"a {name}")
    schema = settings.get("schema")
    if schema != SCHEMA:
        raise RicError(
            f"{folder / f'{name}.json'} has schema {schema!r}; this ric reads {SCHEMA}.",
            "Update ric, or make the encoder again.",
        )
    return folder, settings


def refuse_other_tower(file: Path, settings: dict[str, Any], facts: dict[str, int]) -> None:
    """Compare the tower beside an encoder's json with the one it was saved with.

    Args:
        file: The json.
        settings: Its contents; an older `ric` wrote fewer of the facts.
        facts: `Judge.tower_facts` of the tower that was loaded.

    Raises:
        RicError: They differ in width, image size, patch size or vocabulary.
    """
    for key, found in facts.items():
        if settings.get(key, found) != found:
            raise RicError(
                f"{file} was saved with {key.replace('_', ' ')} {settings[key]}; the model"
                f" beside it has {found}.",
                "Put back the whole folder that the fit wrote, or fit a judge on this model.",
            )


def load_tensors(module: nn.Module, path: Path, names: set[str]) -> None:
    """Fill the named parameters of `module` from a safetensors file.

    Args:
        module: The module to fill.
        path: The file.
        names: Exactly the names that the file must hold.

    Raises:
        RicError: The file is missing or broken, holds a number that is not finite, or its names or
            shapes do not match.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise RicError(f"Cannot read {path}: {first_line(error)}") from error
    if bad := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise RicError(f"{path} holds numbers that are not finite, such as in {bad[0]}.")
    if tensors.keys() != names:
        odd = ", ".join(sorted(tensors.keys() ^ names)[:3])
        raise RicError(f"{path} does not hold its encoder's weights; the difference: {odd}.")
    try:
        module.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise RicError(
            f"{path} does not fit its encoder: {' '.join(str(error).split())}"
        ) from error


def save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write tensors as safetensors."""
    save_file(_plain_layout(tensors), path)


def is_count(value: Any) -> TypeGuard[int]:
    """Tell whether a value read from a file is a whole number above 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write an indented JSON object."""
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _plain_layout(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors to the CPU in the default memory layout: safetensors refuses channels_last."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
