"""`ric tiny vae`: the autoencoder whose latents the embedded UNets work on.

Latents have 4 channels at a quarter of the side. It is trained by squared error, which PSNR
measures, with the Kullback-Leibler term that keeps latents near a Gaussian (Kingma & Welling 2014);
without an adversarial or perceptual loss, whose invented details would be noise to edits that are
measured to the pixel. `--decoder-only` leaves the encoder, and so the latents, as they are: UNets
that were trained on them stay right.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from diffusers import AutoencoderKL

from ric.data.batches import to_unit
from ric.device import draw_generator, pick_device
from ric.models.locate import locate
from ric.progress import Progress, Silent
from ric.recipes.tiny.pictures import both_pictures, load_drawn
from ric.recipes.tiny.steps import Lesson, batch_of_step, train_steps
from ric.runs.artifacts import artifact_folder

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from ric.config import TinyVaeConfig
    from ric.runs.run import RunDir


def train_vae(config: TinyVaeConfig, run: RunDir, progress: Progress | None = None) -> Path:
    """Train the autoencoder on sources and targets of DATA; return the run's folder `vae`.

    Raises:
        RicError: there is no usable sample, or the loss was not finite ten times in a row.
        Interrupted: a stop was requested; the run resumes from its checkpoint.
    """
    progress = progress or Silent()
    device = pick_device(config.device)
    base = locate(config, "base", run)
    vae = AutoencoderKL.from_pretrained(base, torch_dtype=torch.float32).to(device)
    vae.to(memory_format=torch.channels_last)
    trained, val = load_drawn(config, run, progress)
    pictures, held_out = both_pictures(trained), both_pictures(val)

    def loss_of(step: int) -> dict[str, Tensor]:
        clean = to_unit(pictures[batch_of_step(len(pictures), config, step)]).to(device)
        posterior = vae.encode(clean.to(memory_format=torch.channels_last)).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=draw_generator(config.seed, step))
        latents = posterior.mean + posterior.std * noise.to(device)
        squared_error = (vae.decode(latents).sample.float() - clean).square().mean()
        # per latent value, so that its weight does not depend on the picture's size
        divergence = posterior.kl().float().mean() / posterior.mean[0].numel()
        return {
            "loss": squared_error + config.kl_weight * divergence,
            "loss_pixels": squared_error,
            "loss_divergence": divergence,
        }

    def measure() -> dict[str, float]:
        return {"val_psnr": reconstruction_psnr(vae, held_out[:256])}

    modules = {"vae": vae}
    if config.decoder_only:
        modules = {"post_quant_conv": vae.post_quant_conv, "decoder": vae.decoder}
        vae.requires_grad_(False)
    train_steps(Lesson(modules, loss_of, measure), config, run, progress)
    if not config.decoder_only:
        vae.register_to_config(scaling_factor=scaling_factor(vae, pictures[:512]))
    with artifact_folder(run, "vae") as folder:
        vae.save_pretrained(folder)
    return run.path / "vae"


@torch.no_grad()
def scaling_factor(vae: AutoencoderKL, pictures: Tensor) -> float:
    """Return the factor that gives the latents of uint8 pictures (N, 3, H, W) unit deviation."""
    latents = [
        vae.encode(to_unit(some).to(vae.device)).latent_dist.mode().float()
        for some in pictures.split(64)
    ]
    return round(1 / float(torch.cat(latents).std()), 4)


@torch.no_grad()
def reconstruction_psnr(vae: AutoencoderKL, pictures: Tensor) -> float:
    """Return the mean PSNR in dB of uint8 pictures (N, 3, H, W), encoded and decoded to 8 bits."""
    found = []
    for some in pictures.split(64):
        latents = vae.encode(to_unit(some).to(vae.device)).latent_dist.mode()
        decoded = vae.decode(latents).sample.float().clamp(-1, 1).cpu()
        levels = ((decoded + 1) * 127.5).round()
        errors = (levels - some.float()).square().mean(dim=(1, 2, 3)).clamp(min=1e-3)
        found += [10 * math.log10(255**2 / error) for error in errors.tolist()]
    return sum(found) / len(found)
