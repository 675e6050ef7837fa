"""CLIP's features of pictures as clean-fid's `clip_vit_b_32` compares them (Parmar et al. 2022)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import CLIPModel

from ric.metrics.clip_similarity import MEAN, PUBLISHED, STD
from ric.metrics.networks import SetFeatures, exact_inference, load_folder, published_marker
from ric.metrics.resize_rules import normalise, resize_and_crop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image


class ClipFidFeatures:
    """CLIP's projected embeddings of pictures, at the length that the network gives them.

    Pictures go in as clean-fid feeds them, which is OpenAI's rule: PIL's bicubic on 8-bit pixels to
    the tower's size, centre crop, OpenAI's mean and std.

    Args:
        path: A folder with a transformers `CLIPModel` (safetensors); it needs no tokenizer.
        device: Where it runs, in float32; clean-fid's runs in half precision on a GPU.
        encoder: Its name in headings and definitions; None: the published one's.

    Raises:
        RicError: the folder holds no such model.
    """

    kind = "clean-fid"

    def __init__(
        self, path: Path, device: torch.device | str = "cpu", *, encoder: str | None = None
    ) -> None:
        """Load the network; see the class."""
        self.model: CLIPModel = load_folder(CLIPModel, path, device, kind="network")
        self.device = torch.device(device)
        self.image_size: int = self.model.config.vision_config.image_size
        self.marker = published_marker(encoder or PUBLISHED, PUBLISHED)
        self.definition = (
            f"embeddings of {encoder or PUBLISHED}; PIL bicubic to {self.image_size}, centre crop,"
            " as clean-fid's clip_vit_b_32"
        )

    def set_features(self, images: Sequence[Image.Image]) -> SetFeatures:
        """Return features (N, P) of N pictures of any sizes, and no logits."""
        return self.features_of([self.prepare(image) for image in images])

    def prepare(self, image: Image.Image) -> Tensor:
        """Return a picture as the tower sees it, 8-bit levels (3, S, S)."""
        return resize_and_crop(image, self.image_size, self.image_size)

    @exact_inference()
    def features_of(self, prepared: Sequence[Tensor]) -> SetFeatures:
        """Return features (N, P) of N prepared pictures, and no logits."""
        pixels_BCHW = normalise(torch.stack(list(prepared)).to(self.device) / 255, MEAN, STD)
        features = self.model.get_image_features(pixels_BCHW).pooler_output.cpu()
        return SetFeatures(features, features[:, :0])
