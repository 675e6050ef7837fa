"""CLIP's embeddings of pictures as CMMD compares them (Jayasumana et al. 2024)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import CLIPModel

from ric.metrics.clip_similarity import MEAN, STD
from ric.metrics.networks import SetFeatures, exact_inference, load_folder, published_marker
from ric.metrics.resize_rules import crop_and_resize, normalise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

PUBLISHED = "openai/clip-vit-large-patch14-336"  # google-research/cmmd's vit_l14_336px


class ClipFeatures:
    """CLIP's projected embeddings of pictures, of length 1.

    Pictures go in as the reference code of CMMD feeds them: the centre square, by PIL's bicubic on
    8-bit pixels to the tower's size, OpenAI's mean and std.

    Args:
        path: A folder with a transformers `CLIPModel` (safetensors); it needs no tokenizer.
        device: Where it runs, in float32.
        encoder: Its name in headings and definitions: a hub id, or a word such as `tiny`; None:
            the published one's.

    Raises:
        RicError: the folder holds no such model.
    """

    kind = "cmmd"

    def __init__(
        self, path: Path, device: torch.device | str = "cpu", *, encoder: str | None = None
    ) -> None:
        """Load the network; see the class."""
        self.model: CLIPModel = load_folder(CLIPModel, path, device, kind="network")
        self.device = torch.device(device)
        self.image_size: int = self.model.config.vision_config.image_size
        self.marker = published_marker(encoder or PUBLISHED, PUBLISHED)
        self.definition = (
            f"embeddings of length 1 of {encoder or PUBLISHED}; centre square, PIL bicubic to"
            f" {self.image_size}"
        )

    def set_features(self, images: Sequence[Image.Image]) -> SetFeatures:
        """Return features (N, P) of N pictures of any sizes, and no logits."""
        return self.features_of([self.prepare(image) for image in images])

    def prepare(self, image: Image.Image) -> Tensor:
        """Return a picture as the tower sees it, 8-bit levels (3, S, S)."""
        return crop_and_resize(image, self.image_size)

    @exact_inference()
    def features_of(self, prepared: Sequence[Tensor]) -> SetFeatures:
        """Return features (N, P) of length 1 of N prepared pictures, and no logits."""
        levels_BCHW = torch.stack(list(prepared)).to(self.device) / 255
        pixels_BCHW = normalise(levels_BCHW, MEAN, STD)
        embeddings = self.model.get_image_features(pixels_BCHW).pooler_output
        features = normalize(embeddings, dim=-1).cpu()
        return SetFeatures(features, features[:, :0])
