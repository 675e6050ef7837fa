"""A batch of noised latents, and selecting samples of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ric.method.region_box import Box

# Shape letters: B batch, C latent channels, H and W latent height and width, P and Q the two
# judges' widths.


@dataclass(frozen=True)
class NoisedBatch:
    """A batch of noised latents, and everything its losses need beside the prediction.

    `kept_region` and `kept_scene` (and with some rules `timesteps`, `shifts` and `pixel_seeds`) are
    read on the host: keep them on the CPU, or every step waits for the GPU.

    Attributes:
        noisy: x_t (B, C, H, W).
        clean_latents: x_0, the target's scaled latents (B, C, H, W).
        noise: epsilon (B, C, H, W).
        timesteps: t (B,), whole numbers.
        boxes: B boxes (x_min, y_min, x_max, y_max) in pixels of the decoded image, half-open; None
            where the region is not kept.
        region_text_embeddings: e_tr (B, P); None without a region encoder.
        scene_text_embeddings: e_tf (B, Q); None without a scene encoder.
        kept_region: (B,) bool, the samples the region loss counts (choice 6).
        kept_scene: (B,) bool, the samples the global loss counts (choice 6).
        region_ceilings: (B,) cosines at which the region loss ends (choice 16); None: at 1.
        scene_ceilings: (B,) likewise for the global loss.
        shifts: (B, 2) in [-1, 1], and
        pixel_seeds: B seeds, for `alignment.augmented`; None without it.
    """

    noisy: Tensor
    clean_latents: Tensor
    noise: Tensor
    timesteps: Tensor
    boxes: Sequence[Box | None]
    region_text_embeddings: Tensor | None
    scene_text_embeddings: Tensor | None
    kept_region: Tensor
    kept_scene: Tensor
    region_ceilings: Tensor | None = None
    scene_ceilings: Tensor | None = None
    shifts: Tensor | None = None
    pixel_seeds: Sequence[int] | None = None

    def of(self, rows: list[int]) -> NoisedBatch:
        """Select samples by their row."""
        return NoisedBatch(
            noisy=pick(self.noisy, rows),
            clean_latents=pick(self.clean_latents, rows),
            noise=pick(self.noise, rows),
            timesteps=pick(self.timesteps, rows),
            boxes=[self.boxes[row] for row in rows],
            region_text_embeddings=pick_some(self.region_text_embeddings, rows),
            scene_text_embeddings=pick_some(self.scene_text_embeddings, rows),
            kept_region=pick(self.kept_region, rows),
            kept_scene=pick(self.kept_scene, rows),
            region_ceilings=pick_some(self.region_ceilings, rows),
            scene_ceilings=pick_some(self.scene_ceilings, rows),
            shifts=pick_some(self.shifts, rows),
            pixel_seeds=self.pixel_seeds and [self.pixel_seeds[row] for row in rows],
        )


def pick_some(tensor: Tensor | None, rows: list[int]) -> Tensor | None:
    """Select rows of a tensor; None stays None."""
    return None if tensor is None else pick(tensor, rows)


def pick(tensor: Tensor, rows: list[int]) -> Tensor:
    """Select rows; `tensor[rows]` would copy the indices to the device and wait for it."""
    every = tensor.unbind()
    return torch.stack([every[row] for row in rows])
