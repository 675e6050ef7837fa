"""Loading DeepSeek-VL2-Tiny from the hub's own files, every tensor accounted for.

The files' headers are compared with the network before memory is taken or a weight is read. The
released model holds SigLIP's pooling head, which it never uses; nothing else may be left over or
missing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch
from accelerate import init_empty_weights
from safetensors import safe_open

from ric.describers.deepseek_vl2.network import Vl2
from ric.errors import RicError
from ric.model_files import is_variant, read_header
from ric.pretrained import errors_in_one_line

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from ric.describers.deepseek_vl2.architecture import Architecture

UNUSED = "vision.attn_pool."
# Our names of tensors that are stored as they are; the released ones follow.
RENAMED = (
    (r"^vision\.embeddings\.patch_embedding\.", "vision.patch_embed.proj."),
    (r"^vision\.post_layernorm\.", "vision.norm."),
    (r"^vision\.encoder\.layers\.(\d+)\.layer_norm(\d)\.", r"vision.blocks.\1.norm\2."),
    (r"^vision\.encoder\.layers\.(\d+)\.self_attn\.out_proj\.", r"vision.blocks.\1.attn.proj."),
    (r"^vision\.encoder\.layers\.(\d+)\.mlp\.", r"vision.blocks.\1.mlp."),
    (r"^view_separator$", "view_seperator"),  # codespell:ignore seperator
)
QKV = re.compile(r"vision\.encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj")
TENSORS_AT_ONCE = 256  # a file is mapped anew after these, so that its pages can be dropped


def load_vl2(
    folder: Path, architecture: Architecture, dtype: torch.dtype, device: torch.device
) -> Vl2:
    """Load a folder that `require_whole` has checked.

    No tensor is held twice, so the peak is the network's own size.

    Returns:
        The network in evaluation mode, its weights in `dtype`, on `device`.

    Raises:
        RicError: a tensor is missing, unknown, or has another shape; names it.
    """
    with (
        errors_in_one_line(f"Cannot build the network that {folder / 'config.json'} describes"),
        init_empty_weights(include_buffers=False),
    ):
        network = Vl2(architecture)
    stored = _stored(folder)
    shapes = {name: shape for name, (_, shape) in stored.items()}
    _refuse_other_tensors(folder, shapes, released_places(dict(network.named_parameters())))
    weights = {
        name: torch.empty(weight.shape, dtype=dtype, device=device)
        for name, weight in network.named_parameters()
    }
    places = released_places(weights)
    with errors_in_one_line(f"Cannot read the weights in {folder}"):
        for file in {file for file, _ in stored.values()}:
            _fill(places, file, [name for name, (held_by, _) in stored.items() if held_by == file])
    network.load_state_dict(weights, assign=True)
    if device.type == "cuda":
        network.group_experts()
    return network.requires_grad_(False).to(device).eval()


def _stored(folder: Path) -> dict[str, tuple[Path, tuple[int, ...]]]:
    """List the stored tensors with their files and shapes (raises RicError if one is there twice).

    A folder may hold two copies of a model, cut into different shards.
    """
    stored: dict[str, tuple[Path, tuple[int, ...]]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        if is_variant(file.name):
            continue
        for name, tensor in read_header(file).items():
            if name.startswith(UNUSED):
                continue
            if name in stored:
                raise RicError(
                    f"{folder} holds {name} twice, in {stored[name][0].name} and {file.name}.",
                    "Remove the files of one of the copies.",
                )
            stored[name] = (file, tuple(tensor["shape"]))
    return stored


def released_places(weights: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
    """List the released tensors, each with the parts of ours that it fills along its first axis.

    SigLIP's queries, keys and values are released as one tensor; the experts of a layer, which
    transformers computes as one tensor, are released one by one.

    Args:
        weights: The network's tensors by name.
    """
    places: dict[str, list[Tensor]] = {}
    for name, weight in weights.items():
        stem, _, last = name.rpartition(".")
        if name == "vision.embeddings.position_embedding.weight":
            places["vision.pos_embed"] = [weight[None]]
        elif found := QKV.fullmatch(stem):
            joined = f"vision.blocks.{found[1]}.attn.qkv.{last}"
            places.setdefault(joined, [weight] * 3)["qkv".index(found[2])] = weight
        elif last == "gate_up_proj":
            for expert, both in enumerate(weight):
                gate, up = both.chunk(2)
                places[f"{stem}.{expert}.gate_proj.weight"] = [gate]
                places[f"{stem}.{expert}.up_proj.weight"] = [up]
        elif last == "down_proj":
            for expert, down in enumerate(weight):
                places[f"{stem}.{expert}.down_proj.weight"] = [down]
        else:
            for ours, theirs in RENAMED:
                name = re.sub(ours, theirs, name)
            places[name] = [weight]
    return places


def _refuse_other_tensors(
    folder: Path, shapes: Mapping[str, tuple[int, ...]], places: Mapping[str, list[Tensor]]
) -> None:
    """Compare the stored tensors with the released names; raises RicError that names the first."""
    needed = {
        name: (sum(len(part) for part in parts), *parts[0].shape[1:])
        for name, parts in places.items()
    }
    missing = sorted(needed.keys() - shapes.keys())
    unknown = sorted(shapes.keys() - needed.keys())
    other = sorted(name for name in needed.keys() & shapes.keys() if needed[name] != shapes[name])
    problem = None
    if missing:
        problem = f"lacks {len(missing)} of its tensors, such as {missing[0]}"
    elif unknown:
        problem = f"has {len(unknown)} tensors that are not its own, such as {unknown[0]}"
    elif other:
        held, said = shapes[other[0]], needed[other[0]]
        problem = f"has {other[0]} of shape {held}, not {said} as its config.json says"
    if problem:
        raise RicError(
            f"The DeepSeek-VL2-Tiny in {folder} {problem}.", "Copy or download the folder again."
        )


def _fill(places: Mapping[str, list[Tensor]], file: Path, names: list[str]) -> None:
    """Copy a file's tensors to their places."""
    for first in range(0, len(names), TENSORS_AT_ONCE):
        with safe_open(file, framework="pt") as held:
            for name in names[first : first + TENSORS_AT_ONCE]:
                parts = places[name]
                sizes = [len(part) for part in parts]
                for part, values in zip(parts, held.get_tensor(name).split(sizes), strict=True):
                    part.copy_(values)
