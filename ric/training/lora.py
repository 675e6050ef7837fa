"""LoRA: low-rank updates beside a UNet's attention, trained in place of its weights.

Hu et al., arXiv 2106.09685: W + B A with B (out, r) and A (r, in); B starts at zero, so that the
first step begins at the base. alpha is r: the update counts as it is. The layers are peft's, the
file is one that any diffusers pipeline of this base loads with `load_lora_weights`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ric.extras import require_extra

if TYPE_CHECKING:
    from pathlib import Path

    from diffusers import UNet2DConditionModel

# the projections of self- and cross-attention, as diffusers' own LoRA scripts take them
PROJECTIONS = ["to_q", "to_k", "to_v", "to_out.0"]


def add_lora(unet: UNet2DConditionModel, rank: int, seed: int) -> None:
    """Freeze a UNet and put trainable low-rank updates beside its attention's projections.

    Args:
        unet: Of 8 input channels, or the source would be read by frozen zeros.
        rank: r, at least 1.
        seed: Seeds A; the global random state is left alone.

    Raises:
        RicError: peft is not installed.
    """
    require_extra("peft")
    from peft import LoraConfig

    unet.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # of the CPU alone
        device = unet.device
        unet.to("cpu").add_adapter(
            LoraConfig(
                r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=PROJECTIONS
            )
        )
        unet.to(device)


def export_lora(unet: UNet2DConditionModel, folder: Path) -> None:
    """Write the updates alone, `pytorch_lora_weights.safetensors`, and add them to the weights.

    Args:
        unet: From `add_lora`; afterwards an ordinary UNet of W + B A.
        folder: Is there already.
    """
    from diffusers import StableDiffusionInstructPix2PixPipeline
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import get_peft_model_state_dict

    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))
    layers = {name: tensor.contiguous() for name, tensor in layers.items()}
    StableDiffusionInstructPix2PixPipeline.save_lora_weights(folder, unet_lora_layers=layers)
    unet.fuse_lora()
    unet.unload_lora()
