"""The GPU memory of a `train-unet` step, counted from the networks' configs alone.

Weights, gradients, moments, EMA and frozen networks are counted to the byte, and so are the
activations that the backward pass needs (`activations`). Nothing is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from math import ceil
from typing import TYPE_CHECKING

import torch
from torch import nn

from ric.device import pick_dtype
from ric.errors import RicError
from ric.memory.activations import count_saved_activations
from ric.memory.meta_networks import (
    StepNetworks,
    pipeline_shapes,
    region_judge_shape,
    scene_judge_shape,
    small_decoder_shape,
)
from ric.models.locate import find
from ric.models.table import NamedModel, row_of, uses
from ric.pretrained import errors_in_one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from ric.config import TrainUnetConfig
    from ric.memory.activations import SavedActivations

# 8-bit AdamW (bitsandbytes): one byte per moment, a float32 for every 256 of them; small tensors
# keep float32
SMALL, IN_A_BLOCK = 4096, 256


class NotHereError(RicError):
    """A network is not on this machine, and its shape is not known."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """The parts of a step's memory, in bytes unless said otherwise.

    Attributes:
        batch: Samples of the batch in one process.
        weights: The UNet's, LoRA included, float32.
        gradients: Those of the trained weights, float32.
        moments: Both of AdamW's, float32.
        moments_8bit: The same in 8 bits.
        ema: The EMA's; 0 without one.
        frozen: VAE, loss decoder, text encoder, both judges, float32.
        copies: Trained weights in bfloat16, which autocast holds until the forward pass ends.
        buckets: DDP's, as large as the gradients; 0 for one process.
        activations: The activations for the backward pass, without or with checkpointing.
    """

    batch: int
    weights: int
    gradients: int
    moments: int
    moments_8bit: int
    ema: int
    frozen: int
    copies: int
    buckets: int
    activations: Callable[[bool], SavedActivations] = field(repr=False)


def count_step(config: TrainUnetConfig, runs_dir: Path, *, processes: int = 1) -> Step:
    """Count the memory of a step from the networks' configs alone.

    Args:
        config: Names the networks and the sizes. A GPU's rules apply, unless it asks for the CPU.
        runs_dir: Where runs are looked for.
        processes: The number of processes that train together, each with its GPU.

    Raises:
        NotHereError: a network is not on this machine, and is not one of the paper's.
        RicError: a network's folder lacks its config.
    """
    networks = _networks(config, runs_dir)
    trained = [weight for weight in networks.unet.parameters() if weight.requires_grad]
    numbers = sum(weight.numel() for weight in trained)
    device = "cpu" if config.device == "cpu" else "cuda"
    if device == "cpu":
        dtype = pick_dtype(config.dtype, torch.device(device))
    else:  # a plan for a GPU that need not be in this machine
        dtype = torch.float32 if config.dtype == "fp32" else torch.bfloat16
    activations = count_saved_activations(
        networks, image_size=config.image_size, dtype=dtype, device=device
    )
    return Step(
        batch=ceil(config.batch_size / processes),
        weights=_bytes_of([networks.unet]),
        gradients=4 * numbers,
        moments=8 * numbers,
        moments_8bit=sum(2 * _moment_8bit(weight.numel()) for weight in trained),
        ema=4 * numbers if config.ema else 0,
        frozen=_bytes_of(networks.frozen()),
        copies=0 if dtype == torch.float32 else _cast_copies(networks.unet),
        buckets=4 * numbers if processes > 1 else 0,
        activations=cache(activations),
    )


@errors_in_one_line("--memory cannot plan for these networks")
def _networks(config: TrainUnetConfig, runs_dir: Path) -> StepNetworks:
    def place(setting: str) -> Path | None:
        name, row = getattr(config, setting), row_of(config, setting)
        found = name and find(config, NamedModel(name, row), runs_dir)
        # the paper's networks have known shapes, and so does a judge that is not named yet
        if not found and name not in (*row.known, None):
            raise NotHereError(
                f"--memory cannot plan before {name} is on this machine.",
                f"Get it first: ric weights get {name}",
            )
        return found or None

    base = place("base")
    unet, vae, text_encoder = pipeline_shapes(base, config.lora_rank)
    decoder = vae
    if uses(config, "loss_decoder"):
        decoder = small_decoder_shape(place("loss_decoder"))
    region = scene = None
    if uses(config, "region_clip"):
        folder = place("region_clip")
        region = region_judge_shape(folder, gated=config.gated_fusion)
    if uses(config, "scene_blip"):
        scene = scene_judge_shape(place("scene_blip"))
    return StepNetworks(unet, vae, decoder, text_encoder, region, scene)


def _bytes_of(networks: Iterable[nn.Module]) -> int:
    return sum(
        tensor.nbytes
        for network in networks
        for tensor in (*network.parameters(), *network.buffers())
    )


def _moment_8bit(numbers: int) -> int:
    return 4 * numbers if numbers < SMALL else numbers + 4 * ceil(numbers / IN_A_BLOCK)


def _cast_copies(unet: nn.Module) -> int:
    """Return the bytes of autocast's bfloat16 copies of trained linear and convolution weights."""
    return 2 * sum(
        weight.numel()
        for module in unet.modules()
        if isinstance(module, (nn.Linear, nn.Conv2d))
        for weight in module.parameters(recurse=False)
        if weight.requires_grad
    )
