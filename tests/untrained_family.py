"""A family of small real models in the embedded one's layout, seconds to build and to run.

Each member is an ordinary transformers or diffusers class with seeded random weights. Most tests
use it in place of the embedded family, by RIC_TINY_FAMILY: what they ask for holds for any weights,
and these are a tenth of the size. It also has `dino`, a ViT of DINO's layout.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import torch
from diffusers import (
    AutoencoderKL,
    EulerAncestralDiscreteScheduler,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipForImageTextRetrieval,
    BlipImageProcessorPil,
    BlipProcessor,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTModel,
)

from ric.method.region_encoder import RegionEncoder
from ric.method.scene_encoder import SceneEncoder
from ric.metrics.scene_labels import LABELS
from ric.recipes.tiny.beginnings import bert_tokenizer, clip_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

IMAGE_SIZE = 64  # pixels; every member of the family reads and draws this size
WIDTH = 64  # width of every transformer and of the joint spaces

# What the tokenizers learn their words from when nothing better is given.
WORDS = (
    "add", "remove", "replace", "move", "turn", "change", "the", "a", "an", "one", "two", "three",
    "four", "red", "green", "blue", "yellow", "white", "black", "brown", "grey", "orange",
    "purple", "pink", "small", "large", "big", "tall", "round", "square", "glossy", "matte",
    "soft", "hard", "ball", "cube", "cone", "cylinder", "tree", "house", "boat", "car", "dog",
    "cat", "bird", "woman", "man", "people", "table", "floor", "wall", "sky", "grass", "water",
    "field", "room", "road", "lamp", "shadow", "reflection", "light", "left", "right", "behind",
    "before", "above", "below", "near", "on", "in", "of", "with", "and", "into", "to", "from",
    "its", "there", "is", "are", "stands", "lies", "sits", "image", "shows", "picture", "scene",
    "object", "objects", "background", "foreground", "colour", "wooden", "metal", "stone",
)  # fmt: skip


def build_tiny_family(folder: Path, *, texts: Iterable[str] = (), seed: int = 0) -> Path:
    """Write the family's members as subfolders of `folder` and return it.

    Args:
        folder: Gets `clip`, `region_encoder`, `scene_encoder`, `captioner`, `pipeline`,
            `text_to_image`, `dino` and `scene_classifier`, whose batch norms are settled on drawn
            pictures.
        texts: More words for the tokenizers.
        seed: Seeds every weight; torch's global random state is left as it was.
    """
    words = sorted({*WORDS, *(word for text in texts for word in text.lower().split())})
    with torch.random.fork_rng(devices=[]):
        for index, (name, build) in enumerate(_MEMBERS.items()):
            torch.manual_seed(seed * len(_MEMBERS) + index)
            build(folder / name, words)
    return folder


def _clip_text_config(tokenizer: CLIPTokenizer) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "projection_dim": WIDTH,
        "max_position_embeddings": 77,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.eos_token_id,
    }


def _build_clip(folder: Path, words: list[str]) -> None:
    tokenizer = clip_tokenizer(words, max_length=77)
    config = CLIPConfig(
        text_config=_clip_text_config(tokenizer),
        vision_config={
            "hidden_size": WIDTH,
            "intermediate_size": 2 * WIDTH,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": IMAGE_SIZE,
            "patch_size": 8,
            "projection_dim": WIDTH,
        },
        projection_dim=WIDTH,
    )
    CLIPModel(config).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(
        size={"shortest_edge": IMAGE_SIZE},
        crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
    ).save_pretrained(folder)


def _blip_config(tokenizer: BertTokenizer) -> BlipConfig:
    return BlipConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": WIDTH,
            "encoder_hidden_size": WIDTH,
            "intermediate_size": 2 * WIDTH,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.sep_token_id,
            "sep_token_id": tokenizer.sep_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            "hidden_size": WIDTH,
            "intermediate_size": 2 * WIDTH,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": IMAGE_SIZE,
            "patch_size": 8,
            # BLIP's own 1e-10 would make every picture the same vector until it is trained
            "initializer_range": 0.02,
        },
        projection_dim=WIDTH,
        image_text_hidden_size=WIDTH,
    )


def _build_blip(folder: Path, words: list[str], kind: type[PreTrainedModel]) -> None:
    tokenizer = bert_tokenizer(words)
    kind(_blip_config(tokenizer)).eval().save_pretrained(folder)
    images = BlipImageProcessorPil(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})
    BlipProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)


def _build_region_encoder(folder: Path, words: list[str]) -> None:
    RegionEncoder.from_clip(folder.parent / "clip").save_pretrained(folder)


def _build_scene_encoder(folder: Path, words: list[str]) -> None:
    _build_blip(folder / "aside", words, BlipForImageTextRetrieval)
    judge = SceneEncoder.from_blip(folder / "aside")
    shutil.rmtree(folder / "aside")
    judge.save_pretrained(folder)


def _build_captioner(folder: Path, words: list[str]) -> None:
    _build_blip(folder, words, BlipForConditionalGeneration)


def _stable_diffusion_parts(words: list[str], in_channels: int) -> dict[str, Any]:
    tokenizer = clip_tokenizer(words, max_length=77)
    vae = AutoencoderKL(
        block_out_channels=(16, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=IMAGE_SIZE,
    ).eval()
    with torch.no_grad():
        latents = vae.encode(_drawn_pictures(16)).latent_dist.mode()
    vae.register_to_config(scaling_factor=round(1 / float(latents.std()), 4))
    unet = UNet2DConditionModel(
        sample_size=IMAGE_SIZE // 4,
        in_channels=in_channels,
        out_channels=4,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
    ).eval()
    return {
        "vae": vae,
        "unet": unet,
        "text_encoder": CLIPTextModel(CLIPTextConfig(**_clip_text_config(tokenizer))).eval(),
        "tokenizer": tokenizer,
        # what the hub's timbrooks/instruct-pix2pix ships
        "scheduler": EulerAncestralDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
        ),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


def _build_pipeline(folder: Path, words: list[str]) -> None:
    parts = _stable_diffusion_parts(words, in_channels=8)
    StableDiffusionInstructPix2PixPipeline(**parts).save_pretrained(folder)


def _build_text_to_image(folder: Path, words: list[str]) -> None:
    parts = _stable_diffusion_parts(words, in_channels=4)
    StableDiffusionPipeline(**parts).save_pretrained(folder)


def _build_dino(folder: Path, words: list[str]) -> None:
    config = ViTConfig(
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=IMAGE_SIZE,
        patch_size=8,
    )
    ViTModel(config, add_pooling_layer=False).eval().save_pretrained(folder)


def _build_scene_classifier(folder: Path, words: list[str]) -> None:
    config = ResNetConfig(
        embedding_size=16,
        hidden_sizes=[16, 32, 64],
        depths=[1, 1, 1],
        layer_type="basic",
        id2label=dict(enumerate(LABELS)),
        label2id={label: number for number, label in enumerate(LABELS)},
    )
    model = ResNetForImageClassification(config).train()
    with torch.no_grad():
        # batch norms that never saw a picture would pass everything through unscaled
        for _ in range(20):
            model(_drawn_pictures(16))
    model.eval().save_pretrained(folder)


def _drawn_pictures(count: int) -> torch.Tensor:
    """Draw (count, 3, 64, 64) smooth random pictures in [-1, 1]."""
    coarse = torch.rand(count, 3, 6, 6) * 2 - 1
    size = (IMAGE_SIZE, IMAGE_SIZE)
    return torch.nn.functional.interpolate(coarse, size, mode="bicubic").clamp(-1, 1)


_MEMBERS: dict[str, Callable[[Path, list[str]], None]] = {
    "clip": _build_clip,
    "region_encoder": _build_region_encoder,
    "scene_encoder": _build_scene_encoder,
    "captioner": _build_captioner,
    "pipeline": _build_pipeline,
    "text_to_image": _build_text_to_image,
    "dino": _build_dino,
    "scene_classifier": _build_scene_classifier,
}
