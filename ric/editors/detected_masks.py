"""Masks of the things that a detector finds for a text, each thing's mask united.

By SAM 3 (Carion et al. 2025, "SAM 3: Segment Anything with Concepts"), or by GroundingDINO (Liu et
al. 2023), whose boxes a SAM (Kirillov et al. 2023) fills: Grounded SAM (Ren et al. 2024).
Thresholds are the defaults of transformers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import interpolate
from transformers import (
    AutoModelForMaskGeneration,
    AutoModelForZeroShotObjectDetection,
    GroundingDinoProcessor,
    Sam2Processor,
    Sam3Model,
    Sam3Processor,
    SamProcessor,
)

from ric.errors import RicError
from ric.model_files import read_json
from ric.pretrained import load_network, load_processor

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image
    from torch import Tensor

    from ric.data.masks import Mask

# Shape letters: N things, H and W pixels.

SCORE, PROBABILITY = 0.3, 0.5  # above which SAM 3 has found a thing, and a pixel is the thing's
BOX_SCORE = 0.25  # above which GroundingDINO has found a thing
# by the model_type of a SAM's config.json; the released SAM 2 are saved as their video models
SAM_PROCESSORS = {"sam": SamProcessor, "sam2": Sam2Processor, "sam2_video": Sam2Processor}


def refuse_long(ids: Tensor, most: int) -> None:
    """Refuse a text, by its tokens (1, T), that a model would not read whole (raises RicError)."""
    if ids.shape[1] > most:
        raise RicError(
            f"--mask-text has {ids.shape[1]} tokens, and the model reads {most}.",
            'Name the thing alone: --mask-text "the dress"',
        )


class Sam3Masks:
    """Finds all things that a text names by SAM 3.

    Args:
        folder: The model's.
        text: A short noun phrase, such as `the dress`.
        device: Where it runs.

    Raises:
        RicError: the folder holds no SAM 3, or not all of it, or the text is too long for it.
    """

    def __init__(self, folder: Path, text: str, device: torch.device) -> None:
        """Load the model; see the class."""
        self.device = device
        self.network = load_network(Sam3Model, folder, dtype=torch.float32).to(device)
        self.processor = load_processor(Sam3Processor, folder)
        words = self.processor(text=text, return_tensors="pt").to(device)
        refuse_long(words.input_ids, self.network.config.text_config.max_position_embeddings)
        self.words = {"input_ids": words.input_ids, "attention_mask": words.attention_mask}

    @torch.no_grad()
    def __call__(self, image: Image) -> Mask:
        """Find them in an RGB picture: (H, W), bool; maybe nowhere."""
        pixels = self.processor(images=image, return_tensors="pt").pixel_values.to(self.device)
        found = self.network(pixel_values=pixels, **self.words)
        scores_N = found.pred_logits[0].sigmoid() * found.presence_logits[0].sigmoid()
        mask = np.zeros((image.height, image.width), dtype=bool)
        # one by one: the processor would hold those of a whole crowd at the photo's size
        for thing in found.pred_masks[0][scores_N > SCORE].sigmoid():
            whole_HW = interpolate(thing[None, None], mask.shape, mode="bilinear")[0, 0]
            mask |= (whole_HW > PROBABILITY).cpu().numpy()
        return mask


class GroundedMasks:
    """Finds all things that a text names by a GroundingDINO, and their masks by a SAM.

    Args:
        folder: The GroundingDINO's, or the MM Grounding DINO's.
        sam: The SAM's, or the SAM 2's.
        text: Such as `the dress`, or several things: `the dress. the hat`.
        device: Where both run.

    Raises:
        RicError: a folder holds no such model, or not all of it, or the text is too long.
    """

    def __init__(self, folder: Path, sam: Path, text: str, device: torch.device) -> None:
        """Load both models; see the class."""
        self.device = device
        network = load_network(AutoModelForZeroShotObjectDetection, folder, dtype=torch.float32)
        self.network = network.to(device)
        self.processor = load_processor(GroundingDinoProcessor, folder)
        # it was trained on lower case, and the dot ends the name of a thing
        self.text = text.lower().strip().removesuffix(".") + "."
        tokens = self.processor.tokenizer(self.text, return_tensors="pt").input_ids
        refuse_long(tokens, network.config.max_text_len)
        self.fill = BoxSam(sam, device)

    @torch.no_grad()
    def __call__(self, image: Image) -> Mask:
        """Find them in an RGB picture: (H, W), bool; maybe nowhere."""
        inputs = self.processor(images=image, text=self.text, return_tensors="pt").to(self.device)
        (found,) = self.processor.post_process_grounded_object_detection(
            self.network(**inputs),
            inputs.input_ids,
            threshold=BOX_SCORE,
            target_sizes=[(image.height, image.width)],
        )
        return self.fill(image, found["boxes"])


class BoxSam:
    """Segment Anything, or SAM 2, asked by boxes for the one mask in each.

    Args:
        folder: The model's.
        device: Where it runs.

    Raises:
        RicError: the folder holds no such model, or not all of it.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        """Load the model; see the class."""
        kind = str(read_json(folder / "config.json").get("model_type"))
        if kind not in SAM_PROCESSORS:
            raise RicError(
                f"{folder} is a model of type '{kind}', which makes no masks from boxes.",
                "--mask-text-sam may be a SAM or a SAM 2, such as facebook/sam-vit-base.",
            )
        network = load_network(AutoModelForMaskGeneration, folder, dtype=torch.float32)
        self.network, self.device = network.to(device), device
        self.processor = load_processor(SAM_PROCESSORS[kind], folder)

    @torch.no_grad()
    def __call__(self, image: Image, boxes_N4: Tensor) -> Mask:
        """Unite the masks of boxes in an RGB picture.

        Args:
            image: The picture.
            boxes_N4: Left, top, right, bottom, in pixels; N may be 0.

        Returns:
            (H, W), bool.
        """
        mask = np.zeros((image.height, image.width), dtype=bool)
        if not len(boxes_N4):
            return mask
        inputs = self.processor(image, input_boxes=[boxes_N4.tolist()], return_tensors="pt")
        seen = self.network.get_image_embeddings(inputs.pixel_values.to(self.device))
        names = ("original_sizes", "reshaped_input_sizes")  # the latter is SAM's, not SAM 2's
        sizes = {name: inputs[name] for name in names if name in inputs}
        for box in inputs.input_boxes.to(self.device, torch.float32).split(1, dim=1):
            made = self.network(image_embeddings=seen, input_boxes=box, multimask_output=False)
            (whole,) = self.processor.post_process_masks(made.pred_masks, **sizes)
            mask |= whole[0, 0].cpu().numpy()
        return mask
