"""DISTS against torchmetrics' network with the same VGG16, and its formula written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from metric_fixtures import vgg16_layers
from PIL import Image
from torchmetrics.functional.image import dists as torchmetrics_dists
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import resize, to_tensor

from ric.errors import RicError
from ric.metrics import dists
from ric.metrics.dists import ChannelWeights, DistsDistance, channel_weights

SIZES = [(320, 288), (96, 80)]  # of which the first is brought to 256


@pytest.fixture(scope="module")
def network(vgg_weights) -> DistsDistance:
    return DistsDistance(vgg_weights)


@pytest.fixture
def reference(vgg_weights, monkeypatch) -> torchmetrics_dists.DISTSNetwork:
    """torchmetrics' network, which would download its VGG16."""
    layers = vgg16_layers()
    state = torch.load(vgg_weights, weights_only=True)
    layers.load_state_dict({name.removeprefix("features."): state[name] for name in state})
    vgg = torch.nn.ModuleDict({"features": layers})
    monkeypatch.setattr(torchmetrics_dists, "vgg16", lambda weights: vgg)
    return torchmetrics_dists.DISTSNetwork()


def short_side(image: Image.Image, side: int, how=InterpolationMode.BILINEAR) -> torch.Tensor:
    return to_tensor(resize(image, side, how) if min(image.size) > side else image)[None]


@pytest.mark.parametrize("size", SIZES)
def test_dists_is_torchmetrics_behind_the_resize_of_the_papers_code(network, reference, draw, size):
    a, b = draw(0, *size), draw(1, *size)
    found = network.distances([a], [b]).item()
    assert found == pytest.approx(
        reference(short_side(a, 256), short_side(b, 256)).item(), abs=1e-6
    )
    assert found > 0.05
    assert network.distances([a], [a.copy()]).item() == pytest.approx(0, abs=1e-6)


def test_other_resizes_are_further_off_than_the_tolerance(network, reference, draw):
    a, b = (draw(seed, *SIZES[0]) for seed in (0, 1))
    found = network.distances([a], [b]).item()
    bicubic = InterpolationMode.BICUBIC
    for rule in ((256, bicubic), (224,), (999,)):  # of the last, none
        wrong = reference(*(short_side(one, *rule) for one in (a, b))).item()
        assert abs(found - wrong) > 1e-4


def test_the_formula_is_the_papers_on_random_activations():
    rng = np.random.default_rng(0)
    shapes = [(3, 5, 7), (4, 3, 2)]
    ours, theirs = ([rng.normal(1, 1, shape) for shape in shapes] for _ in range(2))
    alpha, beta = rng.uniform(size=7), rng.uniform(size=7)
    alike, channel = 0.0, 0
    for a, b in zip(ours, theirs, strict=True):
        for x, y in zip(a.reshape(len(a), -1), b.reshape(len(b), -1), strict=True):
            texture = (2 * x.mean() * y.mean() + 1e-6) / (x.mean() ** 2 + y.mean() ** 2 + 1e-6)
            covariance = (x * y).mean() - x.mean() * y.mean()
            structure = (2 * covariance + 1e-6) / (x.var() + y.var() + 1e-6)
            alike += alpha[channel] * texture + beta[channel] * structure
            channel += 1
    expected = 1 - alike / (alpha.sum() + beta.sum())
    stages = [[torch.from_numpy(one)[None] for one in side] for side in (ours, theirs)]
    found = dists.dists(*stages, ChannelWeights(torch.from_numpy(alpha), torch.from_numpy(beta)))
    assert found.item() == pytest.approx(expected, rel=1e-9)


def test_a_reference_in_several_pairs_is_encoded_once(network, draw, monkeypatch):
    a, b, target = (draw(seed) for seed in range(3))
    apart = [network.distances([one], [target]).item() for one in (a, b)]
    passes = []
    forward = network.network.forward
    monkeypatch.setattr(network.network, "forward", lambda x: passes.append(1) or forward(x))
    assert network.distances([a, b], [target, target]).tolist() == pytest.approx(apart, abs=1e-6)
    assert len(passes) == 3
    with pytest.raises(ValueError, match="sizes must be equal"):
        network.distances([a], [draw(0, 64, 64)])


def test_a_picture_of_one_pixel_has_a_distance(network):
    black, grey = Image.new("RGB", (1, 1)), Image.new("RGB", (1, 1), (99, 99, 99))
    assert network.distances([black], [grey]).isfinite().all()


def test_wrong_weights_are_refused_in_a_line(squeezenet_weights, tmp_path, monkeypatch):
    with pytest.raises(RicError, match="does not hold VGG16") as error:
        DistsDistance(squeezenet_weights)
    assert "vgg16-397923af.pth" in error.value.hint
    monkeypatch.setattr(dists, "find_spec", lambda name: None)
    with pytest.raises(RicError, match="Cannot read the weights") as error:
        channel_weights()
    assert "pip install 'torchmetrics>=1.8'" in error.value.hint
