"""InstructPix2Pix-type pipelines: loading any of them, and what training and editing share.

Loaded explicitly as `StableDiffusionInstructPix2PixPipeline`, since some of the hub's folders name
another class (vinesmsuic/magicbrush-jul7 does), without the safety checker, and as float32.

Choice 10, starting point: an 8-channel UNet is used as it is; a 4-channel one gets four more input
channels whose weights are zero, and keeps its bias.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from torch import nn

from ric.errors import RicError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from diffusers import UNet2DConditionModel
    from torch import Tensor

# Shape letters: B batch, L text tokens, E text width.


def load_pipeline(
    path: Path, device: torch.device, dtype: torch.dtype = torch.float32
) -> StableDiffusionInstructPix2PixPipeline:
    """Load a pipeline folder that reads a source picture and an instruction.

    Raises:
        RicError: the folder is no pipeline, holds pickles only, or its parts do not fit together.
    """
    if not (path / "model_index.json").is_file():
        raise RicError(
            f"{path} is no diffusers pipeline: it has no model_index.json.",
            "Name a train-unet run, a pipeline folder, or a hub id such as timbrooks/instruct-pix2pix.",
        )
    try:
        pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(
            path,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RicError(
            f"Cannot load the pipeline in {path}: {str(error).splitlines()[0]}",
            "Weights that come only as .bin or .ckpt: ric weights convert FILE OUT",
        ) from None
    text_width = pipeline.text_encoder.config.hidden_size
    if text_width != pipeline.unet.config.cross_attention_dim:
        raise RicError(
            f"{path}: the text encoder is {text_width} wide, the UNet reads "
            f"{pipeline.unet.config.cross_attention_dim}."
        )
    if pipeline.vae.config.latent_channels != pipeline.unet.config.out_channels:
        raise RicError(
            f"{path}: the VAE has {pipeline.vae.config.latent_channels} latent channels, the UNet "
            f"predicts {pipeline.unet.config.out_channels}."
        )
    pipeline.set_progress_bar_config(disable=True)
    for module in (pipeline.vae, pipeline.text_encoder):
        module.requires_grad_(False).eval()
    return pipeline.to(device)


def read_source_channels(unet: UNet2DConditionModel) -> None:
    """Give a 4-channel UNet four more input channels, zero, in place; leave an 8-channel one.

    The widened UNet's output equals the old one's for every source picture (choice 10).

    Raises:
        RicError: the UNet has neither 4 nor 8 input channels.
    """
    old = unet.conv_in
    latent = unet.config.out_channels
    if old.in_channels == 2 * latent:
        return
    if old.in_channels != latent:
        raise RicError(
            f"The UNet reads {old.in_channels} channels; {latent} or {2 * latent} were expected.",
            "Inpainting and depth UNets cannot be a --base.",
        )
    new = nn.Conv2d(2 * latent, old.out_channels, old.kernel_size, old.stride, old.padding)
    new.to(device=old.weight.device, dtype=old.weight.dtype)
    with torch.no_grad():
        new.weight.zero_()
        new.weight[:, :latent].copy_(old.weight)
        new.bias.copy_(old.bias)
    unet.conv_in = new
    unet.register_to_config(in_channels=2 * latent)


@torch.no_grad()
def encode_prompts(
    pipeline: StableDiffusionInstructPix2PixPipeline, texts: Sequence[str]
) -> Tensor:
    """Embed instructions: e_prompt (B, L, E), padded to the tokenizer's length (Eq. 4)."""
    ids = pipeline.tokenizer(
        list(texts),
        padding="max_length",
        max_length=pipeline.tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    ).input_ids
    return pipeline.text_encoder(ids.to(pipeline.text_encoder.device)).last_hidden_state


@torch.no_grad()
def encode_source(pipeline: StableDiffusionInstructPix2PixPipeline, images: Tensor) -> Tensor:
    """Encode source pictures (B, 3, H, W) in [-1, 1]: posterior mode, not scaled (choice 12)."""
    return pipeline.vae.encode(images.to(pipeline.vae.dtype)).latent_dist.mode()
