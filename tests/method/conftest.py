"""Fixtures of the method's tests: the tiny family's members, loaded anew for every test."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from ric.method.region_encoder import RegionEncoder
from ric.method.scene_encoder import SceneEncoder


@pytest.fixture
def region_encoder(tiny_family: Path) -> RegionEncoder:
    return RegionEncoder.from_clip(tiny_family / "clip")


@pytest.fixture
def scene_encoder(tiny_family: Path) -> SceneEncoder:
    return SceneEncoder.from_blip(tiny_family / "scene_encoder" / "blip")


@pytest.fixture
def vae(tiny_family: Path) -> AutoencoderKL:
    return AutoencoderKL.from_pretrained(tiny_family / "pipeline" / "vae").eval()


@pytest.fixture
def unet(tiny_family: Path) -> UNet2DConditionModel:
    return UNet2DConditionModel.from_pretrained(tiny_family / "pipeline" / "unet").eval()


@pytest.fixture
def alphas_cumprod() -> torch.Tensor:
    # Stable Diffusion's schedule, written out
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0)


@pytest.fixture
def draw() -> torch.Generator:
    return torch.Generator().manual_seed(0)
