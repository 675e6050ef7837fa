"""Small detectors of what a text names, with seeded random weights, in the hub's layouts."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertTokenizer,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
    GroundingDinoProcessor,
    MMGroundingDinoConfig,
    MMGroundingDinoForObjectDetection,
    Sam3Config,
    Sam3ImageProcessor,
    Sam3Model,
    Sam3Processor,
)

from ric.pretrained import load_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

SIDE = 64  # pixels of SAM 3's square, and of the shorter side that a GroundingDINO reads
WIDTH = 16
LAYERS = {"num_attention_heads": 2, "intermediate_size": 2 * WIDTH}
# BERT's places of the tokens by which a GroundingDINO divides a text, and of what they need
BERT_PLACES = {
    0: "[PAD]",
    100: "[UNK]",
    101: "[CLS]",
    102: "[SEP]",
    103: "[MASK]",
    1012: ".",
    1029: "?",
}
WORDS = ("the", "a", "red", "blue", "ball", "cube", "dress")


def write_grounding_dino(folder: Path, *, mm: bool = False) -> Path:
    """Save a GroundingDINO, or an MM Grounding DINO, that is sure of about half of its boxes."""
    torch.manual_seed(0)
    places = {**BERT_PLACES, **{1030 + n: word for n, word in enumerate(WORDS)}}
    vocabulary = {places.get(n, f"[unused{n}]"): n for n in range(1030 + len(WORDS))}
    tokenizer = BertTokenizer(vocab=vocabulary, do_lower_case=False)  # lower case is ours to give
    config = (MMGroundingDinoConfig if mm else GroundingDinoConfig)(
        backbone_config={
            "model_type": "swin",
            "image_size": SIDE,
            "embed_dim": 8,
            "depths": [1, 1, 1, 1],
            "num_heads": [1, 2, 2, 2],
            "window_size": 4,
            "out_indices": [2, 3, 4],
        },
        text_config={
            "model_type": "bert",
            "vocab_size": len(vocabulary),
            "hidden_size": WIDTH,
            "num_hidden_layers": 1,
            **LAYERS,
        },
        d_model=4 * WIDTH,  # its normalisation has 32 groups, of more than one channel
        num_queries=12,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=2 * WIDTH,
        decoder_ffn_dim=2 * WIDTH,
        max_text_len=32,
    )
    network = (MMGroundingDinoForObjectDetection if mm else GroundingDinoForObjectDetection)(config)
    _shake(network, 0.5)
    with torch.no_grad():
        for head in (*network.bbox_embed, network.model.encoder_output_bbox_embed):
            head.layers[-1].weight.mul_(0.1)  # boxes of middling size
        if mm:
            for head in network.class_embed:
                head.bias.fill_(-1.5)
        else:  # a bias, too: the rest of either sums to zero, so logits fall by its products
            network.model.encoder.layers[-1].text_enhancer_layer.layer_norm_after.bias.fill_(0.25)
            network.model.decoder.layer_norm.bias.fill_(-0.25)
    network.save_pretrained(folder)
    pixels = GroundingDinoImageProcessor(size={"shortest_edge": SIDE, "longest_edge": 3 * SIDE})
    GroundingDinoProcessor(pixels, tokenizer).save_pretrained(folder)
    return folder


def write_sam3(folder: Path, words: Path) -> Path:
    """Save a SAM 3 with the tokenizer of the folder `words`, sure of about half of its masks."""
    torch.manual_seed(2)  # of those that were tried, one with masks of middling size
    tokenizer = load_tokenizer(words)
    part = {"hidden_size": WIDTH, **LAYERS}
    config = Sam3Config(
        vision_config={
            "backbone_config": {
                "model_type": "sam3_vit_model",
                "num_hidden_layers": 2,
                "image_size": SIDE,
                "patch_size": 8,
                "pretrain_image_size": SIDE,
                "window_size": 4,
                "global_attn_indexes": [1],
                **part,
            },
            "fpn_hidden_size": WIDTH,
            "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
        },
        text_config={
            "model_type": "clip_text_model",
            "vocab_size": len(tokenizer),
            "projection_dim": WIDTH,
            "num_hidden_layers": 2,
            "max_position_embeddings": 32,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            **part,
        },
        geometry_encoder_config={"num_layers": 1, **part},
        detr_encoder_config={"num_layers": 1, **part},
        detr_decoder_config={"num_layers": 2, "num_queries": 12, **part},
        mask_decoder_config={"hidden_size": WIDTH, "num_attention_heads": 2},
    )
    network = Sam3Model(config)
    _shake(network, 0.2)
    _shake(network.dot_product_scoring, 0.5)
    with torch.no_grad():
        network.detr_decoder.query_embed.weight.mul_(10)  # each query its own thing
        present = network.detr_decoder.presence_head.layer3
        present.weight.mul_(0.1)
        present.bias.fill_(3.0)
    network.save_pretrained(folder)
    pixels = Sam3ImageProcessor(size={"height": SIDE, "width": SIDE})
    Sam3Processor(pixels, tokenizer).save_pretrained(folder)
    return folder


def write_sam3_as_released(folder: Path, sam3: Path) -> Path:
    """Save the SAM 3 of a folder as the released one is: the detector of a video model."""
    folder.mkdir(parents=True)
    for file in sam3.glob("*.json"):
        shutil.copy(file, folder)
    config = json.loads((sam3 / "config.json").read_text())
    video = {"model_type": "sam3_video", "architectures": ["Sam3VideoModel"]}
    tracker = {"model_type": "sam3_tracker_video"}
    whole = {**video, "detector_config": config, "tracker_config": tracker}
    (folder / "config.json").write_text(json.dumps(whole))
    weights = load_file(sam3 / "model.safetensors")
    held = {f"detector_model.{name}": tensor for name, tensor in weights.items()}
    held["tracker_model.memory_attention.layers.0.linear1.weight"] = torch.ones(2, 2)
    save_file(held, folder / "model.safetensors", {"format": "pt"})
    return folder


def _shake(network: nn.Module, std: float) -> None:
    """Draw weights so large that what is found depends on the picture and on the text."""
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim > 1:
                weight.normal_(std=std)
