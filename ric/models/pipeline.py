"""Stable Diffusion's pipelines: loading any of them, and what training and editing share.

An InstructPix2Pix-type pipeline is loaded explicitly as
`StableDiffusionInstructPix2PixPipeline`, since some of the hub's folders name another class
(vinesmsuic/magicbrush-jul7 does), without the safety checker, and in float32 by default. Such a
folder comes with the other class's scheduler; it is replaced by Euler-ancestral, which
InstructPix2Pix and MagicBrush use.

Choice 10, starting point: an 8-channel UNet is used as it is; a 4-channel one gets four more input
channels whose weights are zero, and keeps its bias.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    EulerAncestralDiscreteScheduler,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from torch import nn
from transformers import CLIPTextModel

from ric.errors import RicError
from ric.model_files import read_json, require_whole
from ric.pretrained import (
    errors_in_one_line,
    load_network,
    load_tokenizer,
    refuse_foreign_words,
    refuse_not_finite,
    refuse_other_weights,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

Pipeline: TypeAlias = StableDiffusionInstructPix2PixPipeline | StableDiffusionPipeline
PipelineT = TypeVar("PipelineT", StableDiffusionInstructPix2PixPipeline, StableDiffusionPipeline)

# Shape letters: B batch, L text tokens, E text width, H and W pixels, C latent channels.


def load_pipeline(
    path: Path, device: torch.device, dtype: torch.dtype = torch.float32
) -> StableDiffusionInstructPix2PixPipeline:
    """Load a pipeline folder that reads a source picture and an instruction.

    Raises:
        RicError: the folder is not a pipeline, holds only pickles, lacks a part or some of a part's
            weights, holds weights that are not finite, or its parts do not fit together.
    """
    pipeline, index = _load(StableDiffusionInstructPix2PixPipeline, path, device, dtype)
    if index["_class_name"] != StableDiffusionInstructPix2PixPipeline.__name__:
        pipeline.scheduler = EulerAncestralDiscreteScheduler.from_config(pipeline.scheduler.config)
    return pipeline


def load_text_to_image(
    path: Path, device: torch.device, dtype: torch.dtype = torch.float32
) -> StableDiffusionPipeline:
    """Load a pipeline folder that draws from text alone.

    Raises:
        RicError: as `load_pipeline`, or its UNet reads more than the noisy latents.
    """
    pipeline, _ = _load(StableDiffusionPipeline, path, device, dtype)
    reads, latent = pipeline.unet.config.in_channels, pipeline.unet.config.out_channels
    if reads != latent:
        raise RicError(
            f"The UNet in {path} reads {reads} channels; one that draws from text alone reads"
            f" {latent}.",
            "Name a text-to-image pipeline, such as CompVis/stable-diffusion-v1-4.",
        )
    return pipeline


def _load(
    kind: type[PipelineT], path: Path, device: torch.device, dtype: torch.dtype
) -> tuple[PipelineT, dict[str, Any]]:
    """Load a pipeline folder as `kind`, and its model_index.json (Raises RicError)."""
    require_whole(path, "pipeline")
    index = _read_index(path)
    parts = {
        "vae": _load_of_diffusers(AutoencoderKL, path / "vae", dtype),
        "unet": _load_of_diffusers(UNet2DConditionModel, path / "unet", dtype),
        "text_encoder": _load_text_encoder(path / "text_encoder", dtype),
        "tokenizer": load_tokenizer(path / "tokenizer"),
    }
    with errors_in_one_line(f"Cannot load the pipeline in {path}"):
        pipeline = kind.from_pretrained(
            path,
            local_files_only=True,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
            **parts,
        )
    _refuse_misfits(path, pipeline)
    pipeline.set_progress_bar_config(disable=True)
    for module in (pipeline.vae, pipeline.text_encoder):
        module.requires_grad_(False).eval()
    return pipeline.to(device), index


CLASSES = {"vae": AutoencoderKL, "unet": UNet2DConditionModel, "text_encoder": CLIPTextModel}


def _read_index(path: Path) -> dict[str, Any]:
    """Read model_index.json, and check that its networks are of the classes that ric loads."""
    index = read_json(path / "model_index.json")
    if "_class_name" not in index:
        raise RicError(f"{path}/model_index.json is not a pipeline's.", "Get the folder again.")
    for part, ours in CLASSES.items():
        if index.get(part) != [ours.__module__.split(".")[0], ours.__name__]:
            raise RicError(
                f"The {part} in {path} is of {index.get(part)}; ric loads a {ours.__name__}, and"
                " runs no custom code.",
                "Name a pipeline of Stable Diffusion 1 or 2.",
            )
    return index


def _load_of_diffusers(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """Load a network of diffusers, complete or not at all (raises RicError)."""
    named = f"{folder.name} in {folder.parent}"
    with errors_in_one_line(f"Cannot load the {named}"):
        network, report = kind.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    refuse_other_weights(named, report["missing_keys"], report["unexpected_keys"])
    refuse_not_finite(network, folder)
    return network


def _load_text_encoder(folder: Path, dtype: torch.dtype) -> CLIPTextModel:
    network = load_network(CLIPTextModel, folder, dtype=dtype)
    refuse_not_finite(network, folder)
    return network


def _refuse_misfits(path: Path, pipeline: Pipeline) -> None:
    words = pipeline.text_encoder.config.vocab_size
    refuse_foreign_words(path, pipeline.tokenizer, words)
    longest, places = pipeline.tokenizer.model_max_length, pipeline.text_encoder.config
    if not 2 < longest <= places.max_position_embeddings:
        raise RicError(
            f"{path}: the tokenizer cuts texts at {longest:.4g} tokens, and its text encoder has"
            f" places for {places.max_position_embeddings}.",
            "Set model_max_length in its tokenizer_config.json, or get the folder again.",
        )
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
        RicError: the folder holds something else, or a decoder of other latents.
    """
    hint = "Give an AutoencoderTiny's folder or hub id, such as madebyollin/taesd, or vae."
    require_whole(path, "network")
    if read_json(path / "config.json").get("_class_name") != AutoencoderTiny.__name__:
        raise RicError(f"{path} holds no AutoencoderTiny.", hint)
    decoder = _load_of_diffusers(AutoencoderTiny, path, torch.float32)
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
    """Add four zero input channels to a 4-channel UNet, in place; leave an 8-channel one as it is.

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
    """Cut the four source channels off an editor's UNet, in place; leave a 4-channel one as it is.

    It then predicts as it did where the source was dropped: from text alone.
    """
    if unet.conv_in.in_channels != unet.config.out_channels:
        _set_input_channels(unet, unet.config.out_channels)


def _set_input_channels(unet: UNet2DConditionModel, count: int) -> None:
    """Set a UNet's input channels to `count`: the first keep their weights, new ones get zero."""
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


def size_multiple(pipeline: Pipeline) -> int:
    """Return the number of pixels that a picture's sides must be a multiple of.

    VAE and UNet halve the sides at each level but the last.
    """
    halvings = len(pipeline.unet.config.block_out_channels) - 1
    return pipeline.vae_scale_factor * 2**halvings


@torch.no_grad()
def encode_prompts(pipeline: Pipeline, texts: Sequence[str]) -> Tensor:
    """Embed instructions: e_prompt (B, L, E), padded to the tokenizer's length (Eq. 4)."""
    ids = pipeline.tokenizer(
        list(texts),
        padding="max_length",
        max_length=pipeline.tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    ).input_ids
    return pipeline.text_encoder(ids.to(pipeline.text_encoder.device)).last_hidden_state


def refuse_size(size: int, multiple: int) -> None:
    """Refuse an image size that is not a multiple of what VAE and UNet need.

    The decoded picture would be smaller, and every box would miss its region.

    Raises:
        RicError: it is not; names the two nearest sizes that are.
    """
    if size % multiple:
        below = max(1, size // multiple) * multiple
        raise RicError(
            f"--image-size is {size}; this pipeline's VAE and UNet need a multiple of {multiple}.",
            f"Use --image-size {below} or {below + multiple}.",
        )


def count_cut(pipeline: Pipeline, texts: Sequence[str]) -> int:
    """Count the instructions that are too long, of which `encode_prompts` cuts off the end."""
    tokenizer = pipeline.tokenizer
    ids = tokenizer(list(texts), truncation=False, padding=False, verbose=False).input_ids
    return sum(len(one) > tokenizer.model_max_length for one in ids)


@torch.no_grad()
def encode_source(pipeline: Pipeline, images: Tensor) -> Tensor:
    """Encode source pictures (B, 3, H, W) in [-1, 1]: posterior mode, not scaled (choice 12)."""
    return pipeline.vae.encode(images.to(pipeline.vae.dtype)).latent_dist.mode()
