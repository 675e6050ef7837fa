"""A deeper UNet that starts as the one it grew from.

A trained UNet gets further ResNet blocks and transformers whose last layer is zero, so that each
passes on what it is given (Chen et al. 2016, Net2Net). It predicts what it predicted before, and
its training goes on with more layers.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import nn

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
