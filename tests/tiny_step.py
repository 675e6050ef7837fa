"""The networks of a `train-unet` step of the tiny family: as shapes alone, and loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ric.memory.meta_networks import (
    StepNetworks,
    pipeline_shapes,
    region_judge_shape,
    scene_judge_shape,
)
from ric.method.region_encoder import RegionEncoder
from ric.method.scene_encoder import SceneEncoder
from ric.models.pipeline import load_pipeline

if TYPE_CHECKING:
    from pathlib import Path


def shapes_of(family: Path) -> StepNetworks:
    unet, vae, text_encoder = pipeline_shapes(family / "pipeline")
    region = region_judge_shape(family / "region_encoder")
    scene = scene_judge_shape(family / "scene_encoder")
    return StepNetworks(unet, vae, vae, text_encoder, region, scene)


def loaded(family: Path, device: str = "cpu") -> StepNetworks:
    pipeline = load_pipeline(family / "pipeline", torch.device(device))
    region = RegionEncoder.from_pretrained(family / "region_encoder").to(device)
    scene = SceneEncoder.from_pretrained(family / "scene_encoder").to(device)
    unet = pipeline.unet.to(memory_format=torch.channels_last).train().requires_grad_(True)
    return StepNetworks(unet, pipeline.vae, pipeline.vae, pipeline.text_encoder, region, scene)
