"""InstructPix2Pix sampling (Brooks et al. 2023), also for MagicBrush and every `train-unet` run.

Classifier-free guidance with two scales, Eq. 3 of that paper: with the rows ordered text and
picture, picture alone, neither,

    e = e(0,0) + s_I (e(0,I) - e(0,0)) + s_T (e(T,I) - e(0,I))

Size: the longer side is resized to `image_size` and both sides to the nearest multiple the UNet can
halve (64 px for Stable Diffusion), by squashing; the result is resized back. The original crops to
its multiple instead, which would lose the picture's edges.
"""

from __future__ import annotations

import inspect
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from ric.data.batches import to_unit
from ric.device import autocast, draw_generator, pick_dtype
from ric.editors.editor import never_stop
from ric.errors import RicError
from ric.method.denoising import unet_input
from ric.models.pipeline import (
    count_cut,
    encode_prompts,
    encode_source,
    load_pipeline,
    size_multiple,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from diffusers import StableDiffusionInstructPix2PixPipeline
    from torch import Tensor

    from ric.config import Dtype, EditConfig
    from ric.editors.editor import EditRequest

# Shape letters: B requests, G guidance rows (3 B), C latent channels, h and w latent height and
# width, L text tokens, E text width.

REMEMBERED_PROMPTS = 256  # 60 MB of Stable Diffusion's; a folder of photos shares one


class InstructPix2Pix:
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
            self.pipeline = load_pipeline(model, device)
            self.pipeline.unet.eval().requires_grad_(False)
        else:
            self.pipeline = model
        if self.pipeline.unet.config.in_channels != 2 * self.pipeline.unet.config.out_channels:
            raise RicError(
                f"The UNet in {model} reads {self.pipeline.unet.config.in_channels} channels: "
                "it makes pictures from text and cannot see a source.",
                "Fine-tune it into an editor first: ric train-unet DATA --base …",
            )
        self.device, self.dtype = device, pick_dtype(dtype, device)
        self.steps, self.guidance, self.image_guidance = steps, guidance, image_guidance
        self.image_size, self.seed = image_size, seed
        takes = inspect.signature(self.pipeline.scheduler.step).parameters
        self._scheduler_draws = "generator" in takes
        self._prompt = lru_cache(REMEMBERED_PROMPTS)(self._embed)

    @classmethod
    def from_config(cls, model: Path, config: EditConfig, device: torch.device) -> InstructPix2Pix:
        """Load the pipeline in `model` with the settings of `ric edit`."""
        return cls(
            model,
            device=device,
            dtype=config.dtype,
            steps=config.steps,
            guidance=config.guidance,
            image_guidance=config.image_guidance,
            image_size=config.image_size,
            seed=config.seed,
        )

    def describe(self) -> dict[str, object]:
        """Return the settings to record beside each edit."""
        return {
            "steps": self.steps,
            "guidance": self.guidance,
            "image_guidance": self.image_guidance,
            "image_size": self.image_size,
            "seed": self.seed,
            "dtype": str(self.dtype).removeprefix("torch."),
            "scheduler": type(self.pipeline.scheduler).__name__,
        }

    def cuts(self, instruction: str) -> bool:
        """Tell whether an instruction is longer than the text encoder reads."""
        return count_cut(self.pipeline, [instruction]) > 0

    def working_size(self, width: int, height: int) -> tuple[int, int]:
        """Return the width and height a picture is edited at, in pixels."""
        multiple = size_multiple(self.pipeline)
        scale = self.image_size / max(width, height) / multiple
        return (
            max(1, round(width * scale)) * multiple,
            max(1, round(height * scale)) * multiple,
        )

    def edit(
        self, requests: Sequence[EditRequest], between_steps: Callable[[], None] = never_stop
    ) -> list[Image.Image | None]:
        """Edit pictures of any sizes; those of one working size run as one batch.

        Args:
            requests: What to edit.
            between_steps: Called before each denoising step; what it raises ends the call.

        Returns:
            RGB pictures in the order of the requests, each in its source's size; None where the
            decoded picture is not finite.
        """
        results: dict[int, Image.Image | None] = {}
        by_size: dict[tuple[int, int], list[int]] = {}
        for index, request in enumerate(requests):
            by_size.setdefault(self.working_size(*request.image.size), []).append(index)
        for size, indices in by_size.items():
            batch = [requests[index] for index in indices]
            made = self._edit_batch(batch, size, between_steps)
            for index, edited in zip(indices, made, strict=True):
                source = requests[index].image
                results[index] = edited and edited.resize(source.size, Image.Resampling.LANCZOS)
        return [results[index] for index in range(len(requests))]

    @torch.no_grad()
    def _edit_batch(
        self,
        requests: Sequence[EditRequest],
        size: tuple[int, int],
        between_steps: Callable[[], None],
    ) -> list[Image.Image | None]:
        resized = [item.image.resize(size, Image.Resampling.LANCZOS) for item in requests]
        sources = torch.stack([to_unit(pil_to_tensor(image)) for image in resized])
        with autocast(self.device, self.dtype):
            source = encode_source(self.pipeline, sources.to(self.device)).float()
        text = torch.stack([self._prompt(item.instruction) for item in requests])
        generators = [draw_generator(self.seed, "edit", item.id) for item in requests]
        noise = torch.stack(
            [torch.randn(source.shape[1:], generator=generator) for generator in generators]
        ).to(self.device)
        clean = self.denoise(source, text, noise, generators, between_steps)
        with autocast(self.device, self.dtype):
            decoded = self.pipeline.vae.decode(clean / self.pipeline.vae.config.scaling_factor)
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
    def denoise(
        self,
        source: Tensor,
        text: Tensor,
        noise: Tensor,
        generators: list[torch.Generator],
        between_steps: Callable[[], None] = never_stop,
    ) -> Tensor:
        """Sample x_0 latents.

        Args:
            source: Posterior modes (B, C, h, w), not scaled.
            text: Instructions' embeddings (B, L, E).
            noise: Standard Gaussian (B, C, h, w).
            generators: One per request, for the noise that some schedulers draw at each step.
            between_steps: Called before each step; what it raises ends the sampling.

        Returns:
            (B, C, h, w), scaled.
        """
        scheduler = self.pipeline.scheduler
        scheduler.set_timesteps(self.steps, device=self.device)
        nothing = self._prompt("").expand_as(text)
        text_G = torch.cat([text, nothing, nothing])
        source_G = torch.cat([source, source, torch.zeros_like(source)])
        latents = noise * scheduler.init_noise_sigma
        # only some schedulers draw noise at each step, and only those take generators
        draws = {"generator": generators} if self._scheduler_draws else {}
        for t in scheduler.timesteps:
            between_steps()
            noisy_G = scheduler.scale_model_input(torch.cat([latents] * 3), t)
            with autocast(self.device, self.dtype):
                prediction = self.pipeline.unet(
                    unet_input(noisy_G, source_G), t, encoder_hidden_states=text_G
                ).sample.float()
            guided = guide(prediction, self.guidance, self.image_guidance)
            latents = scheduler.step(guided, t, latents, **draws).prev_sample
        return latents

    @torch.no_grad()
    def _embed(self, instruction: str) -> Tensor:
        """Embed an instruction: (L, E), float32."""
        with autocast(self.device, self.dtype):
            return encode_prompts(self.pipeline, [instruction])[0].float()


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
