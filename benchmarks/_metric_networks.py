"""The networks of `ric eval` at full size with seeded random weights, as `--weights` finds them.

Unlike in the tests, batch norms are not settled on pictures: for timing, any numbers will do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torchvision
from _models import write_clip
from torch import nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from transformers import ViTConfig, ViTModel

if TYPE_CHECKING:
    from pathlib import Path

INCEPTION = "weights-inception-2015-12-05-6726825d.pth"
CLIP, DINO = "openai--clip-vit-base-patch32", "facebook--dino-vits16"
ALEXNET, SQUEEZENET = "alexnet-owt-7be5be79.pth", "squeezenet1_1-b8a52dc0.pth"


class BlankInception(FeatureExtractorInceptionV3):
    """torch-fidelity's network without loading its weights' file."""

    def load_state_dict(self, *_: object, **__: object) -> None:
        """Keep the random weights."""


def write_metric_networks(folder: Path) -> Path:
    """Write all of them: CLIP ViT-B/32, DINO ViT-S/16, Inception, AlexNet, SqueezeNet."""
    folder.mkdir(parents=True, exist_ok=True)
    write_clip(folder / CLIP, patch_size=32)
    torch.manual_seed(0)
    small = ViTConfig(hidden_size=384, intermediate_size=1536, num_attention_heads=6)
    ViTModel(small).save_pretrained(folder / DINO)
    torch.save({}, folder / INCEPTION)
    layers = ["2048", "logits_unbiased"]
    blank = BlankInception("b", layers, feature_extractor_weights_path=str(folder / INCEPTION))
    write_drawn(blank, folder / INCEPTION)
    write_drawn(torchvision.models.alexnet(weights=None), folder / ALEXNET)
    write_drawn(torchvision.models.squeezenet1_1(weights=None), folder / SQUEEZENET)
    return folder


def write_drawn(network: nn.Module, file: Path) -> None:
    """Save a network with random weights that keep the activations' scale from layer to layer."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    torch.save(network.state_dict(), file)
