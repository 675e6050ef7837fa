"""InstructPix2Pix-type pipelines: loading any of them, and what training and editing share.

Loaded explicitly as `StableDiffusionInstructPix2PixPipeline`, since some of the hub's folders name
another class (vinesmsuic/magicbrush-jul7 does), without the safety checker, and as float32. Such a
folder brings the other class's scheduler; it is edited with Euler-ancestral, as InstructPix2Pix and
MagicBrush are.

Choice 10, starting point: an 8-channel UNet is used as it is; a 4-channel one gets four more input
channels whose weights are zero, and keeps its bias.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from diffusers import (
    AutoencoderTiny,
    EulerAncestralDiscreteScheduler,
    StableDiffusionInstructPix2PixPipeline,
)
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError
from torch import nn
from transformers import CLIPTextModel

from ric.errors import RicError, first_line

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from diffusers import UNet2DConditionModel
    from torch import Tensor

# Shape letters: B batch, L text tokens, E text width, H and W pixels, C latent channels.


def load_pipeline(
    path: Path, device: torch.device, dtype: torch.dtype = torch.float32
) -> StableDiffusionInstructPix2PixPipeline:
    """Load a pipeline folder that reads a source picture and an instruction.

    Raises:
        RicError: the folder is no pipeline, holds pickles only, lacks a part or some of a part's
            weights, or its parts do not fit together.
    """
    index = _read_index(path)
    diffusers_logging.disable_progress_bar()  # it draws over the command's own bars
    try:
        # diffusers would leave what the text encoder's file lacks random, without a word
        text_encoder, loaded = CLIPTextModel.from_pretrained(
            path / "text_encoder",
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
        pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(
            path,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            text_encoder=text_encoder,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise RicError(
            f"Cannot load the pipeline in {path}: {first_line(error)}",
            "Weights that come only as .bin or .ckpt: ric weights convert FILE OUT",
        ) from None
    _refuse_missing_weights(path, pipeline, set(loaded["missing_keys"]))
    _refuse_misfits(path, pipeline)
    if index["_class_name"] != StableDiffusionInstructPix2PixPipeline.__name__:
        pipeline.scheduler = EulerAncestralDiscreteScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    for module in (pipeline.vae, pipeline.text_encoder):
        module.requires_grad_(False).eval()
    return pipeline.to(device)


PARTS = ("vae", "unet", "text_encoder", "tokenizer", "scheduler")


def _read_index(path: Path) -> dict[str, Any]:
    """Read model_index.json, and see that every part has its folder."""
    try:
        index = json.loads((path / "model_index.json").read_text(encoding="utf-8"))
    except OSError:
        raise RicError(
            f"{path} is no diffusers pipeline: it has no model_index.json.",
            "Name a train-unet run, a pipeline folder, or a hub id such as "
            "timbrooks/instruct-pix2pix.",
        ) from None
    except ValueError:
        index = None
    if not isinstance(index, dict) or "_class_name" not in index:
        raise RicError(f"{path}/model_index.json is not a pipeline's.", "Get the folder again.")
    for part in PARTS:
        # without its folder, transformers would make up an empty tokenizer
        if not (path / part).is_dir():
            raise RicError(
                f"The pipeline in {path} has no folder {part}.",
                f"It needs: {', '.join(PARTS)}.",
            )
    return index


def _refuse_missing_weights(
    path: Path, pipeline: StableDiffusionInstructPix2PixPipeline, of_text_encoder: set[str]
) -> None:
    lacking = {"text_encoder": sorted(of_text_encoder)}
    for part in ("vae", "unet"):
        # what a file lacks diffusers leaves without storage
        parameters = getattr(pipeline, part).named_parameters()
        lacking[part] = sorted(name for name, tensor in parameters if tensor.is_meta)
    for part, names in lacking.items():
        if names:
            raise RicError(
                f"The {part} in {path} lacks {len(names)} weights, such as {names[0]}.",
                "Get the folder again.",
            )


def _refuse_misfits(path: Path, pipeline: StableDiffusionInstructPix2PixPipeline) -> None:
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


def load_small_decoder(
    path: Path, pipeline: StableDiffusionInstructPix2PixPipeline
) -> AutoencoderTiny:
    """Load an AutoencoderTiny (such as TAESD) that decodes the pipeline's latents.

    Raises:
        RicError: the folder holds something else, or it is for other latents.
    """
    hint = "Give an AutoencoderTiny's folder or hub id, such as madebyollin/taesd, or vae."
    try:
        decoder = AutoencoderTiny.from_pretrained(
            path, dtype=torch.float32, use_safetensors=True, local_files_only=True
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise RicError(
            f"Cannot load the small decoder in {path}: {first_line(error)}", hint
        ) from None
    lacking = [name for name, tensor in decoder.named_parameters() if tensor.is_meta]
    if decoder.config.get("_class_name") != AutoencoderTiny.__name__ or lacking:
        raise RicError(f"{path} holds no AutoencoderTiny.", hint)
    ours, theirs = (
        (vae.config.latent_channels, 2 ** (len(blocks) - 1))
        for vae, blocks in (
            (pipeline.vae, pipeline.vae.config.block_out_channels),
            (decoder, decoder.config.decoder_block_out_channels),
        )
    )
    if ours != theirs:
        raise RicError(
            f"The small decoder in {path} is for latents of {theirs[0]} channels at 1/{theirs[1]}"
            f" of the side; this pipeline's have {ours[0]} at 1/{ours[1]}.",
            "Give one that belongs to this pipeline's VAE, or --loss-decoder vae.",
        )
    return decoder.to(pipeline.device)


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
    _set_input_channels(unet, 2 * latent)


def forget_source_channels(unet: UNet2DConditionModel) -> None:
    """Cut the four source channels off an editor's UNet, in place; leave a 4-channel one.

    It then answers as it did where the source was dropped, and draws from text alone.
    """
    if unet.conv_in.in_channels != unet.config.out_channels:
        _set_input_channels(unet, unet.config.out_channels)


def _set_input_channels(unet: UNet2DConditionModel, count: int) -> None:
    """Let a UNet read `count` channels: the first ones as before, more with weight zero."""
    old = unet.conv_in
    kept = min(old.in_channels, count)
    new = nn.Conv2d(count, old.out_channels, old.kernel_size, old.stride, old.padding)
    new.to(device=old.weight.device, dtype=old.weight.dtype)
    with torch.no_grad():
        new.weight.zero_()
        new.weight[:, :kept].copy_(old.weight[:, :kept])
        new.bias = old.bias
    unet.conv_in = new
    unet.register_to_config(in_channels=count)


def size_multiple(pipeline: StableDiffusionInstructPix2PixPipeline) -> int:
    """Give the pixels that a picture's sides must be a multiple of for VAE and UNet to halve."""
    halvings = len(pipeline.unet.config.block_out_channels) - 1
    return pipeline.vae_scale_factor * 2**halvings


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


def count_cut(pipeline: StableDiffusionInstructPix2PixPipeline, texts: Sequence[str]) -> int:
    """Count the instructions of which `encode_prompts` cuts off the end."""
    tokenizer = pipeline.tokenizer
    ids = tokenizer(list(texts), truncation=False, padding=False, verbose=False).input_ids
    return sum(len(one) > tokenizer.model_max_length for one in ids)


@torch.no_grad()
def encode_source(pipeline: StableDiffusionInstructPix2PixPipeline, images: Tensor) -> Tensor:
    """Encode source pictures (B, 3, H, W) in [-1, 1]: posterior mode, not scaled (choice 12)."""
    return pipeline.vae.encode(images.to(pipeline.vae.dtype)).latent_dist.mode()
