"""`ric tiny prior`: the UNets' prior checkpoints, with the text encoder that they read.

An 8-channel UNet learns to edit (InstructPix2Pix, Brooks et al. 2023), a 4-channel one to draw
from a caption (Stable Diffusion); `--text-to-image` makes the second of the first. Both learn by
the noise loss alone, UNet and text encoder together: no text encoder of the world's knows these
words yet. `ric train-unet` then keeps the text encoder as it is.

Most of a picture stays as it is, and a UNet soon learns to copy. `--edit-weight W` counts the
places whose pixels change 1 + W times in the loss of an editor, so that it learns what to do there.

At high noise, where a picture's structure is decided, a small error in the noise is a large one in
the picture. `--max-noise-weight W` counts a step min(1 / alpha_bar_t, W) times, which up to W is
what a UNet that predicts v would minimise (Salimans & Ho 2022).

For the study of context, the editing prior is trained on scenes *without* shadows and mirror
images: it can edit a thing, and knows nothing of what should follow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor
from torch.nn.functional import adaptive_max_pool2d

from ric.data.batches import to_unit
from ric.device import autocast, pick_device, pick_dtype
from ric.editors.pipeline import forget_source_channels, load_pipeline
from ric.method.denoising import add_noise, predict_noise
from ric.models import locate_model
from ric.progress import Progress, Silent
from ric.recipes.artifacts import artifact_folder
from ric.recipes.tiny.pictures import load_drawn
from ric.recipes.tiny.steps import batch_of_step, train_steps
from ric.recipes.training_batches import draw_sample

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from diffusers import StableDiffusionInstructPix2PixPipeline
    from torch import Tensor

    from ric.config import TinyPriorConfig
    from ric.recipes.tiny.pictures import DrawnSample
    from ric.run_dir import RunDir


def train_prior(config: TinyPriorConfig, run: RunDir, progress: Progress | None = None) -> Path:
    """Train a UNet and its text encoder on DATA; return the run's folder `pipeline`.

    Raises:
        RicError: no usable sample, or a loss that is not finite ten times in a row.
        Interrupted: asked to stop; the run resumes from its checkpoint.
    """
    progress = progress or Silent()
    device = pick_device(config.device)
    base = locate_model(config.base, run, tiny="pipeline", artifact="pipeline", needs="tiny prior")
    pipeline = load_pipeline(base, device)
    if config.vae is not None:
        path = locate_model(config.vae, run, tiny="pipeline/vae", artifact="vae")
        vae = AutoencoderKL.from_pretrained(path, torch_dtype=torch.float32)
        pipeline.vae = vae.to(device).eval().requires_grad_(False)
    unet, text_encoder = pipeline.unet, pipeline.text_encoder
    if config.text_to_image:
        forget_source_channels(unet)
    unet.to(memory_format=torch.channels_last)
    if device.type == "cpu":
        # the backward pass of torch's fused attention takes longer there than these products do
        unet.set_attn_processor(AttnProcessor())
    edits = unet.config.in_channels == 2 * unet.config.out_channels
    trained, held_out = load_drawn(config, run, progress)
    learnt = EncodedSamples(trained, pipeline, config, progress, edits=edits)
    known = EncodedSamples(held_out, pipeline, config, progress, edits=edits)
    schedule = DDPMScheduler.from_config(pipeline.scheduler.config)

    noise_weights = (1 / schedule.alphas_cumprod.to(device)).clamp(max=config.max_noise_weight)

    def noise_loss(data: EncodedSamples, which: Sequence[int], step: int, dropout: float) -> Tensor:
        draws = [
            draw_sample(
                config.seed, step, k,
                shape=data.means.shape[1:], num_timesteps=len(schedule), dropout=dropout,
            )
            for k in range(len(which))
        ]  # fmt: skip
        spread, noise = (
            torch.stack([getattr(draw, name) for draw in draws]).to(device)
            for name in ("spread", "noise")
        )
        clean = data.means[which].float().to(device) + data.stds[which].float().to(device) * spread
        clean = clean * pipeline.vae.config.scaling_factor
        timesteps = torch.tensor([draw.timestep for draw in draws], device=device)
        noisy = add_noise(clean, noise, schedule.alphas_cumprod.to(device)[timesteps])
        ids = data.ids[which]
        ids[torch.tensor([draw.drop_text for draw in draws])] = data.null_ids
        prompts = text_encoder(ids.to(device)).last_hidden_state
        if edits:
            source = data.sources[which].float().to(device)
            source[torch.tensor([draw.drop_source for draw in draws], device=device)] = 0
            prediction = predict_noise(unet, noisy, timesteps, prompts, source)
        else:
            prediction = unet(noisy, timesteps, encoder_hidden_states=prompts).sample
        when = noise_weights[timesteps] / noise_weights.mean()
        where = 1 + config.edit_weight * data.changed[which].to(device)
        return weighted_error(prediction.float(), noise, when, where)

    def loss_of(step: int) -> dict[str, Tensor]:
        which = batch_of_step(len(learnt), config, step)
        return {"loss": noise_loss(learnt, which, step, config.conditioning_dropout)}

    def measure() -> dict[str, float]:
        # the same noise at the same timesteps each time
        places = range(len(known))
        parts = [list(places[start : start + 64]) for start in range(0, len(places), 64)]
        losses = [
            noise_loss(known, which, -1 - n, 0.0).item() * len(which)
            for n, which in enumerate(parts)
        ]
        return {"val_loss_noise": sum(losses) / len(places)}

    train_steps(
        {"unet": unet, "text_encoder": text_encoder},
        config, run, progress, loss_of=loss_of, measure=measure,
    )  # fmt: skip
    with artifact_folder(run, "pipeline") as folder:
        if not edits:
            StableDiffusionPipeline(
                **pipeline.components, requires_safety_checker=False
            ).save_pretrained(folder)
        else:
            pipeline.save_pretrained(folder)
    return run.path / "pipeline"


def weighted_error(prediction: Tensor, noise: Tensor, when: Tensor, where: Tensor) -> Tensor:
    """Give the squared error, weighted by step and by place.

    Args:
        prediction: (B, C, h, w).
        noise: Epsilon (B, C, h, w).
        when: (B,), of mean 1 over all steps.
        where: (B, 1, h, w); the mean is over these weights.

    Returns:
        A scalar; the plain mean where all weights are 1.
    """
    error = (prediction - noise).square() * when.reshape(-1, 1, 1, 1)
    return (error * where).mean() / where.mean()


class EncodedSamples:
    """Samples as latents and token ids; half precision, for there are many.

    Attributes:
        sources: Posterior modes (N, C, h, w), not scaled; empty where only texts are read.
        means: Of the targets' posteriors.
        stds: Their deviations.
        changed: 1.0 where a latent place holds a pixel that the edit changes (N, 1, h, w); zero
            everywhere where only texts are read.
        ids: Token ids (N, L).
        null_ids: Of the empty text (L,).
    """

    @torch.no_grad()
    def __init__(
        self,
        samples: Sequence[DrawnSample],
        pipeline: StableDiffusionInstructPix2PixPipeline,
        config: TinyPriorConfig,
        progress: Progress,
        *,
        edits: bool,
    ) -> None:
        """Encode all samples."""
        device = pipeline.device
        sources, means, stds, changed = [], [], [], []
        with (
            progress.stage("encoding", total=len(samples), unit="samples") as stage,
            autocast(device, pick_dtype(config.dtype, device)),
        ):
            for start in range(0, len(samples), 32):
                some = samples[start : start + 32]
                target = to_unit(torch.stack([item.target for item in some]).to(device))
                posterior = pipeline.vae.encode(target).latent_dist
                means.append(posterior.mean.half().cpu())
                stds.append(posterior.std.half().cpu())
                side = posterior.mean.shape[-1]
                if edits:
                    differs = torch.stack([(i.source != i.target).any(0) for i in some])
                    changed.append(adaptive_max_pool2d(differs[:, None].float(), side))
                    source = to_unit(torch.stack([item.source for item in some]).to(device))
                    mode = pipeline.vae.encode(source).latent_dist.mode()
                    sources.append(mode.half().cpu())
                stage.advance(len(some))
        self.means, self.stds = torch.cat(means), torch.cat(stds)
        self.sources = torch.cat(sources) if edits else torch.empty(0)
        shape = (len(samples), 1, *self.means.shape[2:])
        self.changed = torch.cat(changed) if edits else torch.zeros(shape)
        texts = [item.instruction if edits else item.target_text for item in samples]
        encoded = pipeline.tokenizer(
            ["", *texts],
            padding="max_length",
            max_length=pipeline.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        self.null_ids, self.ids = encoded[0], encoded[1:]

    def __len__(self) -> int:
        """Count the samples."""
        return len(self.means)
