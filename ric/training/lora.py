"""LoRA: low-rank updates beside a UNet's attention, trained in place of its weights.

Hu et al., arXiv 2106.09685: W + B A with B (out, r) and A (r, in); B starts at zero, so training
starts exactly at the base. alpha is r, so the update is not scaled. The layers are peft's; any
diffusers pipeline of this base loads the file with `load_lora_weights`.
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
    """Freeze a UNet and add trainable low-rank updates to its attention's projections.

    Args:
        unet: With 8 trained input channels; newly added ones would stay frozen at zero.
        rank: r, at least 1.
        seed: Seeds A; the global random state is left alone.

    Raises:
        RicError: peft is not installed.
    """
    require_extra("peft", "--lora-rank")
    from peft import LoraConfig

    unet.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the CPU's alone
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
        folder: An existing folder.
    """
    from diffusers import StableDiffusionInstructPix2PixPipeline
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import get_peft_model_state_dict

    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))
    layers = {name: tensor.contiguous() for name, tensor in layers.items()}
    StableDiffusionInstructPix2PixPipeline.save_lora_weights(folder, unet_lora_layers=layers)
    unet.fuse_lora()
    unet.unload_lora()
