"""A UNet that grew: it predicts as before, and its new layers learn."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ric.config import TinyPriorConfig
from ric.errors import RicError
from ric.models.pipeline import load_pipeline
from ric.recipes.tiny.growth import deepen
from ric.recipes.tiny.prior import train_prior


@pytest.fixture(scope="module")
def unet(tiny_family):
    return load_pipeline(tiny_family / "pipeline", torch.device("cpu")).unet.eval()


@pytest.fixture(scope="module")
def question(unet):
    generator = torch.Generator().manual_seed(0)
    noisy = torch.randn(3, unet.config.in_channels, 16, 16, generator=generator)
    prompts = torch.randn(3, 7, unet.config.cross_attention_dim, generator=generator)
    return {
        "sample": noisy,
        "timestep": torch.tensor([3, 400, 900]),
        "encoder_hidden_states": prompts,
    }


@pytest.mark.parametrize("more", [0, 1, 2])
def test_a_deeper_unet_predicts_as_the_one_it_grew_from(more, unet, question):
    layers = unet.config.layers_per_block + more
    deeper = deepen(unet, layers)
    assert deeper.config.layers_per_block == layers
    for old, new in zip(unet.down_blocks, deeper.down_blocks, strict=True):
        assert len(new.resnets) == len(old.resnets) + more
    with torch.no_grad():
        expected, found = unet(**question).sample, deeper.eval()(**question).sample
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


def test_every_new_layer_of_a_deeper_unet_is_reached_by_the_gradient(unet, question):
    deeper = deepen(unet, unet.config.layers_per_block + 1).requires_grad_(True).train()
    for _ in range(2):  # the layers before one that is zero learn from the second step on
        deeper.zero_grad()
        deeper(**question).sample.square().mean().backward()
        with torch.no_grad():
            for weight in deeper.parameters():
                weight -= 0.1 * weight.grad
    still = [name for name, weight in deeper.named_parameters() if not weight.grad.any()]
    assert still == []


def test_a_prior_that_grows_starts_where_its_base_stood(settings, train, metrics_of, tmp_path):
    config = settings(TinyPriorConfig, steps=2, batch_size=4)
    before = metrics_of(train(train_prior, config, tmp_path / "before"))
    run = train(train_prior, replace(config, layers=2), tmp_path / "grown")
    grown = metrics_of(run)
    assert grown[0]["val_loss"] == pytest.approx(before[0]["val_loss"], rel=1e-4)
    unet = load_pipeline(run / "pipeline", torch.device("cpu")).unet
    assert unet.config.layers_per_block == 2


def test_a_unet_cannot_lose_layers(settings, train, tmp_path, tiny_family, unet):
    deeper = deepen(unet, 3)
    with pytest.raises(ValueError, match=r"3 layers per block cannot become one of 2"):
        deepen(deeper, 2)
    pipeline = load_pipeline(tiny_family / "pipeline", torch.device("cpu"))
    pipeline.unet = deeper
    pipeline.save_pretrained(tmp_path / "deeper")
    config = settings(TinyPriorConfig, base=str(tmp_path / "deeper"), layers=2)
    with pytest.raises(RicError, match=r"--layers 2: .*deeper already has 3 per level\."):
        train(train_prior, config, tmp_path / "run")
