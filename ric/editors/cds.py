"""CDS, Contrastive Denoising Score (Nam et al. 2024).

The edit's latents z begin as the source's and are optimised by SGD. In each iteration source and
edit are noised to the same t with the same noise, and z takes a step down two gradients:

- Delta Denoising Score (Hertz et al. 2023): the difference of the two guided noise predictions,
  that of the edit under the target's caption less that of the source under the source's;
- a contrastive loss (PatchNCE, Park et al. 2020) on the outputs of the self-attention in the UNet's
  up path, by which each place of the edit resembles the same place of the source more than others.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from ric.editors.caption_editor import CaptionEditor
from ric.editors.editor import never_stop
from ric.editors.latent_pictures import held
from ric.errors import RicError
from ric.method.denoising import add_noise, clean_from_prediction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from diffusers import UNet2DConditionModel
    from torch import Tensor

    from ric.config import Dtype
    from ric.editors.caption_editor import Captions
    from ric.editors.editor import EditRequest

# Shape letters: B requests, C latent channels, h and w latent height and width, N places of a
# layer, D its width, P sampled places.

# as released
LEARNING_RATE = 0.1
DDS_SCALE = 2000.0  # of the mean over places of z's product with the difference
FIRST_T, LAST_T = 50, 948
PATCHES = 256  # places that are compared, at most
PATCH_SIZES = (1, 2)  # averaged over, in places
TEMPERATURE = 0.07


class Cds(CaptionEditor):
    """Edit from the source's caption to the target's with any text-to-image pipeline.

    Args:
        model: The pipeline's folder.
        device: Where it runs.
        dtype: `bf16` runs the networks under autocast; `auto` where the device has it.
        steps: SGD's iterations, at least 1.
        guidance: Classifier-free guidance of both predictions; 1 is none.
        dds_weight: Of the first gradient.
        contrast_weight: Of the second; 0 is plain Delta Denoising Score.
        image_size: The longer side while editing, in pixels.
        seed: With each request's id and the iteration it fixes all that is drawn.

    Raises:
        RicError: the pipeline cannot be loaded, or its UNet has no self-attention in its up path.
    """

    SETTINGS = ("steps", "guidance", "dds_weight", "contrast_weight")

    def __init__(
        self,
        model: Path,
        *,
        device: torch.device,
        dtype: Dtype = "auto",
        steps: int = 200,
        guidance: float = 7.5,
        dds_weight: float = 1.0,
        contrast_weight: float = 3.0,
        image_size: int = 512,
        seed: int = 0,
    ) -> None:
        """Load the pipeline; see the class."""
        super().__init__(model, device, dtype=dtype, image_size=image_size, seed=seed)
        self.layers = self_attention_of_up_path(self.pipeline.unet)
        if not self.layers:
            raise RicError(
                f"The UNet in {model} has no self-attention in its up path, which CDS compares.",
                "Name a pipeline of Stable Diffusion 1 or 2.",
            )
        self.steps, self.guidance = steps, guidance
        self.dds_weight, self.contrast_weight = dds_weight, contrast_weight
        self.alpha_bar = self.pipeline.scheduler.alphas_cumprod.to(device)

    def edit_latents(
        self,
        source: Tensor,
        captions: Captions,
        requests: Sequence[EditRequest],
        between_steps: Callable[[], None] = never_stop,
        *,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Optimise the edits' latents; arguments and result as `CaptionEditor.edit_latents`."""
        edited = source.clone()
        for iteration in range(self.steps):
            between_steps()
            draws = self.draws(requests, iteration)
            step = LEARNING_RATE * self.gradient(source, edited, captions, draws)
            edited = held(edited - step, source, mask)
        return edited

    def gradient(
        self,
        source: Tensor,
        edited: Tensor,
        captions: Captions,
        draws: Sequence[torch.Generator],
    ) -> Tensor:
        """Compute the weighted sum of both gradients at the edits' latents.

        Args:
            source: (B, C, h, w), scaled.
            edited: z (B, C, h, w), scaled.
            captions: Of both ends.
            draws: A generator for each request: its t, its noise, the places compared.

        Returns:
            (B, C, h, w).
        """
        t = torch.cat([torch.randint(FIRST_T, LAST_T + 1, (1,), generator=one) for one in draws])
        noise = torch.stack([torch.randn(source.shape[1:], generator=one) for one in draws])
        point = _Point(t.to(self.device), noise.to(source), self.alpha_bar[t.to(self.device)])
        difference, features = self._difference(source, edited, captions, point)
        height, width = source.shape[-2:]
        gradient = DDS_SCALE * self.dds_weight / (height * width) * difference
        if self.contrast_weight == 0:
            return gradient
        with torch.enable_grad():
            variable = edited.detach().requires_grad_()
            noisy = add_noise(variable, point.noise, point.alpha_bar)
            with _outputs_of(self.layers) as of_edit:
                self.predict(noisy, point.t, captions.target)
            losses = [
                contrast(reference, own, (height, width), draws)
                for reference, own in zip(features, of_edit, strict=True)
            ]
            (contrastive,) = torch.autograd.grad(torch.stack(losses).sum(), variable)
        return gradient + self.contrast_weight * contrastive

    @torch.no_grad()
    def _difference(
        self, source: Tensor, edited: Tensor, captions: Captions, point: _Point
    ) -> tuple[Tensor, list[Tensor]]:
        """Subtract the source's guided noise prediction from the edit's (B, C, h, w).

        Also returns the source's features with its caption, a layer each: (B, N, D).
        """
        of_source, of_edit = (
            add_noise(one, point.noise, point.alpha_bar) for one in (source, edited)
        )
        with _outputs_of(self.layers) as outputs:
            predictions = self.predict_with_captions(of_source, of_edit, point.t, captions)
        noisy = (of_source, of_source, of_edit, of_edit)
        null, conditional, null_edit, conditional_edit = (
            self._noise_of(prediction, latents, point)
            for prediction, latents in zip(predictions, noisy, strict=True)
        )
        source_noise = null + self.guidance * (conditional - null)
        edit_noise = null_edit + self.guidance * (conditional_edit - null_edit)
        return edit_noise - source_noise, [layer.chunk(4)[1] for layer in outputs]

    def _noise_of(self, prediction: Tensor, noisy: Tensor, point: _Point) -> Tensor:
        """Return the noise that a prediction of whatever type implies."""
        if self.prediction_type == "epsilon":
            return prediction
        alpha_bar = point.alpha_bar
        clean = clean_from_prediction(prediction, noisy, alpha_bar, self.prediction_type)
        signal, spread = (part.sqrt()[:, None, None, None] for part in (alpha_bar, 1 - alpha_bar))
        return (noisy - signal * clean) / spread


class _Point(NamedTuple):
    """The noising that source and edit share: t (B,), noise (B, C, h, w), alpha_bar_t (B,)."""

    t: Tensor
    noise: Tensor
    alpha_bar: Tensor


def self_attention_of_up_path(unet: UNet2DConditionModel) -> list[nn.Module]:
    """List the self-attention modules of a UNet's up path, in the order they run in."""
    return [module for name, module in unet.up_blocks.named_modules() if name.endswith(".attn1")]


@contextmanager
def _outputs_of(layers: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Collect the outputs (rows, N, D) of some modules while the block runs."""
    outputs: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda module, given, output: outputs.append(output))
        for layer in layers
    ]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def contrast(
    source: Tensor,
    edited: Tensor,
    size: tuple[int, int],
    draws: Sequence[torch.Generator],
) -> Tensor:
    """Compare one layer's places of source and edit: PatchNCE, summed over samples and sizes.

    Args:
        source: Features (B, N, D).
        edited: The same of the edits.
        size: Height and width of the latents, which give the layer's own.
        draws: A generator for each sample: the places.

    Returns:
        A number; its gradient goes to `edited` alone.
    """
    count = source.shape[1]
    halving = round((size[0] * size[1] / count) ** 0.5)
    height, width = size[0] // halving, size[1] // halving
    total = source.new_zeros(())
    for patch in PATCH_SIZES:
        if min(height, width) < patch:
            continue
        for one, other, draw in zip(source.float(), edited.float(), draws, strict=True):
            reference, own = (
                nn.functional.normalize(_patches(rows, height, width, patch), dim=1)
                for rows in (one, other)
            )
            chosen = torch.randperm(len(own), generator=draw)[:PATCHES].to(own.device)
            alike = reference[chosen].detach() @ own[chosen].T / TEMPERATURE
            total = total + nn.functional.cross_entropy(
                alike, torch.arange(len(chosen), device=own.device)
            )
    return total


def _patches(rows: Tensor, height: int, width: int, patch: int) -> Tensor:
    """Average the places (N, D) of a layer over squares of `patch`; unit vectors (places, D)."""
    grid = rows.T.reshape(1, -1, height, width)
    means = nn.functional.avg_pool2d(grid, patch).flatten(2)[0].T
    return nn.functional.normalize(means, dim=1)
