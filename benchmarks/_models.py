"""Models of the paper's architectures with seeded random weights, in the hub's layout.

Tokenizers are the embedded family's: their ids are within the vocabularies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    EulerAncestralDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from safetensors.torch import load_file
from transformers import (
    AutoTokenizer,
    BlipConfig,
    BlipForImageTextRetrieval,
    BlipImageProcessorPil,
    BlipProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
)

from ric.weights.tiny_family import tiny_family

if TYPE_CHECKING:
    from pathlib import Path

SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}
PICKLED = {"diffusion_pytorch_model": "diffusion_pytorch_model", "model": "pytorch_model"}


def write_clip(folder: Path, patch_size: int = 16) -> Path:
    """Save a CLIP ViT-B in the layout of `openai/clip-vit-base-patch16` (or 32) on the hub."""
    torch.manual_seed(0)
    tokenizer = _tokenizer("region_encoder/clip", CLIPTextConfig().vocab_size)
    text = {"eos_token_id": tokenizer("").input_ids[-1]}  # the family's, not the hub's
    CLIPModel(
        CLIPConfig(text_config=text, vision_config={"patch_size": patch_size})
    ).save_pretrained(folder)
    CLIPImageProcessorPil().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_blip(folder: Path) -> Path:
    """Save a BLIP base in the layout of `Salesforce/blip-itm-base-coco` on the hub."""
    torch.manual_seed(0)
    # BLIP's own initializer_range of 1e-10 would give every picture the same embedding
    vision = {"image_size": 384, "initializer_range": 0.02}
    config = BlipConfig(vision_config=vision)
    BlipForImageTextRetrieval(config).save_pretrained(folder)
    pixels = BlipImageProcessorPil(size={"height": 384, "width": 384})
    words = _tokenizer("scene_encoder/blip", config.text_config.vocab_size)
    BlipProcessor(pixels, words).save_pretrained(folder)
    return folder


def write_instruct_pix2pix(folder: Path) -> Path:
    """Save a pipeline in the layout of `timbrooks/instruct-pix2pix`, safety checker included."""
    scheduler = EulerAncestralDiscreteScheduler(**SCHEDULE)
    StableDiffusionInstructPix2PixPipeline(scheduler=scheduler, **_parts()).save_pretrained(folder)
    return folder


def write_magicbrush(folder: Path) -> Path:
    """Save a pipeline in the layout of `vinesmsuic/magicbrush-jul7` on the hub.

    It claims to be a StableDiffusionPipeline, has that class's scheduler, and holds pickles.
    """
    scheduler = PNDMScheduler(**SCHEDULE, skip_prk_steps=True)
    StableDiffusionPipeline(scheduler=scheduler, **_parts()).save_pretrained(folder)
    for file in folder.glob("*/*.safetensors"):
        torch.save(load_file(file), file.with_name(f"{PICKLED[file.stem]}.bin"))
        file.unlink()
    return folder


def write_text_to_image(folder: Path) -> Path:
    """Save a pipeline in the layout of `CompVis/stable-diffusion-v1-4` on the hub."""
    scheduler = PNDMScheduler(**SCHEDULE, skip_prk_steps=True)
    StableDiffusionPipeline(scheduler=scheduler, **_parts(in_channels=4)).save_pretrained(folder)
    return folder


def write_small_decoder(folder: Path) -> Path:
    """Save an AutoencoderTiny in the layout of `madebyollin/taesd` on the hub."""
    torch.manual_seed(0)
    AutoencoderTiny().save_pretrained(folder)
    return folder


def _parts(in_channels: int = 8) -> dict[str, Any]:
    """Make Stable Diffusion 1.5, without a scheduler; an editor has eight input channels."""
    torch.manual_seed(0)
    blocks = (128, 256, 512, 512)
    text = CLIPTextConfig(
        hidden_size=768, intermediate_size=3072, num_attention_heads=12, projection_dim=768
    )
    tokenizer = _tokenizer("pipeline/tokenizer", text.vocab_size)
    tokenizer.model_max_length = 77
    checker = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
               "num_attention_heads": 16, "patch_size": 14}  # fmt: skip
    return {
        "vae": AutoencoderKL(
            block_out_channels=blocks,
            down_block_types=("DownEncoderBlock2D",) * len(blocks),
            up_block_types=("UpDecoderBlock2D",) * len(blocks),
            layers_per_block=2,
            latent_channels=4,
            sample_size=512,
            scaling_factor=0.18215,
        ),
        "unet": UNet2DConditionModel(
            sample_size=64, in_channels=in_channels, cross_attention_dim=768
        ),
        "text_encoder": CLIPTextModel(text),
        "tokenizer": tokenizer,
        "safety_checker": StableDiffusionSafetyChecker(
            CLIPConfig(vision_config=checker, projection_dim=768)
        ),
        "feature_extractor": CLIPImageProcessor(),
    }


def _tokenizer(member: str, count: int) -> Any:
    """Return a member's tokenizer with as many words as its text network is to have learned."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_family() / member)
    tokenizer.add_tokens([f"filler{number}" for number in range(count - len(tokenizer))])
    return tokenizer
