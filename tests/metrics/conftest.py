"""Seeded pictures, and Inception weights that tell one resize rule from another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3


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
