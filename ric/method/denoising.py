"""The diffusion process and the clean image it predicts (Sec. 3.1 and 3.2, Eqs. 1 to 5).

Choice 9, prediction types: Eq. 5 is written for a UNet that predicts the noise. Stable Diffusion
relatives also predict v = sqrt(alpha_bar_t) epsilon - sqrt(1 - alpha_bar_t) x_0 or x_0 itself;
`clean_from_prediction` gives x0_hat for all three, and the noise term of Eq. 10 compares the
prediction with the target of that type (`training_target`).

Choice 12, conditioning latents: as in InstructPix2Pix the source picture enters as four more input
channels, the VAE posterior's mode *without* the scaling factor; only the target's latents, which
are noised, are sampled and scaled.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ric.errors import RicError

# Shape letters: B batch, C latent channels, H and W their height and width, L text tokens, E width.

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")


def _per_sample(value_B: Tensor, like: Tensor) -> Tensor:
    """View one number for each sample as (B, 1, 1, 1), in the dtype and on the device of `like`."""
    return value_B.to(device=like.device, dtype=like.dtype).reshape(-1, 1, 1, 1)


def add_noise(clean: Tensor, noise: Tensor, alpha_bar_t: Tensor) -> Tensor:
    """Noise clean latents up to step t (the closed form of Eqs. 1 and 2).

    Args:
        clean: x_0 (B, C, H, W).
        noise: epsilon (B, C, H, W), standard Gaussian.
        alpha_bar_t: The product of 1 - beta_s up to t (B,), in (0, 1].

    Returns:
        x_t (B, C, H, W), in the dtype of `clean`.
    """
    signal = _per_sample(alpha_bar_t.sqrt(), clean)
    spread = _per_sample((1 - alpha_bar_t).sqrt(), clean)
    return signal * clean + spread * noise  # Eqs. 1, 2


def reverse_step(
    noisy: Tensor,
    noise: Tensor,
    beta_t: Tensor,
    alpha_bar_t: Tensor,
    alpha_bar_previous: Tensor,
    z: Tensor,
) -> Tensor:
    """Take one step from x_t to x_{t-1} (Eq. 3).

    sigma_t^2 is the variance of the posterior q(x_{t-1} | x_t, x_0), which is 0 at the last step,
    where `alpha_bar_previous` is 1.

    Args:
        noisy: x_t (B, C, H, W).
        noise: epsilon_theta(x_t, t) (B, C, H, W).
        beta_t: The step's own variance (B,), in (0, 1).
        alpha_bar_t: (B,), in (0, 1).
        alpha_bar_previous: alpha_bar_{t-1} (B,), in (0, 1].
        z: A fresh standard Gaussian (B, C, H, W).

    Returns:
        x_{t-1} (B, C, H, W).
    """
    noise_share = _per_sample(beta_t / (1 - alpha_bar_t).sqrt(), noisy)
    mean = (noisy - noise_share * noise) / _per_sample((1 - beta_t).sqrt(), noisy)
    sigma_squared = (1 - alpha_bar_previous) / (1 - alpha_bar_t) * beta_t
    return mean + _per_sample(sigma_squared.sqrt(), noisy) * z  # Eq. 3


def unet_input(noisy: Tensor, source_latents: Tensor) -> Tensor:
    """Concatenate noisy and source latents for an InstructPix2Pix UNet (choice 12).

    Args:
        noisy: x_t (B, 4, H, W).
        source_latents: The source's posterior mode (B, 4, H, W), not scaled.

    Returns:
        (B, 8, H, W).
    """
    return torch.cat([noisy, source_latents], 1)


def predict_noise(
    unet: nn.Module,
    noisy: Tensor,
    timesteps: Tensor,
    text_embeddings: Tensor,
    source_latents: Tensor,
) -> Tensor:
    """Run the UNet: epsilon_theta(x_t, t, c), where c is instruction and source (Eq. 4).

    Args:
        unet: An eight-channel `UNet2DConditionModel`, or a wrapper with the same call.
        noisy: x_t (B, 4, H, W).
        timesteps: t (B,), whole numbers.
        text_embeddings: e_prompt (B, L, E), the text encoder's last hidden state.
        source_latents: The source's posterior mode (B, 4, H, W), not scaled.

    Returns:
        The UNet's prediction (B, 4, H, W): epsilon, v or x_0, as its scheduler says.
    """
    condition = unet_input(noisy, source_latents)
    return unet(condition, timesteps, encoder_hidden_states=text_embeddings).sample  # Eq. 4


def predict_clean(noisy: Tensor, noise: Tensor, alpha_bar_t: Tensor) -> Tensor:
    """Compute x0_hat, the clean latents that x_t and the predicted noise imply (Eq. 5).

    Args:
        noisy: x_t (B, C, H, W).
        noise: epsilon_theta(x_t, t, c) (B, C, H, W).
        alpha_bar_t: (B,), in (0, 1]. Near 0 the division makes x0_hat leave its range many-fold.

    Returns:
        x0_hat (B, C, H, W).
    """
    spread = _per_sample((1 - alpha_bar_t).sqrt(), noisy)
    return (noisy - spread * noise) / _per_sample(alpha_bar_t.sqrt(), noisy)  # Eq. 5


def clean_from_prediction(
    prediction: Tensor, noisy: Tensor, alpha_bar_t: Tensor, prediction_type: str
) -> Tensor:
    """Compute x0_hat from a prediction of any type (Eq. 5, choice 9).

    Args:
        prediction: The UNet's output (B, C, H, W).
        noisy: x_t (B, C, H, W).
        alpha_bar_t: (B,), in (0, 1].
        prediction_type: `epsilon`, `v_prediction` or `sample`, from the scheduler's config.

    Returns:
        x0_hat (B, C, H, W).

    Raises:
        RicError: `prediction_type` is none of the three.
    """
    if prediction_type == "epsilon":
        return predict_clean(noisy, prediction, alpha_bar_t)
    if prediction_type == "v_prediction":
        # no division: x0_hat stays bounded at every t
        signal = _per_sample(alpha_bar_t.sqrt(), noisy)
        spread = _per_sample((1 - alpha_bar_t).sqrt(), noisy)
        return signal * noisy - spread * prediction
    if prediction_type == "sample":
        return prediction
    raise _unknown_prediction_type(prediction_type)


def error_gain(alpha_bar_t: Tensor, prediction_type: str) -> Tensor:
    """Compute the factor by which `clean_from_prediction` magnifies a prediction's error.

    Args:
        alpha_bar_t: (B,), in (0, 1].
        prediction_type: `epsilon`, `v_prediction` or `sample`.

    Returns:
        |d x0_hat / d prediction| (B,): from 0 at t = 0 without bound for epsilon, at most 1 for v,
        and 1 for x_0.
    """
    if prediction_type == "epsilon":
        return ((1 - alpha_bar_t) / alpha_bar_t).sqrt()
    if prediction_type == "v_prediction":
        return (1 - alpha_bar_t).sqrt()
    return torch.ones_like(alpha_bar_t)


def training_target(
    clean: Tensor, noise: Tensor, alpha_bar_t: Tensor, prediction_type: str
) -> Tensor:
    """Compute what the UNet should have predicted: the target of Eq. 10's last term (choice 9).

    Args:
        clean: x_0 (B, C, H, W).
        noise: epsilon (B, C, H, W).
        alpha_bar_t: (B,), in (0, 1].
        prediction_type: `epsilon`, `v_prediction` or `sample`, from the scheduler's config.

    Returns:
        (B, C, H, W).

    Raises:
        RicError: `prediction_type` is none of the three.
    """
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "v_prediction":
        signal = _per_sample(alpha_bar_t.sqrt(), clean)
        spread = _per_sample((1 - alpha_bar_t).sqrt(), clean)
        return signal * noise - spread * clean
    if prediction_type == "sample":
        return clean
    raise _unknown_prediction_type(prediction_type)


def _unknown_prediction_type(prediction_type: str) -> RicError:
    """Make the error for a prediction type that has no formula."""
    return RicError(
        f"The scheduler's prediction_type is {prediction_type!r}.",
        f"Use a base whose scheduler_config.json says one of: {', '.join(PREDICTION_TYPES)}.",
    )
