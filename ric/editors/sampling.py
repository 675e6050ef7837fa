"""A scheduler of diffusers on its way through the timesteps, with a generator for each request."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import diffusers

from ric.editors.latent_pictures import held
from ric.models.schedulers import scheduler_class

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import Tensor

# Shape letters: B requests, C latent channels, h and w latent height and width.

# what Stable Diffusion's latents need where a scheduler's own default is made for pixels
FOR_LATENTS = {"clip_sample": False, "set_alpha_to_one": False, "skip_prk_steps": True}


def make_scheduler(name: str | None, own: Any) -> Any:
    """Make a scheduler with a pipeline's noise levels and prediction type.

    Args:
        name: A key of `SCHEDULERS` or a class of diffusers; None: that of the pipeline.
        own: The pipeline's scheduler.

    Raises:
        RicError: it is unknown, or cannot sample what the pipeline's UNet predicts.
    """
    kind = scheduler_class(name or type(own).__name__, own.config.get("prediction_type"))
    if kind == type(own).__name__:
        return type(own).from_config(own.config)
    return getattr(diffusers, kind).from_config({**FOR_LATENTS, **own.config})


class Sampling:
    """The sampling of B requests' latents; one object for one pass over the timesteps.

    Args:
        scheduler: Of `make_scheduler`; its state is that of this pass.
        steps: Denoising steps, at least 1.
        noise: Standard Gaussian (B, C, h, w), that latents begin with.
        generators: One per request, for the noise that some schedulers draw at each step.
    """

    def __init__(
        self, scheduler: Any, steps: int, noise: Tensor, generators: Sequence[torch.Generator]
    ) -> None:
        """Set the timesteps; see the class."""
        scheduler.set_timesteps(steps, device=noise.device)
        self.scheduler, self.noise = scheduler, noise
        self.timesteps: Tensor = scheduler.timesteps
        self.latents: Tensor = noise * scheduler.init_noise_sigma
        # only some schedulers draw noise at each step, and only those take generators
        takes = inspect.signature(scheduler.step).parameters
        self.draws = {"generator": list(generators)} if "generator" in takes else {}

    def hold(self, clean: Tensor, t: Tensor, mask: Tensor | None) -> None:
        """Put the source's latents, noised to the level of a step, outside a mask.

        Args:
            clean: The source's, (B, C, h, w), scaled.
            t: The timestep.
            mask: (B, 1, h, w) as `held` takes it.
        """
        if mask is not None:
            noised = self.scheduler.add_noise(clean, self.noise, t[None])
            self.latents = held(self.latents, noised, mask)

    def input(self, t: Tensor) -> Tensor:
        """Return what the UNet reads of the latents at a timestep (B, C, h, w)."""
        return self.scheduler.scale_model_input(self.latents, t)

    def step(self, prediction: Tensor, t: Tensor) -> None:
        """Take the latents a step on, by a guided prediction (B, C, h, w) at the timestep t."""
        self.latents = self.scheduler.step(prediction, t, self.latents, **self.draws).prev_sample
