"""DINO similarity: the cosine of two pictures' CLS tokens (Caron et al. 2021)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import ViTModel

from ric.metrics.networks import exact_inference, load_folder, published_marker
from ric.metrics.resize_rules import normalise, resize_and_crop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

PUBLISHED = "facebook/dino-vits16"  # MagicBrush's image_eval.py: torch.hub's dino_vits16

# ImageNet's pixel statistics, as DINO's own evaluation uses them
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class DinoSimilarity:
    """A vision transformer's CLS token after the final norm, as a unit vector.

    Pictures go in as DINO's own evaluation feeds them: short side to 256 by PIL's bicubic on 8-bit
    pixels, centre crop of 224, ImageNet mean and std; not by the folder's own preprocessor, which
    squashes to 224. A model of another size S keeps the proportion: short side round(256 S / 224),
    crop S.

    Args:
        path: A folder with a transformers `ViTModel` (safetensors).
        device: Where it runs, in float32.
        encoder: Its name in headings and definitions: a hub id, or a word such as `tiny`. None
            takes the folder's name.

    Raises:
        RicError: the folder holds no such model.
    """

    def __init__(
        self, path: Path, device: torch.device | str = "cpu", *, encoder: str | None = None
    ) -> None:
        """Load the network; see the class."""
        # the pooler is a layer DINO does not have
        self.model: ViTModel = load_folder(
            ViTModel, path, device, kind="network", add_pooling_layer=False
        )
        self.device = torch.device(device)
        self.crop: int = self.model.config.image_size
        self.short_side = round(256 * self.crop / 224)
        self.marker = published_marker(encoder or Path(path).name, PUBLISHED)
        self.definition = (
            f"cosine of CLS tokens of {encoder or Path(path).name}; "
            f"PIL bicubic to {self.short_side}, centre crop {self.crop}"
        )

    def image_embeddings(self, images: Sequence[Image.Image]) -> Tensor:
        """Return (N, P) unit vectors of N pictures of any sizes, on the CPU."""
        return self.embed([self.prepare(image) for image in images])

    def prepare(self, image: Image.Image) -> Tensor:
        """Return a picture as the transformer sees it, 8-bit levels (3, S, S)."""
        return resize_and_crop(image, self.short_side, self.crop)

    @exact_inference()
    def embed(self, prepared: Sequence[Tensor]) -> Tensor:
        """Return (N, P) unit vectors of N prepared pictures, on the CPU."""
        pixels_BCHW = normalise(torch.stack(list(prepared)).to(self.device) / 255, MEAN, STD)
        return normalize(self.model(pixels_BCHW).last_hidden_state[:, 0], dim=-1).cpu()
