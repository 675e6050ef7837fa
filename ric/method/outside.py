"""A loss term that keeps the picture outside the edited region like the target; not in the paper.

The two alignments can be lowered by changing pixels that no text speaks of. This term covers those
pixels and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ric.method.losses import at_least_float32

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, AutoencoderTiny, StableDiffusionInstructPix2PixPipeline

    from ric.method.noised_batch import NoisedBatch


class Outside:
    """Mean absolute difference between x0_hat and the decoded target, outside each sample's box."""

    def __init__(self, decoder: AutoencoderKL | AutoencoderTiny) -> None:
        """Take the decoder of the target's latents, the one that decodes x0_hat's too."""
        self._decoder = decoder

    @classmethod
    def for_training(
        cls,
        pipeline: StableDiffusionInstructPix2PixPipeline,
        decoder: AutoencoderKL | AutoencoderTiny,
        config: object,
    ) -> Outside:
        """Build the term for a training, with the arguments that `ric.registry` passes."""
        return cls(decoder)

    def __call__(self, pixels: Tensor, batch: NoisedBatch) -> Tensor:
        """Compute it: (B,), 0 to 2; 0 for a sample without a box, or one that its box fills."""
        with torch.no_grad():
            latents = batch.clean_latents / self._decoder.config.scaling_factor
            target = self._decoder.decode(latents.to(self._decoder.dtype)).sample.clamp(-1, 1)
        distance_BHW = (pixels - at_least_float32(target)).abs().mean(dim=1)
        outside_BHW = torch.zeros_like(distance_BHW)
        for row, box in enumerate(batch.boxes):
            if box is not None:
                x_min, y_min, x_max, y_max = box
                outside_BHW[row] = 1
                outside_BHW[row, y_min:y_max, x_min:x_max] = 0
        return (distance_BHW * outside_BHW).sum(dim=(1, 2)) / outside_BHW.sum(dim=(1, 2)).clamp(
            min=1
        )
