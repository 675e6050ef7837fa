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
from ric.errors import RicError
from ric.model_files import read_json
from ric.pretrained import load_network, load_processor, load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ric.data.masks import Mask

PROBABILITY = 0.5  # from which on a pixel counts as shown
# by the model_type of a config.json; the released SAM 3 and SAM 2 are saved as their video models
OF_BOXES = ("grounding-dino", "mm-grounding-dino")
OF_SAM3 = ("sam3", "sam3_video")


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
    kind = str(read_json(model / "config.json").get("model_type"))
    if kind in OF_BOXES:
        if sam is None:
            raise RicError(
                f"{model} finds boxes ({kind}), and a SAM is to find the masks in them.",
                "Name one: --mask-text-sam facebook/sam-vit-base",
            )
        return GroundedMasks(model, sam, text, device)
    if kind not in ("clipseg", *OF_SAM3):
        raise RicError(
            f"{model} is a model of type '{kind}', which finds nothing by a text.",
            "--mask-text-model may be a CLIPSeg, a SAM 3, a GroundingDINO or an MM Grounding DINO.",
        )
    if sam is not None:
        raise RicError(
            f"{model} makes masks itself ({kind}): --mask-text-sam would do nothing.",
            "Omit --mask-text-sam, or name a GroundingDINO with --mask-text-model.",
        )
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
