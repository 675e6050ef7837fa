"""DDPM Inversion (Huberman-Spiegelglas et al. 2024, "An Edit Friendly DDPM Noise Space").

A source picture's noise maps z_t are those that make DDPM sampling under the source's caption give
that picture. Sampling again with the same maps under the target's caption gives the edit.

With x_0 the source's latents and an independent draw of noise n_t for each timestep,

    x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) n_t
    z_t = (x_{t-1} - mu_t(x_t, source)) / sigma_t
    y_{t-1} = mu_t(y_t, target) + sigma_t z_t

where mu_t and sigma_t are those of DDIM sampling with eta = 1. The edit begins from y = x at the
timestep after the first `skip`, so what comes before is never computed, and inversion and sampling
go through the timesteps together: a step is one call of the UNet for both. With a mask, y = x
outside it at every timestep.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from diffusers import DDIMScheduler

from ric.editors.caption_editor import CaptionEditor
from ric.editors.editor import never_stop
from ric.editors.latent_pictures import held
from ric.errors import RicError
from ric.method.denoising import add_noise, clean_from_prediction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from torch import Tensor

    from ric.config import Dtype
    from ric.editors.caption_editor import Captions
    from ric.editors.editor import EditRequest

# Shape letters: B requests, C latent channels, h and w latent height and width, L text tokens,
# E text width.


class DdpmInversion(CaptionEditor):
    """Edit from the source's caption to the target's with any text-to-image pipeline.

    Args:
        model: The pipeline's folder.
        device: Where it runs.
        dtype: `bf16` runs the networks under autocast; `auto` where the device has it.
        steps: Timesteps of a whole inversion, at least 1.
        skip: How many of the noisiest are left out, at least 0 and below `steps`: the more, the
            closer the edit stays to its source.
        source_guidance: Classifier-free guidance of the inversion; 1 is none.
        guidance: Classifier-free guidance of the sampling; 1 is none.
        keep_last_noise: Use the last noise map too; the released code leaves it out.
        image_size: The longer side while editing, in pixels.
        seed: With each request's id it fixes that request's noise.

    Raises:
        RicError: a setting is out of range, or the pipeline cannot be loaded.
    """

    SETTINGS = ("steps", "skip", "source_guidance", "guidance", "keep_last_noise")

    def __init__(
        self,
        model: Path,
        *,
        device: torch.device,
        dtype: Dtype = "auto",
        steps: int = 100,
        skip: int = 36,
        source_guidance: float = 3.5,
        guidance: float = 15.0,
        keep_last_noise: bool = False,
        image_size: int = 512,
        seed: int = 0,
    ) -> None:
        """Load the pipeline; see the class."""
        if not 0 <= skip < steps:
            raise RicError(
                f"--skip is {skip} with {steps} steps: at least one step must be left.",
                f"Give a number from 0 to {steps - 1}.",
            )
        super().__init__(model, device, dtype=dtype, image_size=image_size, seed=seed)
        self.steps, self.skip, self.keep_last_noise = steps, skip, keep_last_noise
        self.source_guidance, self.guidance = source_guidance, guidance

    @torch.no_grad()
    def edit_latents(
        self,
        source: Tensor,
        captions: Captions,
        requests: Sequence[EditRequest],
        between_steps: Callable[[], None] = never_stop,
        *,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Invert the sources' latents and sample the edits', in one pass over the timesteps.

        Arguments and result as `CaptionEditor.edit_latents`.
        """
        # in float32, rounding adds up over the steps; Apple's GPUs have nothing longer
        exact = torch.float32 if source.device.type == "mps" else torch.float64
        path = _noised(source.to(exact), steps := self.timesteps(), self.draws(requests))
        inverted = edited = next(path)
        for step, after in zip(steps, path, strict=True):
            between_steps()
            of_source, of_edit = self.clean_estimates(inverted, edited, step, captions)
            mean, sigma = posterior(inverted, of_source, step)
            noise_map = (after - mean) / sigma
            mean, sigma = posterior(edited, of_edit, step)
            is_last = step is steps[-1]
            edited = mean if is_last and not self.keep_last_noise else mean + sigma * noise_map
            edited, inverted = held(edited, after, mask), after
        return edited.to(source.dtype)

    def timesteps(self) -> list[Step]:
        """List the steps that are taken, noisiest first: those of DDIM without the first `skip`."""
        scheduler = DDIMScheduler.from_config(
            self.pipeline.scheduler.config,
            timestep_spacing="leading",
            clip_sample=False,
            set_alpha_to_one=False,
        )
        scheduler.set_timesteps(self.steps)
        alpha_bar = scheduler.alphas_cumprod
        stride = scheduler.config.num_train_timesteps // self.steps
        return [
            Step(t, float(alpha_bar[t]), float(alpha_bar[max(t - stride, 0)]))
            for t in scheduler.timesteps[self.skip :].tolist()
        ]

    def clean_estimates(
        self, inverted: Tensor, edited: Tensor, step: Step, captions: Captions
    ) -> tuple[Tensor, Tensor]:
        """Estimate x_0 of source and edit at a timestep, each with its caption and guidance.

        Args:
            inverted: The source's x_t (B, C, h, w).
            edited: The edit's y_t (B, C, h, w).
            step: The timestep.
            captions: Of both.

        Returns:
            Both estimates, (B, C, h, w) each.
        """
        null, source, null_edit, target = self.predict_with_captions(
            inverted, edited, step.t, captions
        )
        alpha_bar = inverted.new_full((len(inverted),), step.alpha_bar)
        return (
            clean_from_prediction(
                null + self.source_guidance * (source - null),
                inverted,
                alpha_bar,
                self.prediction_type,
            ),
            clean_from_prediction(
                null_edit + self.guidance * (target - null_edit),
                edited,
                alpha_bar,
                self.prediction_type,
            ),
        )


class Step(NamedTuple):
    """A timestep t, abar_t, and abar of the next less noisy one."""

    t: int
    alpha_bar: float
    alpha_bar_after: float


def posterior(noisy: Tensor, clean: Tensor, step: Step) -> tuple[Tensor, float]:
    """Give the mean and the standard deviation of the next less noisy latents (DDIM, eta = 1).

    Args:
        noisy: x_t (B, C, h, w).
        clean: What x_0 is taken to be (B, C, h, w).
        step: The timestep.

    Returns:
        The mean (B, C, h, w), and sigma_t.
    """
    before, after = step.alpha_bar, step.alpha_bar_after
    variance = (1 - after) / (1 - before) * (1 - before / after)
    noise = (noisy - before**0.5 * clean) / (1 - before) ** 0.5
    return after**0.5 * clean + (1 - after - variance) ** 0.5 * noise, variance**0.5


def _noised(
    clean: Tensor, steps: Sequence[Step], generators: Sequence[torch.Generator]
) -> Iterator[Tensor]:
    """Give x_t of each step, noisiest first, each with noise of its own, and x_0 at last."""
    for step in steps:
        noise = torch.stack(
            [torch.randn(clean.shape[1:], generator=generator) for generator in generators]
        ).to(clean)
        yield add_noise(clean, noise, clean.new_full((len(clean),), step.alpha_bar))
    yield clean
