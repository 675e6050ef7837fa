"""InstructPix2Pix sampling (Brooks et al. 2023), also for MagicBrush and every `train-unet` run.

Classifier-free guidance with two scales, Eq. 3 of that paper: with the rows ordered text and
picture, picture alone, neither,

    e = e(0,0) + s_I (e(0,I) - e(0,0)) + s_T (e(T,I) - e(0,I))

With a mask, the latents outside it are the source's, noised to the level of each step, as in
Blended Latent Diffusion (Avrahami et al. 2023) and RePaint (Lugmayr et al. 2022).
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ric.device import autocast, draw_generator
from ric.editors.editor import never_stop
from ric.editors.latent_editor import LatentEditor
from ric.editors.latent_pictures import held
from ric.errors import RicError
from ric.method.denoising import unet_input
from ric.models.pipeline import load_pipeline

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from diffusers import StableDiffusionInstructPix2PixPipeline
    from PIL.Image import Image
    from torch import Tensor

    from ric.config import Dtype
    from ric.editors.editor import EditRequest

# Shape letters: B requests, G guidance rows (3 B), C latent channels, h and w latent height and
# width, L text tokens, E text width.


class InstructPix2Pix(LatentEditor):
    """Edit by an instruction with any InstructPix2Pix-type pipeline.

    Args:
        model: The pipeline's folder, or a loaded pipeline.
        device: Where it runs.
        dtype: `bf16` runs the networks under autocast.
        steps: Denoising steps, at least 1.
        guidance: s_T, the guidance scale of the text; 1 is no guidance.
        image_guidance: s_I, that of the picture; 1 is no guidance.
        image_size: The longer side while editing, in pixels.
        seed: Determines each request's noise, together with its id.

    Raises:
        RicError: a setting is out of range, or the pipeline cannot be loaded.
    """

    SETTINGS = ("steps", "guidance", "image_guidance")

    def __init__(
        self,
        model: Path | StableDiffusionInstructPix2PixPipeline,
        *,
        device: torch.device,
        dtype: Dtype = "bf16",
        steps: int = 100,
        guidance: float = 7.5,
        image_guidance: float = 1.5,
        image_size: int = 512,
        seed: int = 0,
    ) -> None:
        """Load the pipeline; see the class."""
        if steps < 1:
            raise RicError(f"--steps is {steps}; at least 1 is needed.")
        if isinstance(model, Path):
            pipeline = load_pipeline(model, device)
            pipeline.unet.eval().requires_grad_(False)
        else:
            pipeline = model
        reads, latent = pipeline.unet.config.in_channels, pipeline.unet.config.out_channels
        if reads != 2 * latent:
            raise RicError(
                f"The UNet in {model} reads {reads} channels: "
                "it makes pictures from text and cannot see a source.",
                "Fine-tune it into an editor first: ric train-unet DATA --base …",
            )
        super().__init__(pipeline, device, dtype=dtype, image_size=image_size, seed=seed)
        self.steps, self.guidance, self.image_guidance = steps, guidance, image_guidance
        takes = inspect.signature(self.pipeline.scheduler.step).parameters
        self._scheduler_draws = "generator" in takes

    def describe(self) -> dict[str, object]:
        """Return the settings to record beside each edit."""
        return {**super().describe(), "scheduler": type(self.pipeline.scheduler).__name__}

    def cuts(self, request: EditRequest) -> bool:
        """Tell whether an edit's instruction is longer than the text encoder reads."""
        return self.pictures.is_cut(request.instruction)

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
            text = torch.stack([self.pictures.embed(item.instruction) for item in batch])
            generators = [draw_generator(self.seed, "edit", item.id) for item in batch]
            noise = torch.stack(
                [torch.randn(source.shape[1:], generator=generator) for generator in generators]
            ).to(self.device)
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
        scheduler = self.pipeline.scheduler
        scheduler.set_timesteps(self.steps, device=self.device)
        nothing = self.pictures.embed("").expand_as(text)
        text_G = torch.cat([text, nothing, nothing])
        source_G = torch.cat([source, source, torch.zeros_like(source)])
        latents = noise * scheduler.init_noise_sigma
        clean = self.pipeline.vae.config.scaling_factor * source
        # only some schedulers draw noise at each step, and only those take generators
        draws = {"generator": generators} if self._scheduler_draws else {}
        for t in scheduler.timesteps:
            between_steps()
            if mask is not None:
                latents = held(latents, scheduler.add_noise(clean, noise, t[None]), mask)
            noisy_G = scheduler.scale_model_input(torch.cat([latents] * 3), t)
            with autocast(self.device, self.pictures.dtype):
                prediction = self.pipeline.unet(
                    unet_input(noisy_G, source_G), t, encoder_hidden_states=text_G
                ).sample.float()
            guided = guide(prediction, self.guidance, self.image_guidance)
            latents = scheduler.step(guided, t, latents, **draws).prev_sample
        return held(latents, clean, mask)


def guide(prediction_G: Tensor, guidance: float, image_guidance: float) -> Tensor:
    """Apply classifier-free guidance by text and picture (Brooks et al. 2023, Eq. 3).

    Args:
        prediction_G: (3 B, C, h, w) predictions: B with both, B with the picture alone, B with
            neither.
        guidance: s_T.
        image_guidance: s_I.

    Returns:
        (B, C, h, w).
    """
    with_text, with_source, with_neither = prediction_G.chunk(3)
    return (
        with_neither
        + image_guidance * (with_source - with_neither)
        + guidance * (with_text - with_source)
    )
