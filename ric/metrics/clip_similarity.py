"""CLIP-I and CLIP-T: cosines in CLIP's joint space (Radford et al. 2021; Hessel et al. 2021)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import CLIPModel

from ric.metrics.networks import exact_inference, load_folder, published_marker
from ric.metrics.resize_rules import normalise, resize_and_crop
from ric.pretrained import load_tokenizer, refuse_foreign_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

PUBLISHED = "openai/clip-vit-base-patch32"  # MagicBrush's image_eval.py

# OpenAI's own pixel statistics; CLIP never uses ImageNet's
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


class ClipSimilarity:
    """CLIP with unit vectors as embeddings, so that a dot product is a cosine.

    Pictures go in as OpenAI's `clip` package feeds them: PIL's bicubic on 8-bit pixels to the
    tower's size, centre crop, OpenAI's mean and std. A text longer than the tower reads is cut
    before its end token, which stays: the tower pools there, and without it all long texts would
    share one vector.

    Args:
        path: A folder with a transformers `CLIPModel` (safetensors) and its tokenizer.
        device: Where it runs, in float32.
        encoder: Its name in headings and definitions: a hub id, or a word such as `tiny`. None
            takes the folder's name.
        published: The encoder whose scores carry no marker.

    Raises:
        RicError: the folder holds no such model.
    """

    def __init__(
        self,
        path: Path,
        device: torch.device | str = "cpu",
        *,
        encoder: str | None = None,
        published: str = PUBLISHED,
    ) -> None:
        """Load the network; see the class."""
        self.model: CLIPModel = load_folder(CLIPModel, path, device, kind="text and image model")
        self.tokenizer = load_tokenizer(path)
        refuse_foreign_words(path, self.tokenizer, self.model.config.text_config.vocab_size)
        self.device = torch.device(device)
        self.image_size: int = self.model.config.vision_config.image_size
        self.max_tokens: int = self.model.config.text_config.max_position_embeddings
        self.marker = published_marker(encoder or Path(path).name, published)
        self.definition = (
            f"cosine in {encoder or Path(path).name}; PIL bicubic to {self.image_size}, centre crop"
        )

    def image_embeddings(self, images: Sequence[Image.Image]) -> Tensor:
        """Return (N, P) unit vectors of N pictures of any sizes, on the CPU."""
        return self.embed([self.prepare(image) for image in images])

    def prepare(self, image: Image.Image) -> Tensor:
        """Return a picture as the tower sees it, 8-bit levels (3, S, S)."""
        return resize_and_crop(image, self.image_size, self.image_size)

    @exact_inference()
    def embed(self, prepared: Sequence[Tensor]) -> Tensor:
        """Return (N, P) unit vectors of N prepared pictures, on the CPU."""
        pixels_BCHW = normalise(torch.stack(list(prepared)).to(self.device) / 255, MEAN, STD)
        return normalize(self.model.get_image_features(pixels_BCHW).pooler_output, dim=-1).cpu()

    @exact_inference()
    def text_embeddings(self, texts: Sequence[str]) -> Tensor:
        """Return (N, P) unit vectors of N texts, on the CPU; a text that `is_cut` is truncated."""
        rows = [self._tokens(text) for text in texts]
        longest = max(map(len, rows))
        end = self.model.config.text_config.eos_token_id
        # the tower is causal and pools at the first end token: the padding is never seen
        filled = [row + [end] * (longest - len(row)) for row in rows]
        tokens_BT = torch.tensor(filled, device=self.device)
        return normalize(self.model.get_text_features(tokens_BT).pooler_output, dim=-1).cpu()

    def is_cut(self, text: str) -> bool:
        """Tell whether a text is longer than the tower reads."""
        return len(self.tokenizer(text, verbose=False)["input_ids"]) > self.max_tokens

    def _tokens(self, text: str) -> list[int]:
        """Tokenise one text, cut to the tower's length with its end token kept."""
        tokens: list[int] = self.tokenizer(text, verbose=False)["input_ids"]
        if len(tokens) <= self.max_tokens:
            return tokens
        return tokens[: self.max_tokens - 1] + tokens[-1:]
