"""PickScore: how well a picture suits a text, as people chose pictures (Kirstain et al. 2023)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ric.metrics.clip_similarity import ClipSimilarity
from ric.metrics.resize_rules import resize_and_crop_as_transformers

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import Tensor

PUBLISHED = "yuvalkirstain/PickScore_v1"


class PickScore(ClipSimilarity):
    """A CLIP fine-tuned on choices of people; the score is exp(logit_scale) times its cosine.

    Pictures go in as transformers' processor of laion/CLIP-ViT-H-14-laion2B-s32B-b79K feeds them:
    PIL's bicubic on 8-bit pixels to the tower's size, centre crop, OpenAI's mean and std. A text
    longer than the tower reads is cut before its end token, as the processor cuts it.

    Args:
        path: A folder with a transformers `CLIPModel` (safetensors) and its tokenizer.
        device: Where it runs, in float32.
        encoder: Its name in headings and definitions; None: the published one's.

    Attributes:
        scale: exp(logit_scale), about 100 of the published weights.

    Raises:
        RicError: the folder holds no such model.
    """

    def __init__(
        self, path: Path, device: torch.device | str = "cpu", *, encoder: str | None = None
    ) -> None:
        """Load the network; see the class."""
        super().__init__(path, device, encoder=encoder or PUBLISHED, published=PUBLISHED)
        self.scale = float(self.model.logit_scale.exp())
        self.definition = f"{self.scale:.4g} times the {self.definition}, as transformers does it"

    def prepare(self, image: Image.Image) -> Tensor:
        """Return a picture as the tower sees it, 8-bit levels (3, S, S)."""
        return resize_and_crop_as_transformers(image, self.image_size, self.image_size)
