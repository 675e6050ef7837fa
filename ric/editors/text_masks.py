"""A mask from words: where a picture shows what a text names.

By CLIPSeg (Lueddecke and Ecker 2022, "Image Segmentation Using Text and Image Prompts").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from transformers import AutoImageProcessor, CLIPSegForImageSegmentation

from ric.errors import RicError
from ric.pretrained import errors_in_one_line, load_network, load_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from ric.data.masks import Mask

PROBABILITY = 0.5  # from which on a pixel counts as shown


class TextMasks:
    """Finds in pictures of any size what a text names.

    The network reads a picture squashed to its own square (352 px for the released ones), so a
    thing of a few pixels there is not found.

    Args:
        folder: The model's.
        text: Such as `the dress`.
        device: Where it runs.

    Raises:
        RicError: the folder holds no CLIPSeg, or not all of it, or the text is too long for it.
    """

    def __init__(self, folder: Path, text: str, device: torch.device) -> None:
        """Load the model; see the class."""
        self.text, self.device = text, device
        network = load_network(CLIPSegForImageSegmentation, folder, dtype=torch.float32)
        self.network = network.to(device)
        tokenizer = load_tokenizer(folder)
        with errors_in_one_line(f"Cannot load the image processor in {folder}"):
            self.processor = AutoImageProcessor.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        self.words = tokenizer(text, return_tensors="pt").to(device)
        length = self.words.input_ids.shape[1]
        most = network.config.text_config.max_position_embeddings
        if length > most:
            raise RicError(
                f"--mask-text has {length} tokens, and the model reads {most}.",
                'Name the thing alone: --mask-text "the dress"',
            )

    @torch.no_grad()
    def __call__(self, image: Image.Image) -> Mask:
        """Find what the text names in an RGB picture: (H, W), bool; maybe nowhere."""
        pixels = self.processor(image, return_tensors="pt").pixel_values.to(self.device)
        logits = self.network(
            input_ids=self.words.input_ids,
            attention_mask=self.words.attention_mask,
            pixel_values=pixels,
        ).logits
        shown = logits.sigmoid().reshape(logits.shape[-2:]).cpu().numpy()
        whole = Image.fromarray(shown).resize(image.size, Image.Resampling.BILINEAR)
        return np.asarray(whole) >= PROBABILITY
