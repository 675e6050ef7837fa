"""The networks of a `train-unet` step as shapes without values, on PyTorch's meta device.

They are built from their configs, in a second and next to no memory; no weights are read. Where the
paper's own are not on this machine, their known architectures stand in: Stable Diffusion 1.5 with
eight input channels, CLIP ViT-B/16 and BLIP base.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from transformers import (
    AutoTokenizer,
    BlipConfig,
    BlipForImageTextRetrieval,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
)

from ric.extras import require_extra
from ric.method import region_encoder, scene_encoder
from ric.method.judge_files import find_artifact
from ric.method.judge_pixels import PixelNumbers
from ric.method.objective import freeze
from ric.method.region_encoder import RegionEncoder
from ric.method.scene_encoder import SceneEncoder
from ric.model_files import read_json
from ric.models.pipeline import read_source_channels
from ric.training.lora import PROJECTIONS
from ric.weights.tiny_family import tiny_family

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

BLOCKS = (128, 256, 512, 512)
SD15_UNET = {"sample_size": 64, "in_channels": 8, "cross_attention_dim": 768}
SD15_VAE: dict[str, Any] = {
    "block_out_channels": BLOCKS,
    "down_block_types": ("DownEncoderBlock2D",) * len(BLOCKS),
    "up_block_types": ("UpDecoderBlock2D",) * len(BLOCKS),
    "layers_per_block": 2,
    "latent_channels": 4,
}
SD15_TEXT = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
}


@dataclass(frozen=True)
class StepNetworks:
    """The networks of a step, on the meta device.

    Attributes:
        unet: With eight input channels, in channels_last; trained weights require gradients.
        vae: The pipeline's.
        decoder: The decoder of the losses: `vae` itself, or a small one.
        text_encoder: The pipeline's.
        region: None where its loss is off.
        scene: None where its loss is off.
    """

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    decoder: AutoencoderKL | AutoencoderTiny
    text_encoder: CLIPTextModel
    region: RegionEncoder | None
    scene: SceneEncoder | None

    def frozen(self) -> list[nn.Module]:
        """List the networks that are not trained, each once."""
        small = None if self.decoder is self.vae else self.decoder
        others = (self.vae, small, self.text_encoder, self.region, self.scene)
        return [network for network in others if network is not None]


def pipeline_shapes(
    folder: Path | None, lora_rank: int | None = None
) -> tuple[UNet2DConditionModel, AutoencoderKL, CLIPTextModel]:
    """Build a pipeline's UNet, VAE and text encoder.

    Args:
        folder: The pipeline; None for Stable Diffusion 1.5 with source channels.
        lora_rank: Train updates of this rank beside the attention; None: all weights.

    Raises:
        RicError: a part's config is missing, the UNet has neither 4 nor 8 input channels, or peft
            is needed and not installed.
    """
    unet, vae, text = (
        read_json(folder / part / "config.json", what=f"a pipeline's {part}") if folder else shape
        for part, shape in (("unet", SD15_UNET), ("vae", SD15_VAE), ("text_encoder", SD15_TEXT))
    )
    with torch.device("meta"):
        trained = UNet2DConditionModel.from_config(unet)
        read_source_channels(trained)
        if lora_rank:
            require_extra("peft", "--lora-rank")
            from peft import LoraConfig

            trained.requires_grad_(False)
            trained.add_adapter(LoraConfig(r=lora_rank, target_modules=PROJECTIONS))
        autoencoder = AutoencoderKL.from_config(vae)
        text_encoder = CLIPTextModel(CLIPTextConfig.from_dict(text))
    trained.train().to(memory_format=torch.channels_last)
    freeze(autoencoder)
    freeze(text_encoder)
    return trained, autoencoder, text_encoder


def small_decoder_shape(folder: Path | None) -> AutoencoderTiny:
    """Build a small decoder; without a folder TAESD, whose shape is the class's own default."""
    config = read_json(folder / "config.json", what="a small decoder") if folder else {}
    with torch.device("meta"):
        decoder = AutoencoderTiny.from_config(config)
    freeze(decoder)
    return decoder


def region_judge_shape(folder: Path | None, *, gated: bool = True) -> RegionEncoder:
    """Build a region judge; without a folder CLIP ViT-B/16 under a fusion of eight heads.

    Args:
        folder: What `ric fit-clip` wrote, or its run.
        gated: False leaves the fusion out of the step (Table 3).
    """
    settings: dict[str, Any] = {}
    config = CLIPConfig(vision_config={"patch_size": 16})
    if folder:
        folder, settings = find_artifact(folder, region_encoder.NAME, "ric fit-clip")
        config = CLIPConfig.from_dict(read_json(folder / "clip/config.json", what="a CLIP"))
    # a step reads no text, so any tokenizer will do
    tokenizer = AutoTokenizer.from_pretrained(tiny_family() / "region_encoder/clip")
    config.text_config.eos_token_id = tokenizer("").input_ids[-1]
    with torch.device("meta"):
        judge = RegionEncoder(
            CLIPModel(config),
            tokenizer,
            PixelNumbers(config.vision_config.image_size),
            gated=gated and settings.get("gated", True),
            num_heads=settings.get("num_heads", 8),
        )
    judge.sees = settings.get("sees", "both")
    freeze(judge)
    return judge


def scene_judge_shape(folder: Path | None) -> SceneEncoder:
    """Build a scene judge; without a folder BLIP base at 384 pixels.

    Args:
        folder: What `ric fit-blip` wrote, or its run.
    """
    config = BlipConfig(vision_config={"image_size": 384})
    if folder:
        folder, _ = find_artifact(folder, scene_encoder.NAME, "ric fit-blip")
        config = BlipConfig.from_dict(read_json(folder / "blip/config.json", what="a BLIP"))
    tokenizer = AutoTokenizer.from_pretrained(tiny_family() / "scene_encoder/blip")
    with torch.device("meta"):
        blip = BlipForImageTextRetrieval(config)
        judge = SceneEncoder(blip, tokenizer, PixelNumbers(config.vision_config.image_size))
    freeze(judge)
    return judge
