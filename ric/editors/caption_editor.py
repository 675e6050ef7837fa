"""The base of editors from caption to caption, which run a text-to-image pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from ric.device import autocast
from ric.editors.editor import never_stop
from ric.editors.latent_editor import LatentEditor
from ric.models.pipeline import load_text_to_image

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from PIL.Image import Image
    from torch import Tensor

    from ric.config import Dtype
    from ric.editors.editor import EditRequest

# Shape letters: B requests, C latent channels, h and w latent height and width, L text tokens,
# E text width.


class Captions(NamedTuple):
    """Embedded captions of the sources and of the edits, (B, L, E) each."""

    source: Tensor
    target: Tensor


class CaptionEditor(LatentEditor):
    """An editor that reads both captions of a request; a subclass has `edit_latents`.

    Raises:
        RicError: the pipeline cannot be loaded.
    """

    def __init__(
        self, model: Path, device: torch.device, *, dtype: Dtype, image_size: int, seed: int
    ) -> None:
        """Load the pipeline in the folder `model`; the others as `LatentEditor`."""
        pipeline = load_text_to_image(model, device)
        pipeline.unet.eval().requires_grad_(False)
        super().__init__(pipeline, device, dtype=dtype, image_size=image_size, seed=seed)
        self.prediction_type = pipeline.scheduler.config.prediction_type

    def cuts(self, request: EditRequest) -> bool:
        """Tell whether a caption of an edit is longer than the text encoder reads."""
        return any(map(self.pictures.is_cut, (request.source_text, request.target_text)))

    def edit(
        self, requests: Sequence[EditRequest], between_steps: Callable[[], None] = never_stop
    ) -> list[Image | None]:
        """Edit pictures of any sizes; those of one working size run as one batch.

        Args:
            requests: What to edit, each with both captions; they may be empty.
            between_steps: Called before each step; what it raises ends the call.

        Returns:
            RGB pictures in the order of the requests, each in its source's size; None where the
            decoded picture is not finite.
        """
        scale = self.pipeline.vae.config.scaling_factor

        def edit_batch(batch: Sequence[EditRequest], source: Tensor) -> Tensor:
            captions = Captions(
                torch.stack([self.pictures.embed(item.source_text) for item in batch]),
                torch.stack([self.pictures.embed(item.target_text) for item in batch]),
            )
            mask = self.pictures.mask_of(batch, source)
            return self.edit_latents(scale * source, captions, batch, between_steps, mask=mask)

        return self.pictures.edit_by_size(requests, edit_batch)

    def edit_latents(
        self,
        source: Tensor,
        captions: Captions,
        requests: Sequence[EditRequest],
        between_steps: Callable[[], None] = never_stop,
        *,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Edit the sources' latents.

        Args:
            source: (B, C, h, w), scaled.
            captions: Of both ends.
            requests: Their ids and seeds determine all that is drawn.
            between_steps: Called before each step; what it raises ends the call.
            mask: (B, 1, h, w), 0 where latents are held to the source's; None: nowhere.

        Returns:
            The edits' latents (B, C, h, w), scaled; the source's own where they are held.
        """
        raise NotImplementedError

    def predict_with_captions(
        self, source: Tensor, edited: Tensor, t: int | Tensor, captions: Captions
    ) -> tuple[Tensor, ...]:
        """Run the UNet on source and edit, each without a text and with its caption.

        Args:
            source: The source's x_t (B, C, h, w).
            edited: The edit's (B, C, h, w).
            t: One timestep for all, or (B,).
            captions: Of both.

        Returns:
            Four predictions (B, C, h, w): of the source without and with its caption, of the edit
            without and with its own.
        """
        nothing = self.pictures.embed("").expand_as(captions.source)
        text = torch.cat([nothing, captions.source, nothing, captions.target])
        noisy = torch.cat([source, source, edited, edited])
        times = t.repeat(4) if isinstance(t, torch.Tensor) else t
        return self.predict(noisy, times, text).chunk(4)

    def predict(self, noisy: Tensor, t: int | Tensor, text: Tensor) -> Tensor:
        """Run the UNet on noisy latents (rows, C, h, w) and texts (rows, L, E); float32."""
        with autocast(self.device, self.pictures.dtype):
            return self.pipeline.unet(noisy.float(), t, encoder_hidden_states=text).sample.float()
