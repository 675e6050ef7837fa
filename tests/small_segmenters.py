"""Small segmenters with seeded random weights, in the hub's layouts: SAM, SAM 2 and CLIPSeg."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from transformers import (
    CLIPSegConfig,
    CLIPSegForImageSegmentation,
    Sam2Config,
    Sam2ImageProcessor,
    Sam2Model,
    SamConfig,
    SamImageProcessor,
    SamModel,
    ViTImageProcessor,
)

from ric.pretrained import load_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

SIDE = 64  # pixels that both read
WIDTH = 16


def write_sam(folder: Path) -> Path:
    """Save a SAM that is sure enough of its masks for mask generation to keep some."""
    torch.manual_seed(0)
    layers = {"num_hidden_layers": 2, "num_attention_heads": 2, "mlp_dim": 2 * WIDTH}
    places = {"image_size": SIDE, "patch_size": 4}
    config = SamConfig(
        vision_config={
            "hidden_size": WIDTH,
            "output_channels": WIDTH,
            "num_pos_feats": WIDTH // 2,
            "window_size": 4,
            "global_attn_indexes": [1],
            **layers,
            **places,
        },
        prompt_encoder_config={"hidden_size": WIDTH, "image_embedding_size": SIDE // 4, **places},
        mask_decoder_config={"hidden_size": WIDTH, "iou_head_hidden_dim": WIDTH, **layers},
    )
    sam = SamModel(config)
    decoder = _shaken(sam)
    with torch.no_grad():
        decoder.iou_prediction_head.proj_out.weight.mul_(0.01)
        decoder.iou_prediction_head.proj_out.bias.fill_(1.0)
    sam.save_pretrained(folder)
    square = {"height": SIDE, "width": SIDE}
    SamImageProcessor(size={"longest_edge": SIDE}, pad_size=square).save_pretrained(folder)
    return folder


def write_sam2(folder: Path) -> Path:
    """Save a SAM 2 whose masks have steep borders."""
    torch.manual_seed(0)
    widths = [8, 16, 32, 64]
    layers = {"num_hidden_layers": 2, "num_attention_heads": 2, "mlp_dim": 2 * WIDTH}
    config = Sam2Config(
        vision_config={
            "backbone_config": {
                "model_type": "sam2_hiera_det_model",
                "hidden_size": widths[0],
                "image_size": [SIDE, SIDE],
                "blocks_per_stage": [1, 1, 2, 1],
                "embed_dim_per_stage": widths,
                "num_attention_heads_per_stage": [1, 1, 1, 1],
                "window_size_per_stage": [4, 4, 4, 2],
                "global_attention_blocks": [3],
            },
            "backbone_channel_list": widths[::-1],
            "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
            "fpn_hidden_size": 4 * WIDTH,
        },
        prompt_encoder_config={"hidden_size": 4 * WIDTH, "image_size": SIDE, "patch_size": 16},
        mask_decoder_config={"hidden_size": 4 * WIDTH, "iou_head_hidden_dim": WIDTH, **layers},
    )
    sam = Sam2Model(config)
    _shaken(sam)
    sam.save_pretrained(folder)
    Sam2ImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return folder


def _shaken(sam: SamModel | Sam2Model) -> nn.Module:
    """Draw large weights, so that masks depend on the picture; return the mask decoder."""
    decoder = sam.mask_decoder
    with torch.no_grad():
        for weight in sam.parameters():
            if weight.ndim > 1:
                weight.normal_()
        for network in decoder.output_hypernetworks_mlps:
            network.proj_out.weight.mul_(100)  # steep at a mask's border, and so stable
    return decoder


def write_clipseg(folder: Path, words: Path) -> Path:
    """Save a CLIPSeg with the tokenizer of the folder `words`."""
    torch.manual_seed(0)
    tokenizer = load_tokenizer(words)
    layers = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 2 * WIDTH}
    config = CLIPSegConfig(
        text_config={
            "hidden_size": WIDTH,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": tokenizer.model_max_length,
            "eos_token_id": tokenizer.eos_token_id,
            **layers,
        },
        vision_config={"hidden_size": WIDTH, "image_size": SIDE, "patch_size": 8, **layers},
        projection_dim=WIDTH,
        reduce_dim=WIDTH,
        extract_layers=[0, 1],
        decoder_num_attention_heads=2,
        decoder_intermediate_size=2 * WIDTH,
    )
    network = CLIPSegForImageSegmentation(config)
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim > 1:
                weight.normal_(std=0.5)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    ViTImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return folder
