"""Conversion of pictures to a pipeline's latents and back, shared by all latent editors.

Size: the longer side is resized to `image_size` and both sides to the nearest multiple that VAE and
UNet can halve (64 px for Stable Diffusion), by squashing; the result is resized back. The original
of InstructPix2Pix crops to its multiple instead, which would lose the picture's edges.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from ric.data.batches import to_unit
from ric.data.masks import resize_mask
from ric.device import autocast, pick_dtype
from ric.models.pipeline import count_cut, encode_prompts, encode_source, size_multiple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from ric.config import Dtype
    from ric.editors.editor import EditRequest
    from ric.models.pipeline import Pipeline

# Shape letters: B requests, C latent channels, h and w latent height and width, L text tokens,
# E text width.


REMEMBERED_PROMPTS = 256  # 60 MB of Stable Diffusion's; a folder of photos shares one


class LatentPictures:
    """A pipeline's way from pictures and texts to tensors and back.

    Args:
        pipeline: Has VAE, text encoder, tokenizer and UNet.
        device: Where they are.
        dtype: `bf16` runs them under autocast; `auto` where the device has it.
        image_size: The longer side while editing, in pixels.
    """

    def __init__(
        self, pipeline: Pipeline, device: torch.device, dtype: Dtype, image_size: int
    ) -> None:
        """Hold the networks; see the class."""
        self.pipeline, self.device = pipeline, device
        self.dtype, self.image_size = pick_dtype(dtype, device), image_size
        self.embed = lru_cache(REMEMBERED_PROMPTS)(self._embed)

    def is_cut(self, text: str) -> bool:
        """Tell whether a text is longer than the text encoder reads."""
        return count_cut(self.pipeline, [text]) > 0

    def working_size(self, width: int, height: int) -> tuple[int, int]:
        """Return the width and height a picture is edited at, in pixels."""
        multiple = size_multiple(self.pipeline)
        scale = self.image_size / max(width, height) / multiple
        return (
            max(1, round(width * scale)) * multiple,
            max(1, round(height * scale)) * multiple,
        )

    def mask_of(self, requests: Sequence[EditRequest], latents: Tensor) -> Tensor | None:
        """Bring the requests' masks to the size of latents (B, C, h, w).

        A place that a mask touches anywhere is inside it.

        Returns:
            (B, 1, h, w), 1 where latents may change and 0 where they are held to the source's;
            None where no request has a mask.
        """
        if all(request.mask is None for request in requests):
            return None
        height, width = latents.shape[-2:]
        everywhere = np.ones((height, width), dtype=bool)
        inside = [
            everywhere if item.mask is None else resize_mask(item.mask, height, width)
            for item in requests
        ]
        return torch.from_numpy(np.stack(inside))[:, None].to(latents)

    def edit_by_size(
        self,
        requests: Sequence[EditRequest],
        edit_latents: Callable[[Sequence[EditRequest], Tensor], Tensor],
    ) -> list[Image.Image | None]:
        """Edit pictures of any sizes; those of one working size are one batch.

        Args:
            requests: What to edit.
            edit_latents: Returns the edits' latents (B, C, h, w), scaled, given B requests and
                their sources' posterior modes (B, C, h, w), not scaled.

        Returns:
            RGB pictures in the order of the requests, each in its source's size; None where the
            decoded picture is not finite.
        """
        results: dict[int, Image.Image | None] = {}
        for indices, made in self.decode_by_size(requests, edit_latents):
            for index, edited in zip(indices, made, strict=True):
                source = requests[index].image
                results[index] = edited and edited.resize(source.size, Image.Resampling.LANCZOS)
        return [results[index] for index in range(len(requests))]

    def decode_by_size(
        self,
        requests: Sequence[EditRequest],
        edit_latents: Callable[[Sequence[EditRequest], Tensor], Tensor],
    ) -> Iterator[tuple[list[int], list[Image.Image | None]]]:
        """Edit pictures of any sizes, and yield each batch of one working size as it is decoded.

        Args:
            requests: What to edit.
            edit_latents: As `edit_by_size`.

        Yields:
            The places of the batch's requests among all, and their edits in the working size; None
            where one is not finite.
        """
        by_size: dict[tuple[int, int], list[int]] = {}
        for index, request in enumerate(requests):
            by_size.setdefault(self.working_size(*request.image.size), []).append(index)
        for size, indices in by_size.items():
            batch = [requests[index] for index in indices]
            sources = self.encode([item.image for item in batch], size)
            yield indices, self.decode(edit_latents(batch, sources))

    @torch.no_grad()
    def encode(self, images: Sequence[Image.Image], size: tuple[int, int]) -> Tensor:
        """Bring pictures to one size and encode them: modes (B, C, h, w), float32, not scaled."""
        resized = [image.resize(size, Image.Resampling.LANCZOS) for image in images]
        pixels = torch.stack([to_unit(pil_to_tensor(image)) for image in resized])
        with autocast(self.device, self.dtype):
            return encode_source(self.pipeline, pixels.to(self.device)).float()

    @torch.no_grad()
    def decode(self, latents: Tensor) -> list[Image.Image | None]:
        """Decode scaled latents (B, C, h, w); None where a picture is not finite."""
        vae = self.pipeline.vae
        with autocast(self.device, self.dtype):
            decoded = vae.decode(latents / vae.config.scaling_factor)
        pixels = decoded.sample.float()
        finite = torch.isfinite(pixels).all(dim=(1, 2, 3)).tolist()
        levels = (pixels.nan_to_num().clamp(-1, 1) + 1) * 127.5
        arrays = levels.round().byte().permute(0, 2, 3, 1).cpu().numpy()
        # as bytes, a NaN would be black
        return [
            Image.fromarray(array) if is_finite else None
            for array, is_finite in zip(arrays, finite, strict=True)
        ]

    @torch.no_grad()
    def _embed(self, text: str) -> Tensor:
        """Embed a text: (L, E), float32."""
        with autocast(self.device, self.dtype):
            return encode_prompts(self.pipeline, [text])[0].float()


def held(latents: Tensor, source: Tensor, mask: Tensor | None) -> Tensor:
    """Put the source's latents in place of others outside a mask.

    Args:
        latents: (B, C, h, w).
        source: The source's, at the same level of noise, (B, C, h, w).
        mask: (B, 1, h, w) as `LatentPictures.mask_of` gives it; None: everything may change.
    """
    return latents if mask is None else torch.where(mask > 0, latents, source)
