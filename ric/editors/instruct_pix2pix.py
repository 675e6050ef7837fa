"""InstructPix2Pix sampling (Brooks et al. 2023), also for MagicBrush and every `train-unet` run.

With a mask, the latents outside it are the source's, noised to the level of each step, as in
Blended Latent Diffusion (Avrahami et al. 2023) and RePaint (Lugmayr et al. 2022).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ric.editors.editor import never_stop
from ric.editors.instruction_editor import InstructionEditor
from ric.editors.latent_pictures import held
from ric.editors.sampling import Sampling

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PIL.Image import Image
    from torch import Tensor

    from ric.editors.editor import EditRequest

# Shape letters: B requests, C latent channels, h and w latent height and width, L text tokens,
# E text width.


class InstructPix2Pix(InstructionEditor):
    """Edit by an instruction with any InstructPix2Pix-type pipeline.

    Args and errors are those of `InstructionEditor`; the noise that some schedulers draw at each
    step is determined by the seed and the request's id, too.
    """

    def edit(
        self, requests: Sequence[EditRequest], between_steps: Callable[[], None] = never_stop
    ) -> list[Image | None]:
        """Edit pictures of any sizes; those of one working size run as one batch.

        Args:
            requests: What to edit.
            between_steps: Called before each denoising step; what it raises ends the call.

        Returns:
            RGB pictures in the order of the requests, each in its source's size; None where the
            decoded picture is not finite.
        """

        def edit_latents(batch: Sequence[EditRequest], source: Tensor) -> Tensor:
            text, noise, generators = self.begin(batch, source)
            mask = self.pictures.mask_of(batch, source)
            return self.denoise(source, text, noise, generators, between_steps, mask=mask)

        return self.pictures.edit_by_size(requests, edit_latents)

    @torch.no_grad()
    def denoise(
        self,
        source: Tensor,
        text: Tensor,
        noise: Tensor,
        generators: list[torch.Generator],
        between_steps: Callable[[], None] = never_stop,
        *,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Sample x_0 latents.

        Args:
            source: Posterior modes (B, C, h, w), not scaled.
            text: Instructions' embeddings (B, L, E).
            noise: Standard Gaussian (B, C, h, w).
            generators: One per request, for the noise that some schedulers draw at each step.
            between_steps: Called before each step; what it raises ends the sampling.
            mask: (B, 1, h, w), 0 where latents are held to the source's; None: nowhere.

        Returns:
            (B, C, h, w), scaled; the source's own where they are held.
        """
        rows = self.rows_of_guidance(source, text)
        clean = self.pipeline.vae.config.scaling_factor * source
        sampling = Sampling(self.new_scheduler(), self.steps, noise, generators)
        for t in sampling.timesteps:
            between_steps()
            sampling.hold(clean, t, mask)
            sampling.step(self.predict(self.pipeline.unet, sampling.input(t), t, rows), t)
        return held(sampling.latents, clean, mask)
