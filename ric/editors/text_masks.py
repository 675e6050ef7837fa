"""A mask from words: where a picture shows what a text names.

By CLIPSeg (Lueddecke and Ecker 2022, "Image Segmentation Using Text and Image Prompts"), or by the
detectors of `ric.editors.detected_masks`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from transformers import AutoImageProcessor, CLIPSegForImageSegmentation

from ric.editors.detected_masks import GroundedMasks, Sam3Masks, refuse_long
from ric.models.mask_finders import finder_kind
from ric.pretrained import load_network, load_processor, load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ric.data.masks import Mask

PROBABILITY = 0.5  # from which on a pixel counts as shown


def load_finder(
    model: Path, sam: Path | None, text: str, device: torch.device
) -> Callable[[Image.Image], Mask]:
    """Load what finds a text in RGB pictures of any size: (H, W), bool; maybe nowhere.

    The `model_type` in the model's config.json decides.

    Args:
        model: Its folder, of `--mask-text-model`.
        sam: The folder of `--mask-text-sam`, for a model that finds boxes.
        text: Such as `the dress`.
        device: Where it runs.

    Raises:
        RicError: the type is none that is known, a SAM is missing or would do nothing, a
            folder does not hold all of its model, or the text is too long for it.
    """
    kind = finder_kind(model, with_sam=sam is not None)
    if sam is not None:  # it finds boxes
        return GroundedMasks(model, sam, text, device)
    return (ClipsegMasks if kind == "clipseg" else Sam3Masks)(model, text, device)


class ClipsegMasks:
    """Finds what a text names by CLIPSeg.

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
        self.device = device
        network = load_network(CLIPSegForImageSegmentation, folder, dtype=torch.float32)
        self.network = network.to(device)
        self.processor = load_processor(AutoImageProcessor, folder)
        self.words = load_tokenizer(folder)(text, return_tensors="pt").to(device)
        refuse_long(self.words.input_ids, network.config.text_config.max_position_embeddings)

    @torch.no_grad()
    def __call__(self, image: Image.Image) -> Mask:
        """Find it in an RGB picture: (H, W), bool; maybe nowhere."""
        pixels = self.processor(image, return_tensors="pt").pixel_values.to(self.device)
        logits = self.network(
            input_ids=self.words.input_ids,
            attention_mask=self.words.attention_mask,
            pixel_values=pixels,
        ).logits
        shown = logits.sigmoid().reshape(logits.shape[-2:]).cpu().numpy()
        whole = Image.fromarray(shown).resize(image.size, Image.Resampling.BILINEAR)
        return np.asarray(whole) >= PROBABILITY
