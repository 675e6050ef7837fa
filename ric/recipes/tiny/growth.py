"""A deeper or a wider UNet that starts as the one it grew from (Chen et al. 2016, Net2Net).

To grow deeper, a trained UNet gets further ResNet blocks and transformers whose last layer is zero,
so that each passes on what it is given. To grow wider, each of its layers gets further channels,
whole groups of them for the group norms, which read from all and are read, at first, by none of the
old. It predicts what it predicted before, or nearly, and its training goes on with more weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from diffusers import UNet2DConditionModel
from torch import nn

if TYPE_CHECKING:
    from fractions import Fraction

    from torch import Tensor

QUIET = 0.1  # the scale of new channels after a norm, a tenth of what a fresh network has
RIDGE = 10.0  # to the sums over 1,000 timesteps of the products of two sinusoids
IN_STREAM = ("proj_in", "to_out.0", "ff.net.2", *(f"blocks.0.norm{n}" for n in (1, 2, 3)))
OUTSIDE_LEVELS = ("conv_in", "time_embedding", "mid_block", "conv_norm_out", "conv_out")


def deepen(unet: UNet2DConditionModel, layers: int) -> UNet2DConditionModel:
    """Return a UNet with `layers` ResNet blocks per level that computes the same function.

    Args:
        unet: A UNet of at most `layers` blocks per level; it is left as it is.
        layers: diffusers' `layers_per_block`. A level of the decoder has one block more.

    Returns:
        A new UNet on the same device. The layers of `unet` keep their weights; the new ones are
        seeded by torch's global random state, their last layers are zero.

    Raises:
        ValueError: the UNet has more layers, or another number of them at each level.
    """
    before = unet.config.layers_per_block
    if not isinstance(before, int) or before > layers:
        raise ValueError(f"a UNet of {before} layers per block cannot become one of {layers}")
    deeper = UNet2DConditionModel.from_config({**unet.config, "layers_per_block": layers})
    deeper.to(device=unet.device, dtype=unet.dtype)
    for name in OUTSIDE_LEVELS:
        getattr(deeper, name).load_state_dict(getattr(unet, name).state_dict())
    for old, new in zip(unet.down_blocks, deeper.down_blocks, strict=True):
        _copy_level(old, new, list(range(before)))
    for old, new in zip(unet.up_blocks, deeper.up_blocks, strict=True):
        # the decoder's last block reads the features of the level above, so it stays the last
        _copy_level(old, new, [*range(before), layers])
    return deeper


@torch.no_grad()
def widen(unet: UNet2DConditionModel, factor: Fraction) -> UNet2DConditionModel:
    """Return a UNet of `factor` times the channels, groups and heads that predicts nearly the same.

    Only two of its parts compute something else than before: a group norm over the channels of two
    levels has its groups elsewhere, and a layer norm also counts copies of some channels.

    Args:
        unet: The UNet, with attention heads given by number; it is left as it is.
        factor: 1 or more.

    Returns:
        A new UNet on the same device; the weights that it adds are seeded by torch's global random
        state, or zero where an old channel would read from a new one.

    Raises:
        ValueError: the factor does not give whole channels, groups and heads.
    """
    config = dict(unet.config)
    grown = {
        "block_out_channels": [factor * count for count in config["block_out_channels"]],
        "norm_num_groups": [factor * config["norm_num_groups"]],
        "attention_head_dim": [factor * config["attention_head_dim"]],  # diffusers' name for heads
    }
    if factor < 1 or any(count.denominator > 1 for counts in grown.values() for count in counts):
        raise ValueError(f"a UNet cannot have {factor} times its channels, groups and heads")
    channels, groups, heads = ([int(count) for count in counts] for counts in grown.values())
    embedding = unet.time_embedding.linear_2.out_features
    wider = UNet2DConditionModel.from_config(
        config
        | {
            "block_out_channels": channels,
            "norm_num_groups": groups[0],
            "attention_head_dim": heads[0],
            "time_embedding_dim": embedding,
        }
    )
    wider.to(device=unet.device, dtype=unet.dtype)
    joined, old_weights = _joined_parts(unet), unet.state_dict()
    for name, new in wider.state_dict().items():
        layer, _, kind = name.rpartition(".")
        if name == "time_embedding.linear_1.weight":
            new.copy_(_read_sinusoids(unet, wider))
        else:
            _fill(new, old_weights[name], layer, joined.get(layer), factor)
            if kind == "weight" and _is_norm(layer):
                _quiet(new, old_weights[name], joined.get(layer), factor)
    return wider


def _joined_parts(unet: UNet2DConditionModel) -> dict[str, tuple[int, ...]]:
    """Map the layers that read the decoder's joined features to the channels of their parts."""
    parts: dict[str, tuple[int, ...]] = {}
    skips = [unet.conv_in.out_channels]
    for level in unet.down_blocks:
        skips += [block.out_channels for block in level.resnets]
        skips += [layer.out_channels for layer in level.downsamplers or ()]
    for place, level in enumerate(unet.up_blocks):
        for index, block in enumerate(level.resnets):
            skip = skips.pop()
            both = (block.in_channels - skip, skip)
            for layer in ("norm1", "conv1", "conv_shortcut"):
                parts[f"up_blocks.{place}.resnets.{index}.{layer}"] = both
    return parts


def _is_norm(layer: str) -> bool:
    return "norm" in layer.rpartition(".")[2]


def _fill(
    new: Tensor, old: Tensor, layer: str, joined: tuple[int, ...] | None, factor: Fraction
) -> None:
    """Put a layer's old weights into the new ones, in place.

    Args:
        new: The weights or the bias of the wider layer.
        old: Those of the layer it grew from.
        layer: Its name.
        joined: The channels of the parts that it reads, if it reads several.
        factor: How many times the channels it has.
    """
    parts = joined if _is_norm(layer) else None
    if layer.endswith("ff.net.0.proj"):  # GEGLU: values, then their gates
        parts = (old.shape[0] // 2,) * 2
    outputs = _places(old.shape[0], new.shape[0], parts, factor)
    if old.ndim == 1:
        new[outputs] = old
    else:
        rows = torch.zeros_like(new[outputs])
        rows[:, _places(old.shape[1], new.shape[1], joined, factor)] = old
        new[outputs] = rows
    if layer.endswith(IN_STREAM) and len(new) > len(old):
        # the stream that layer norms read: its new channels are copies, which keep its statistics
        copied = torch.arange(len(new) - len(old)) * 2 % len(old)
        new[len(old) :] = new[outputs][copied]


def _quiet(new: Tensor, old: Tensor, joined: tuple[int, ...] | None, factor: Fraction) -> None:
    """Scale down what a norm makes of the new channels."""
    loud = _places(len(old), len(new), joined, factor)
    new[[place for place in range(len(new)) if place not in loud]] = QUIET


def _places(before: int, after: int, parts: tuple[int, ...] | None, factor: Fraction) -> list[int]:
    """List where the `before` old channels stand among the new ones, part by part."""
    if before == after:
        return list(range(before))
    places: list[int] = []
    start = 0
    for part in parts or (before,):
        places += range(start, start + part)
        start += int(part * factor)
    return places


def _read_sinusoids(unet: UNet2DConditionModel, wider: UNet2DConditionModel) -> Tensor:
    """Fit the time embedding's first weights to the other frequencies that the wider UNet has.

    By ridge regression over all t: without it they would be large and cancel each other, which no
    half precision withstands.
    """
    steps = torch.arange(1000, device=unet.device)
    old, new = (net.time_proj(steps).double() for net in (unet, wider))
    wanted = old @ unet.time_embedding.linear_1.weight.double().T
    covariance = new.T @ new + RIDGE * torch.eye(new.shape[1], dtype=new.dtype, device=new.device)
    return torch.linalg.solve(covariance, new.T @ wanted).T.to(unet.dtype)


def _copy_level(old: Any, new: Any, places: list[int]) -> None:
    """Copy a level's layers to `places` of the new one; make the others pass on their input."""
    kinds = [kind for kind in ("resnets", "attentions") if hasattr(old, kind)]
    for kind in kinds:
        for source, place in zip(getattr(old, kind), places, strict=True):
            getattr(new, kind)[place].load_state_dict(source.state_dict())
    for index, block in enumerate(new.resnets):
        if index not in places:
            _pass_on(block)
            if "attentions" in kinds:
                _zero(new.attentions[index].proj_out)
    for kind in ("downsamplers", "upsamplers"):
        if getattr(old, kind, None) is not None:
            getattr(new, kind).load_state_dict(getattr(old, kind).state_dict())


def _pass_on(block: Any) -> None:
    """Make a ResNet block return the first channels of its input, as many as it has outputs."""
    _zero(block.conv2)
    if block.conv_shortcut is not None:  # in the decoder: the skip connection's channels are last
        with torch.no_grad():
            nn.init.dirac_(block.conv_shortcut.weight)
            nn.init.zeros_(block.conv_shortcut.bias)


def _zero(layer: Any) -> None:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
