from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch import Tensor

from ric.errors import RicError
from ric.method.denoising import (
    add_noise,
    clean_from_prediction,
    predict_clean,
    predict_noise,
    reverse_step,
    training_target,
    unet_input,
)

SHAPE = (3, 4, 8, 8)
STEPS = torch.tensor([0, 400, 999])


@pytest.fixture
def pair(draw: torch.Generator) -> tuple[Tensor, Tensor]:
    clean = torch.randn(SHAPE, generator=draw, dtype=torch.float64)
    noise = torch.randn(SHAPE, generator=draw, dtype=torch.float64)
    return clean, noise


def test_noising_follows_the_closed_form(pair, alphas_cumprod):
    clean, noise = pair
    noisy = add_noise(clean, noise, alphas_cumprod[STEPS])
    for i, step in enumerate(STEPS):
        a = float(alphas_cumprod[step])
        torch.testing.assert_close(noisy[i], a**0.5 * clean[i] + (1 - a) ** 0.5 * noise[i])


def test_one_small_step_after_another_gives_the_closed_form_mean_and_variance(alphas_cumprod):
    # Eq. 1 step by step: the mean shrinks by sqrt(1 - beta), the variance follows
    betas = (
        1 - alphas_cumprod / torch.cat([torch.ones(1, dtype=torch.float64), alphas_cumprod])[:-1]
    )
    mean, variance = 1.0, 0.0
    for beta in betas[:401].tolist():
        mean, variance = (1 - beta) ** 0.5 * mean, (1 - beta) * variance + beta
    one, zero = torch.ones(1, 1, 1, 1).double(), torch.zeros(1, 1, 1, 1).double()
    alpha_bar = alphas_cumprod[400:401]
    assert add_noise(one, zero, alpha_bar).item() == pytest.approx(mean)
    assert add_noise(zero, one, alpha_bar).item() == pytest.approx(variance**0.5)


def test_the_clean_prediction_inverts_the_noising(pair, alphas_cumprod):
    clean, noise = pair
    alpha_bar_t = alphas_cumprod[STEPS]
    noisy = add_noise(clean, noise, alpha_bar_t)
    torch.testing.assert_close(predict_clean(noisy, noise, alpha_bar_t), clean)


def test_the_clean_prediction_is_equation_5_at_every_t(pair, alphas_cumprod):
    noisy, noise = pair
    got = predict_clean(noisy, noise, alphas_cumprod[STEPS])
    for i, step in enumerate(STEPS):
        a = float(alphas_cumprod[step])
        torch.testing.assert_close(got[i], (noisy[i] - (1 - a) ** 0.5 * noise[i]) / a**0.5)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_a_perfect_prediction_gives_the_clean_latents_back(prediction_type, pair, alphas_cumprod):
    clean, noise = pair
    alpha_bar_t = alphas_cumprod[STEPS]
    noisy = add_noise(clean, noise, alpha_bar_t)
    perfect = training_target(clean, noise, alpha_bar_t, prediction_type)
    got = clean_from_prediction(perfect, noisy, alpha_bar_t, prediction_type)
    torch.testing.assert_close(got, clean)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_clean_latents_agree_with_the_schedulers_own(prediction_type, pair):
    scheduler = DDPMScheduler(prediction_type=prediction_type, clip_sample=False)
    prediction, noisy = pair
    step = 400
    theirs = scheduler.step(prediction, step, noisy).pred_original_sample
    alpha_bar_t = scheduler.alphas_cumprod[step].repeat(3)
    ours = clean_from_prediction(prediction, noisy, alpha_bar_t, prediction_type)
    torch.testing.assert_close(ours, theirs.double(), rtol=1e-5, atol=1e-5)


def test_the_velocity_target_is_the_schedulers_own(pair):
    scheduler = DDPMScheduler(prediction_type="v_prediction")
    clean, noise = pair
    theirs = scheduler.get_velocity(clean, noise, STEPS)
    alpha_bar_t = scheduler.alphas_cumprod[STEPS]
    ours = training_target(clean, noise, alpha_bar_t, "v_prediction")
    torch.testing.assert_close(ours, theirs.double(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("formula", [clean_from_prediction, training_target])
def test_an_unknown_prediction_type_is_named(formula, pair, alphas_cumprod):
    with pytest.raises(RicError, match="prediction_type is 'flow'") as caught:
        formula(*pair, alphas_cumprod[STEPS], "flow")
    assert "epsilon, v_prediction, sample" in caught.value.hint


def test_a_reverse_step_is_drawn_from_the_posterior(pair, alphas_cumprod, draw):
    noisy, noise = pair
    z = torch.randn(SHAPE, generator=draw, dtype=torch.float64)
    steps = torch.tensor([1, 400, 999])
    alpha_bar_t, alpha_bar_previous = alphas_cumprod[steps], alphas_cumprod[steps - 1]
    beta_t = 1 - alpha_bar_t / alpha_bar_previous
    got = reverse_step(noisy, noise, beta_t, alpha_bar_t, alpha_bar_previous, z)
    for i in range(3):
        a, previous, beta = (float(v[i]) for v in (alpha_bar_t, alpha_bar_previous, beta_t))
        # the posterior q(x_{t-1} | x_t, x_0) by the product of its two Gaussians
        clean = (noisy[i] - (1 - a) ** 0.5 * noise[i]) / a**0.5
        precision = (1 - beta) / beta + 1 / (1 - previous)
        mean = (
            (1 - beta) ** 0.5 / beta * noisy[i] + previous**0.5 / (1 - previous) * clean
        ) / precision
        torch.testing.assert_close(got[i], mean + (1 / precision) ** 0.5 * z[i])


@pytest.mark.parametrize("step", [999, 400, 1, 0])
def test_a_reverse_step_equals_the_ddpm_schedulers(step, pair):
    scheduler = DDPMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        variance_type="fixed_small",
    )
    noisy, noise = (tensor.float() for tensor in pair)
    theirs = scheduler.step(
        noise, step, noisy, generator=torch.Generator().manual_seed(7)
    ).prev_sample
    z = torch.randn(SHAPE, generator=torch.Generator().manual_seed(7))
    previous = scheduler.alphas_cumprod[step - 1] if step else torch.tensor(1.0)
    ours = reverse_step(
        noisy,
        noise,
        scheduler.betas[step].repeat(3),
        scheduler.alphas_cumprod[step].repeat(3),
        previous.repeat(3),
        z,
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_half_precision_latents_keep_their_dtype_and_the_schedules_precision(pair, alphas_cumprod):
    clean, noise = (tensor.bfloat16() for tensor in pair)
    noisy = add_noise(clean, noise, alphas_cumprod[STEPS])
    assert noisy.dtype == torch.bfloat16
    # 1 - alpha_bar would be 0 if it were taken in bfloat16
    a = float(alphas_cumprod[0])
    expected = a**0.5 * clean[0].double() + (1 - a) ** 0.5 * noise[0].double()
    torch.testing.assert_close(noisy[0].double(), expected, rtol=0.02, atol=0.02)


def test_the_unet_reads_the_noisy_latents_beside_the_unscaled_source(
    unet: UNet2DConditionModel, vae: AutoencoderKL, draw: torch.Generator
):
    source = torch.rand(2, 3, 32, 32, generator=draw) * 2 - 1
    target = torch.rand(2, 3, 32, 32, generator=draw) * 2 - 1
    scheduler = DDPMScheduler()
    timesteps = torch.tensor([10, 900])
    seen = []
    unet.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append((args, kwargs)), with_kwargs=True
    )
    with torch.no_grad():
        # what diffusers' InstructPix2Pix training feeds its UNet
        latents = vae.encode(target).latent_dist.sample(draw) * vae.config.scaling_factor
        noisy = scheduler.add_noise(latents, torch.randn(latents.shape, generator=draw), timesteps)
        source_latents = vae.encode(source).latent_dist.mode()
        theirs = torch.cat([noisy, source_latents], dim=1)
        text = torch.randn(2, 77, unet.config.cross_attention_dim, generator=draw)

        got = predict_noise(unet, noisy, timesteps, text, source_latents)
        args, kwargs = seen[0]
        assert torch.equal(args[0], theirs)
        assert torch.equal(args[1], timesteps)
        assert torch.equal(kwargs["encoder_hidden_states"], text)
        assert torch.equal(unet_input(noisy, source_latents), theirs)
        assert torch.equal(got, unet(theirs, timesteps, text).sample)
    assert got.shape == noisy.shape
