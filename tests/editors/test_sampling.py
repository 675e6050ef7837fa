"""Schedulers by name, each held to one property: who always points at x_0 arrives there."""

from __future__ import annotations

import diffusers
import pytest
import torch

from ric.device import draw_generator
from ric.editors.sampling import FOR_LATENTS, Sampling, make_scheduler
from ric.errors import RicError
from ric.models.schedulers import SCHEDULERS, scheduler_class

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
ALPHA_BAR = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, 0)
SIGMA = torch.sqrt(1 / ALPHA_BAR - 1)
PREDICTIONS = ("epsilon", "v_prediction", "sample")
# its noise is of a package that is not needed, and of no generator that it is given
NOT_OF_A_SEED = "DPMSolverSDEScheduler"


def arrives(scheduler: object, prediction_type: str) -> bool:
    """Sample with a predictor that knows x_0, and tell whether x_0 is what comes out."""
    clean = torch.linspace(-2, 2, 64).reshape(1, 4, 4, 4)
    noise = torch.randn(clean.shape, generator=draw_generator(0))
    sampling = Sampling(scheduler, 12, noise, [draw_generator(1)])
    for t in sampling.timesteps:
        noisy, sigma = sampling.input(t), _sigma_at(float(t))
        root = (1 / (1 + sigma**2)) ** 0.5  # of alpha bar
        own = (noisy - root * clean) / (sigma * root)
        said = {"epsilon": own, "sample": clean, "v_prediction": root * own - sigma * root * clean}
        sampling.step(said[prediction_type], t)
    # some stop at the least noisy timestep, with as much noise as that has
    return bool((sampling.latents - clean).abs().max() < 4 * SIGMA[0])


def _sigma_at(t: float) -> float:
    """Return sigma, also between two timesteps, where KDPM2 asks."""
    low = min(int(t), 998)
    ends = SIGMA[low : low + 2].log()
    return float((ends[0] + (t - low) * (ends[1] - ends[0])).exp())


def test_every_scheduler_of_diffusers_that_samples_such_a_unet_is_here_and_no_other():
    def samples(kind: str, prediction_type: str) -> bool:
        try:
            config = {**FOR_LATENTS, **BETAS, "prediction_type": prediction_type}
            scheduler = getattr(diffusers.schedulers, kind).from_config(config)
            same = torch.allclose(scheduler.alphas_cumprod, ALPHA_BAR, rtol=1e-3)
            return same and arrives(scheduler, prediction_type)
        except Exception:  # each unfit one fails in its own way
            return False

    kinds = [name for name in dir(diffusers.schedulers) if name.endswith("Scheduler")]
    found = {
        kind: fit
        for kind in kinds
        if kind != NOT_OF_A_SEED and (fit := tuple(p for p in PREDICTIONS if samples(kind, p)))
    }
    assert found == {one.kind: one.predictions for one in SCHEDULERS.values()}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_keeps_the_pipelines_noise_levels_and_prediction_type(name):
    own = diffusers.EulerAncestralDiscreteScheduler(**BETAS, prediction_type="v_prediction")
    made = make_scheduler(name, own)
    assert type(made).__name__ == scheduler_class(name)
    assert torch.equal(made.alphas_cumprod, own.alphas_cumprod)
    assert arrives(made, "v_prediction")


def test_a_scheduler_that_cannot_sample_such_a_unet_is_refused_in_one_line():
    own = diffusers.DDIMScheduler(**BETAS, prediction_type="sample")
    with pytest.raises(RicError, match=r"ancestral cannot sample a UNet .* 'sample'") as caught:
        make_scheduler("euler-ancestral", own)
    assert "ddim, " in caught.value.hint
    assert "pndm" not in caught.value.hint
    with pytest.raises(RicError, match="no scheduler 'Heunn' that samples") as caught:
        make_scheduler("Heunn", own)
    assert caught.value.hint.startswith("Did you mean heun? Choose one of: ddim, ")
    with pytest.raises(RicError, match="no scheduler 'FlowMatchEulerDiscreteScheduler'"):
        make_scheduler(None, diffusers.FlowMatchEulerDiscreteScheduler())
