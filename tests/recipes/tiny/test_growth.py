"""A UNet that grew: it predicts as before, and its new layers learn."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
import torch

from ric.config import TinyPriorConfig
from ric.errors import RicError
from ric.models.pipeline import load_pipeline
from ric.recipes.tiny.growth import deepen, widen
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


@pytest.fixture(scope="module")
def wider(unet):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return widen(unet, Fraction(3, 2)).eval()


def test_a_wider_unet_predicts_nearly_as_the_one_it_grew_from(unet, wider, question):
    before = unet.config.block_out_channels
    assert wider.config.block_out_channels == [count * 3 // 2 for count in before]
    with torch.no_grad():
        expected, found = unet(**question).sample, wider(**question).sample
    error = (found - expected).square().mean() / expected.square().mean()
    assert error < 0.05  # a UNet of other random weights: about 2


def test_old_channels_of_a_wider_unet_read_from_no_new_one(unet, wider):
    """Where both have the same group norms, the old features stay what they were to the bit."""
    kept = {}
    for name, net in (("old", unet), ("new", wider)):
        features = net.conv_in(torch.linspace(-2, 2, 8 * 256).reshape(1, 8, 16, 16))
        embedding = torch.zeros(1, unet.time_embedding.linear_2.out_features)
        found = net.down_blocks[0].resnets[0](features, embedding)
        kept[name] = found[:, : unet.conv_in.out_channels]
    torch.testing.assert_close(kept["new"], kept["old"], atol=1e-5, rtol=1e-5)


def test_the_time_embedding_of_a_wider_unet_withstands_half_precision(unet, wider):
    """Weights that were large and cancelled each other would be exact in float32 alone."""
    steps = torch.arange(0, 1000, 37)
    exact = wider.time_embedding(wider.time_proj(steps))
    half = wider.time_proj(steps).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = wider.time_embedding(half)
    assert (found.float() - exact).abs().max() < 0.1 * exact.abs().max()
    # the worst case: random weights read frequencies that the wider UNet lacks as much as others
    assert (exact - unet.time_embedding(unet.time_proj(steps))).square().mean() < 0.2 * exact.var()


def test_every_layer_of_a_wider_unet_is_reached_by_the_gradient(unet, wider, question):
    growing = widen(unet, Fraction(3, 2)).requires_grad_(True).train()
    for _ in range(3):  # what only zeros read learns once these have moved
        growing.zero_grad()
        growing(**question).sample.square().mean().backward()
        with torch.no_grad():
            for weight in growing.parameters():
                weight -= 0.1 * weight.grad
    for name, weight in growing.named_parameters():
        old = unet.get_parameter(name)
        if weight.shape[0] > old.shape[0]:
            assert weight.grad[old.shape[0] :].any(), name


def test_a_unet_cannot_have_a_part_of_a_head(unet, settings, train, tmp_path):
    with pytest.raises(ValueError, match="11/10 times its channels, groups and heads"):
        widen(unet, Fraction(11, 10))
    config = settings(TinyPriorConfig, width=1.1)
    with pytest.raises(RicError, match=r"--width 1\.1: a UNet cannot have 11/10 times"):
        train(train_prior, config, tmp_path / "run")


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
