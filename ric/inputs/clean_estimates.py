"""Targets as a UNet in training shows them to the judges: x0_hat of Eq. 5, decoded.

Choice 19: judges are fitted on sharp pictures, but `train-unet` shows them x0_hat, which at large t
is blurred and wrong in places. With `--blur-to-t T` each sample is fitted twice: on its target, and
on what the base predicts of the target noised to a t below T.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from diffusers import DDPMScheduler

from ric.device import autocast, draw_generator, pick_dtype
from ric.inputs.encodings import Encoder
from ric.method.denoising import add_noise, clean_from_prediction, predict_noise
from ric.models.locate import locate
from ric.models.pipeline import (
    load_pipeline,
    read_source_channels,
    refuse_size,
    size_multiple,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ric.config import FitBlipConfig, FitClipConfig
    from ric.inputs.examples import Example
    from ric.work import Work

# of an id, where the sample's picture is an estimate; ids of samples hold no such sign at their end
MARK = "~x0_hat"


def with_estimates(
    examples: Sequence[Example], config: FitClipConfig | FitBlipConfig, work: Work
) -> list[Example]:
    """Return the examples, and after them each with the base's estimate as its target.

    Step and noise are a function of the run's seed and the sample's id.

    Args:
        examples: With sources.
        config: Its `base` estimates at steps below its `blur_to_t`.
        work: Its progress shows each example.

    Raises:
        RicError: the base cannot be loaded, or not with pictures of this size.
    """
    pipeline = load_pipeline(locate(config, "base", work.run), work.device)
    read_source_channels(pipeline.unet)
    refuse_size(config.image_size, size_multiple(pipeline))
    dtype = pick_dtype(config.dtype, pipeline.device)
    encoder = Encoder(pipeline, None, None, dtype, flip=False)
    at_once, made = config.micro_batch or config.batch_size, []
    with work.progress.stage("estimating", total=len(examples), unit="samples") as stage:
        for start in range(0, len(examples), at_once):
            some = examples[start : start + at_once]
            for item, target in zip(some, _estimates(some, encoder, config), strict=True):
                made.append(replace(item, id=item.id + MARK, target=target))
            stage.advance(len(some))
    return [*examples, *made]


@torch.no_grad()
def _estimates(
    items: Sequence[Example], encoder: Encoder, config: FitClipConfig | FitBlipConfig
) -> Tensor:
    """Noise targets, denoise them in one step and decode them: (N, 3, H, W), uint8."""
    pipeline, prepared = encoder.pipeline, encoder.encode(items)
    views = [one.views[0] for one in prepared]
    schedule = DDPMScheduler.from_config(pipeline.scheduler.config)
    last = min(config.blur_to_t or 1, schedule.config.num_train_timesteps)
    timesteps, noises = [], []
    for item, view in zip(items, views, strict=True):
        generator = draw_generator(config.seed, "estimate", item.id)
        timesteps.append(int(torch.randint(last, (), generator=generator)))
        noises.append(torch.randn(view.source.shape, generator=generator))
    t = torch.tensor(timesteps, device=pipeline.device)
    alpha_bar_t = schedule.alphas_cumprod.to(pipeline.device)[t]
    clean = torch.stack([view.target_mean for view in views]) * pipeline.vae.config.scaling_factor
    noisy = add_noise(clean, torch.stack(noises).to(clean), alpha_bar_t)
    texts = torch.stack([one.instruction for one in prepared])
    sources = torch.stack([view.source for view in views])
    with autocast(pipeline.device, encoder.dtype):
        prediction = predict_noise(pipeline.unet, noisy, t, texts, sources).float()
        kind = schedule.config.prediction_type
        x0_hat = clean_from_prediction(prediction, noisy, alpha_bar_t, kind)  # Eq. 5
        pixels = pipeline.vae.decode(x0_hat / pipeline.vae.config.scaling_factor).sample.float()
    return ((pixels.clamp(-1, 1) + 1) * 127.5).round().to("cpu", torch.uint8)
