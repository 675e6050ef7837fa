"""The start of an editor's UNet as a copy, against the linear guess written out."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler

from ric.models.pipeline import load_pipeline
from ric.recipes.tiny.beginnings import new_unet
from ric.recipes.tiny.copying import CHANGE, copying_gains, start_as_copy

ALPHA_BAR = DDPMScheduler(
    beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
).alphas_cumprod


def latents(seed: int) -> torch.Tensor:
    """Smooth latents (4, 4, 16, 16) with a mean of their own in every picture."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(4, 4, 4, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, 16, mode="bicubic")
    return smooth + 0.3 * torch.randn(4, 4, 1, 1, generator=generator)


@pytest.fixture(scope="module")
def copying():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = new_unet(8)
    start_as_copy(unet, ALPHA_BAR)
    return unet


@pytest.mark.parametrize("t", [999, 700, 300, 150, 50])
def test_at_first_v_is_the_best_linear_guess_from_the_noisy_and_the_source_latents(copying, t):
    source = latents(0)
    noise = torch.randn(source.shape, generator=torch.Generator().manual_seed(1))
    alpha, sigma = float(ALPHA_BAR[t].sqrt()), float((1 - ALPHA_BAR[t]).sqrt())
    noisy = alpha * source + sigma * noise
    prompts = torch.randn(4, 48, 128, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        v = copying(torch.cat([noisy, source], 1), t, prompts).sample
    guess = source + alpha * CHANGE / (alpha**2 * CHANGE + sigma**2) * (noisy - alpha * source)
    expected = (alpha * noisy - guess) / sigma
    error, size = (v - expected).square().mean(), expected.square().mean()
    assert error < 0.04 * size
    # and where nothing changes, the clean latents are those of the source
    clean = alpha * noisy - sigma * v
    assert (clean - source).square().mean() < 0.02 * source.square().mean()


def test_gains_make_the_error_of_a_changed_picture_as_small_as_a_linear_guess_can():
    generator = torch.Generator().manual_seed(0)
    source = torch.randn(200_000, generator=generator)
    clean = source + CHANGE**0.5 * torch.randn(200_000, generator=generator)
    noise = torch.randn(200_000, generator=generator)
    for t in (700, 300, 100):
        alpha, sigma = ALPHA_BAR[t].sqrt(), (1 - ALPHA_BAR[t]).sqrt()
        noisy = alpha * clean + sigma * noise
        fitted = torch.linalg.lstsq(
            torch.stack([noisy, source], 1), (alpha * noise - sigma * clean)[:, None]
        ).solution[:, 0]
        a, b = (gain[t] for gain in copying_gains(ALPHA_BAR))
        torch.testing.assert_close(fitted, torch.stack([a, -b]), atol=0.02, rtol=0.02)


def test_a_unet_of_other_channels_is_refused(tiny_family):
    unet = load_pipeline(tiny_family / "text_to_image", torch.device("cpu")).unet
    with pytest.raises(ValueError, match="8 input channels"):
        start_as_copy(unet, ALPHA_BAR)
