"""Segmenters: SAM through transformers, or Felzenszwalb's, which needs no weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from skimage.segmentation import felzenszwalb
from transformers import AutoImageProcessor, AutoModelForMaskGeneration, MaskGenerationPipeline

from ric.pretrained import load_network, load_processor

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

# Shape letters: S segments, H and W pixels.

# of felzenszwalb: how unlike parts must be, and their least size in pixels at 512 px; of the values
# that were tried, those whose segments fit the things of drawn scenes best
UNLIKE, SMOOTHING, LEAST_PIXELS = 300.0, 0.5, 400
SIDE = 512


class Segmenter(Protocol):
    """Divides a picture into segments, which may overlap and may leave pixels out."""

    def __call__(self, image: Image) -> np.ndarray:
        """Return the segments of an RGB picture: (S, H, W), bool; S may be 0."""


class Sam:
    """Segment Anything (Kirillov et al. 2023) on a grid of 32 x 32 points; SAM 2 and 3, too.

    Thresholds and the grid are those of transformers' mask generation, which are SAM's own.

    Args:
        folder: The model's.
        device: Where it runs.

    Raises:
        RicError: the folder holds no such model, or not all of it.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        """Load the model; see the class."""
        model = load_network(AutoModelForMaskGeneration, folder, dtype=torch.float32)
        processor = load_processor(AutoImageProcessor, folder)
        self.generate = MaskGenerationPipeline(
            model=model, image_processor=processor, device=device
        )

    def __call__(self, image: Image) -> np.ndarray:
        """Return the segments of an RGB picture: (S, H, W), bool."""
        masks = self.generate(image)["masks"]
        empty = np.zeros((0, image.height, image.width), dtype=bool)
        return np.concatenate([empty, *(np.asarray(mask, dtype=bool)[None] for mask in masks)])


class Felzenszwalb:
    """Graph-based segmentation (Felzenszwalb and Huttenlocher 2004): parts of like colour."""

    def __call__(self, image: Image) -> np.ndarray:
        """Return the segments of an RGB picture: (S, H, W), bool; each pixel is in one."""
        share = (max(image.size) / SIDE) ** 2
        labels = felzenszwalb(
            np.asarray(image),
            scale=UNLIKE,
            sigma=SMOOTHING,
            min_size=max(1, round(LEAST_PIXELS * share)),
        )
        return labels == np.arange(labels.max() + 1)[:, None, None]
