"""`ric tiny begin`: the embedded family before its training, seeded random weights and tokenizers.

Each member is an ordinary transformers or diffusers class in its ordinary layout. The tokenizers
have one token for each word of the drawn scenes; other words are split into pieces.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from diffusers import (
    AutoencoderKL,
    EulerAncestralDiscreteScheduler,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
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
)

from ric.data.drawn_scenes import SceneStream
from ric.metrics.scene_labels import LABELS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

IMAGE_SIZE = 64  # pixels; every member of the family reads or draws this size
PATCH = 8  # pixels; the side of a vision tower's patch
WIDTH, LAYERS, HEADS = 96, 4, 4  # of every tower; WIDTH also of the joint spaces
PROMPT_WIDTH, PROMPT_LAYERS, PROMPT_TOKENS = 128, 3, 48  # of the UNets' text encoder

# Words of instructions that the scenes do not use, but that get a token of their own.
MORE_WORDS = (
    "add", "a", "an", "the", "and", "into", "to", "of", "it", "its", "all", "bigger", "smaller",
    "brown", "grey", "pink", "night", "day", "person", "woman", "man", "dog", "cat", "bird",
    "flower", "background", "sky", "without", "with", "between", "above", "below", "near",
)  # fmt: skip


def write_beginnings(folder: Path, *, seed: int = 0) -> Path:
    """Write every member as a subfolder of `folder` and return it.

    Args:
        folder: Gets `vae` (AutoencoderKL), `clip` (CLIPModel), `blip` (BlipForImageTextRetrieval),
            `captioner` (BlipForConditionalGeneration), `scene_classifier`
            (ResNetForImageClassification), `pipeline` (an InstructPix2Pix pipeline) and
            `text_to_image` (its 4-channel twin).
        seed: Seeds every weight; torch's global random state is left alone.
    """
    words = scene_words()
    with torch.random.fork_rng(devices=[]):
        for index, (name, build) in enumerate(_MEMBERS.items()):
            torch.manual_seed(seed * len(_MEMBERS) + index)
            build(folder / name, words)
    return folder


def scene_words() -> list[str]:
    """List the words of the scenes' texts, lower case, in alphabetical order."""
    words = set(MORE_WORDS)
    for sample in SceneStream(count=2000, seed=0):
        for text in (sample.instruction, sample.region_text, sample.scene_text, sample.target_text):
            words |= set("".join(c if c.isalpha() else " " for c in (text or "").lower()).split())
    return sorted(words)


# --- tokenizers ----------------------------------------------------------------------------------


def clip_tokenizer(words: list[str], max_length: int) -> CLIPTokenizer:
    """Make a byte-level BPE like CLIP's, whose merges build `words`.

    The end token has the last id, so it is never 2, for which transformers would pool the highest
    id instead.
    """
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(byte_level.alphabet())
    # The trainer numbers "x</w>" in an order that changes from run to run, and that order decides
    # which of two equally frequent pairs is merged first. So a private character stands for each.
    ending = {character: chr(0xE000 + ord(character)) for character in alphabet}
    pieces = [piece for word in words for piece, _ in byte_level.pre_tokenize_str(word)]
    bpe = Tokenizer(models.BPE())
    bpe.train_from_iterator(
        [piece[:-1] + ending[piece[-1]] for piece in pieces],
        trainers.BpeTrainer(
            vocab_size=4000,
            initial_alphabet=[*alphabet, *ending.values()],
            show_progress=False,
        ),
    )
    written = {mark: f"{character}</w>" for character, mark in ending.items()}
    back = str.maketrans(written)
    model = json.loads(bpe.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {token.translate(back): index for index, token in enumerate(tokens)}
    merges = [(left.translate(back), right.translate(back)) for left, right in model["merges"]]
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=max_length)


def bert_tokenizer(words: list[str]) -> BertTokenizer:
    """Make a WordPiece tokenizer like BLIP's: `words`, and single letters for all others."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    pieces = [*letters, *(f"##{letter}" for letter in letters), *words]
    vocab = {token: index for index, token in enumerate(dict.fromkeys([*special, *pieces]))}
    # [DEC] starts a caption, as in BLIP's own tokenizer
    return BertTokenizer(vocab=vocab, bos_token="[DEC]", model_max_length=512)


# --- members -------------------------------------------------------------------------------------


def new_vae() -> AutoencoderKL:
    """Make an autoencoder: a quarter of the side, 4 channels, 0.95 M parameters."""
    return AutoencoderKL(
        block_out_channels=(32, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=IMAGE_SIZE,
    ).eval()


def new_unet(in_channels: int) -> UNet2DConditionModel:
    """Make a UNet of 4 M parameters on 16 x 16 latents, for 4 channels, or 8 with a source.

    Attention is at 8 x 8 only: at 16 x 16 it would take as much CPU time as all the rest.
    """
    return UNet2DConditionModel(
        sample_size=IMAGE_SIZE // 4,
        in_channels=in_channels,
        out_channels=4,
        block_out_channels=(64, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=PROMPT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
    ).eval()


def _text_config(
    tokenizer: CLIPTokenizer, width: int, layers: int, positions: int
) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "projection_dim": WIDTH,
        "max_position_embeddings": positions,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.eos_token_id,
    }


def _vision_config() -> dict[str, Any]:
    return {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "image_size": IMAGE_SIZE,
        "patch_size": PATCH,
    }


def _build_vae(folder: Path, words: list[str]) -> None:
    new_vae().save_pretrained(folder)


def _build_clip(folder: Path, words: list[str]) -> None:
    tokenizer = clip_tokenizer(words, max_length=77)
    config = CLIPConfig(
        text_config=_text_config(tokenizer, WIDTH, LAYERS, 77),
        vision_config={**_vision_config(), "projection_dim": WIDTH},
        projection_dim=WIDTH,
    )
    CLIPModel(config).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(
        size={"shortest_edge": IMAGE_SIZE},
        crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
    ).save_pretrained(folder)


def _build_blip(folder: Path, words: list[str], kind: type[PreTrainedModel]) -> None:
    tokenizer = bert_tokenizer(words)
    config = BlipConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": WIDTH,
            "encoder_hidden_size": WIDTH,
            "intermediate_size": 4 * WIDTH,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.sep_token_id,
            "sep_token_id": tokenizer.sep_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        # BLIP's own 1e-10 would give every picture the same vector until it is trained
        vision_config={**_vision_config(), "initializer_range": 0.02},
        projection_dim=WIDTH,
        image_text_hidden_size=WIDTH,
    )
    kind(config).eval().save_pretrained(folder)
    images = BlipImageProcessorPil(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})
    BlipProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)


def _build_retrieval_blip(folder: Path, words: list[str]) -> None:
    _build_blip(folder, words, BlipForImageTextRetrieval)


def _build_captioner(folder: Path, words: list[str]) -> None:
    _build_blip(folder, words, BlipForConditionalGeneration)


def _build_scene_classifier(folder: Path, words: list[str]) -> None:
    config = ResNetConfig(
        embedding_size=32,
        hidden_sizes=[32, 64, 128],
        depths=[2, 2, 2],
        layer_type="basic",
        id2label=dict(enumerate(LABELS)),
        label2id={label: number for number, label in enumerate(LABELS)},
    )
    ResNetForImageClassification(config).eval().save_pretrained(folder)


def _pipeline_parts(words: list[str], in_channels: int) -> dict[str, Any]:
    tokenizer = clip_tokenizer(words, max_length=PROMPT_TOKENS)
    text = _text_config(tokenizer, PROMPT_WIDTH, PROMPT_LAYERS, PROMPT_TOKENS)
    return {
        "vae": new_vae(),
        "unet": new_unet(in_channels),
        "text_encoder": CLIPTextModel(CLIPTextConfig(**text)).eval(),
        "tokenizer": tokenizer,
        # as in the hub's timbrooks/instruct-pix2pix, but for the prediction type
        "scheduler": EulerAncestralDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            steps_offset=1,
            prediction_type="v_prediction",
        ),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


def _build_pipeline(folder: Path, words: list[str]) -> None:
    parts = _pipeline_parts(words, in_channels=8)
    StableDiffusionInstructPix2PixPipeline(**parts).save_pretrained(folder)


def _build_text_to_image(folder: Path, words: list[str]) -> None:
    StableDiffusionPipeline(**_pipeline_parts(words, in_channels=4)).save_pretrained(folder)


_MEMBERS: dict[str, Callable[[Path, list[str]], None]] = {
    "vae": _build_vae,
    "clip": _build_clip,
    "blip": _build_retrieval_blip,
    "captioner": _build_captioner,
    "scene_classifier": _build_scene_classifier,
    "pipeline": _build_pipeline,
    "text_to_image": _build_text_to_image,
}
