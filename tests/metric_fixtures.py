"""Seeded pictures, and weights that tell one resize rule from another, in each one's own layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from transformers import (
    AutoTokenizer,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    ViTConfig,
    ViTModel,
)


def _draw(seed: int, width: int = 96, height: int = 80) -> Image.Image:
    """Draw a picture with broad shades, a hard-edged box and pixel noise."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    pixels = np.array(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    top, left = rng.integers(0, height // 2), rng.integers(0, width // 2)
    pixels[top : top + height // 3, left : left + width // 3] = rng.integers(0, 256, 3)
    grain = int(rng.integers(4, 80))
    pixels += rng.integers(-grain, grain, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def draw() -> Callable[..., Image.Image]:
    """Give `draw(seed, width=96, height=80)`."""
    return _draw


@pytest.fixture(scope="session")
def inception_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write torch-fidelity's .pth layout: random, its batch norms settled on pictures.

    As torch initialises it, every picture gets the same classes and every resize rule the same
    FID, so any test would pass.
    """
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    network = _blank_inception(path)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            elif isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # the plain mean over what it sees
        network.fc.weight.normal_(std=0.4)
        network.fc.bias.zero_()
        network.train()
        pixels = [np.array(_draw(seed, 299, 299)) for seed in range(100, 108)]
        network(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2))
    torch.save(network.state_dict(), path)
    return path


def _blank_inception(path: Path) -> FeatureExtractorInceptionV3:
    """Build the network, which insists on loading a file: the one that it draws itself."""

    class Blank(FeatureExtractorInceptionV3):
        def load_state_dict(self, state: object) -> None:
            pass

    torch.save({}, path)
    return Blank("blank", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(path))


@pytest.fixture(scope="session")
def alexnet_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write torchvision's AlexNet, random and of even strength from layer to layer."""
    return _kaiming(torchvision.models.alexnet, tmp_path_factory.mktemp("alexnet") / "alexnet.pth")


@pytest.fixture(scope="session")
def squeezenet_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write torchvision's SqueezeNet 1.1 likewise."""
    path = tmp_path_factory.mktemp("squeezenet") / "squeezenet.pth"
    return _kaiming(torchvision.models.squeezenet1_1, path)


@pytest.fixture(scope="session")
def vgg_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write torchvision's VGG16 likewise, without its classifier's half gigabyte."""
    path = tmp_path_factory.mktemp("vgg") / "vgg16.pth"
    _kaiming(lambda weights: nn.ModuleDict({"features": vgg16_layers()}), path)
    return path


def vgg16_layers() -> nn.Module:
    """Make the convolutions of torchvision's VGG16."""
    vgg = torchvision.models.vgg
    return vgg.make_layers(vgg.cfgs["D"])


def _kaiming(build: Callable[..., nn.Module], path: Path) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build(weights=None)
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def clip_folder(tiny_family: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a small CLIP that reads pictures as ViT-B/32 does: 224 pixels, patches of 32."""
    path = tmp_path_factory.mktemp("openai--clip-vit-base-patch32")
    config = CLIPConfig.from_pretrained(tiny_family / "clip")
    config.vision_config.image_size, config.vision_config.patch_size = 224, 32
    config.vision_config.initializer_factor = config.text_config.initializer_factor = 4.0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        CLIPModel(config).save_pretrained(path)
    CLIPImageProcessorPil().save_pretrained(path)
    AutoTokenizer.from_pretrained(tiny_family / "clip").save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def dino_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a small ViT that reads pictures as dino-vits16 does: 224 pixels, patches of 16."""
    path = tmp_path_factory.mktemp("facebook--dino-vits16")
    config = ViTConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=224,
        patch_size=16,
        initializer_range=0.2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ViTModel(config).save_pretrained(path)  # with the pooler that other ViTs have
    return path
