"""The base of editors that follow an instruction: an InstructPix2Pix-type pipeline, guided.

Classifier-free guidance with two scales, Eq. 3 of Brooks et al. 2023: with the rows ordered text
and picture, picture alone, neither,

    e = e(0,0) + s_I (e(0,I) - e(0,0)) + s_T (e(T,I) - e(0,I))
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch

from ric.device import autocast
from ric.editors.latent_editor import LatentEditor
from ric.editors.sampling import make_scheduler
from ric.errors import RicError
from ric.method.denoising import unet_input
from ric.models.pipeline import load_pipeline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diffusers import StableDiffusionInstructPix2PixPipeline, UNet2DConditionModel
    from torch import Tensor

    from ric.config import Dtype
    from ric.editors.editor import EditRequest

# Shape letters: B requests, G guidance rows (3 B), C latent channels, h and w latent height and
# width, L text tokens, E text width.


class GuidanceRows(NamedTuple):
    """The UNet's conditioning: rows with picture and text, with the picture alone, with neither.

    Attributes:
        source: (3 B, C, h, w).
        text: (3 B, L, E).
    """

    source: Tensor
    text: Tensor


class InstructionEditor(LatentEditor):
    """An editor by an InstructPix2Pix-type pipeline; a subclass has `edit`.

    Args:
        model: The pipeline's folder, or a loaded pipeline.
        device: Where it runs.
        dtype: `bf16` runs the networks under autocast; `auto` where the device has it.
        steps: Denoising steps, at least 1.
        guidance: s_T, the guidance scale of the text; 1 is no guidance.
        image_guidance: s_I, that of the picture; 1 is no guidance.
        scheduler: A key of `ric.models.schedulers.SCHEDULERS`, or a class of diffusers; None: the
            editor's own.
        image_size: The longer side while editing, in pixels.
        seed: Determines each request's noise, together with its id.

    Raises:
        RicError: a setting is out of range, or the pipeline cannot be loaded.
    """

    SETTINGS: ClassVar[tuple[str, ...]] = ("steps", "guidance", "image_guidance", "scheduler")
    OWN_SCHEDULER: ClassVar[str | None] = None  # None: the pipeline's

    def __init__(
        self,
        model: Path | StableDiffusionInstructPix2PixPipeline,
        *,
        device: torch.device,
        dtype: Dtype = "auto",
        steps: int = 100,
        guidance: float = 7.5,
        image_guidance: float = 1.5,
        scheduler: str | None = None,
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
        self.scheduler_name = scheduler or self.OWN_SCHEDULER
        self.scheduler = type(self.new_scheduler()).__name__

    def new_scheduler(self) -> Any:
        """Make a scheduler for one pass over the timesteps."""
        return make_scheduler(self.scheduler_name, self.pipeline.scheduler)

    def cuts(self, request: EditRequest) -> bool:
        """Tell whether an edit's instruction is longer than the text encoder reads."""
        return self.pictures.is_cut(request.instruction)

    def begin(
        self, batch: Sequence[EditRequest], source: Tensor
    ) -> tuple[Tensor, Tensor, list[torch.Generator]]:
        """Return what the sampling of requests begins with.

        Args:
            batch: B requests.
            source: Their sources' latents (B, C, h, w).

        Returns:
            The instructions' embeddings (B, L, E), standard Gaussian noise (B, C, h, w), and the
            generators that it was drawn with.
        """
        text = torch.stack([self.pictures.embed(item.instruction) for item in batch])
        generators = self.draws(batch)
        drawn = [torch.randn(source.shape[1:], generator=generator) for generator in generators]
        return text, torch.stack(drawn).to(self.device), generators

    def rows_of_guidance(self, source: Tensor, text: Tensor) -> GuidanceRows:
        """Lay out sources (B, C, h, w) and texts (B, L, E) for the three predictions of Eq. 3."""
        nothing = self.pictures.embed("").expand_as(text)
        return GuidanceRows(
            torch.cat([source, source, torch.zeros_like(source)]),
            torch.cat([text, nothing, nothing]),
        )

    def predict(
        self, unet: UNet2DConditionModel, noisy: Tensor, t: Tensor, rows: GuidanceRows
    ) -> Tensor:
        """Run a UNet on noisy latents and guide it by text and picture: (B, C, h, w), float32.

        Args:
            unet: This pipeline's, or another's of the same inputs.
            noisy: x_t (B, C, h, w), scaled as the scheduler wants it.
            t: The timestep.
            rows: Sources and texts.
        """
        noisy_G = torch.cat([noisy] * 3)
        with autocast(self.device, self.pictures.dtype):
            prediction_G = unet(
                unet_input(noisy_G, rows.source), t, encoder_hidden_states=rows.text
            ).sample.float()
        return guide(prediction_G, self.guidance, self.image_guidance)


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
