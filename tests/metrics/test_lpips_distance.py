"""LPIPS against the lpips package with the same random backbone in torchvision's layout."""

from __future__ import annotations

from pathlib import Path

import lpips
import numpy as np
import pytest
import torch
import torchvision

from ric.errors import RicError
from ric.metrics.lpips_distance import LpipsDistance


@pytest.fixture(scope="module")
def alexnet(alexnet_weights: Path) -> Path:
    return alexnet_weights


@pytest.fixture(scope="module")
def distance(alexnet: Path) -> LpipsDistance:
    return LpipsDistance("alex", alexnet)


@pytest.fixture(scope="module")
def by_hand(alexnet: Path):
    """The package as it builds itself when its download succeeds: torchvision's own loading."""
    with pytest.MonkeyPatch.context() as patch:
        state = torch.load(alexnet, weights_only=True)
        patch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: state)
        patch.setattr(torchvision.models._api.WeightsEnum, "get_state_dict", lambda *_, **__: state)
        model = lpips.LPIPS(net="alex", verbose=False)

    @torch.no_grad()
    def call(a, b) -> float:
        tensors = [
            torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 127.5 - 1 for image in (a, b)
        ]
        return model(*tensors).item()

    return call


@pytest.mark.filterwarnings("ignore:.*weight:UserWarning")
@pytest.mark.parametrize("size", [(256, 256), (299, 299), (512, 512), (1024, 1024), (70, 90)])
def test_distance_is_the_packages(distance, by_hand, draw, size):
    a, b = draw(0, *size), draw(1, *size)
    theirs = by_hand(a, b)
    assert distance.distances([a], [b]).item() == pytest.approx(theirs, abs=1e-6)
    assert theirs > 1e-3
    # at half the size, as a library that resizes would see them
    smaller = [image.resize((size[0] // 2, size[1] // 2)) for image in (a, b)]
    assert by_hand(*smaller) != pytest.approx(theirs, abs=1e-4)


def test_a_picture_is_at_no_distance_from_itself(distance, draw):
    assert distance.distances([draw(0)], [draw(0).copy()]).item() == 0


def test_pictures_of_several_sizes_are_one_call(distance, draw):
    edited = [draw(0), draw(1, 70, 100), draw(2)]
    reference = [draw(3), draw(4, 70, 100), draw(5)]
    together = distance.distances(edited, reference)
    alone = [distance.distances([a], [b]).item() for a, b in zip(edited, reference, strict=True)]
    assert together.tolist() == pytest.approx(alone)


def test_one_reference_of_several_pictures_is_encoded_once(distance, draw):
    edited, reference = [draw(0), draw(1), draw(2)], draw(3)
    seen = []
    hook = distance.model.net.register_forward_hook(lambda *_: seen.append(1))
    together = distance.distances(edited, [reference] * 3)
    hook.remove()
    assert len(seen) == 3 + 1
    apart = distance.distances(edited, [reference.copy() for _ in edited])
    assert torch.equal(together, apart)


def test_a_pair_of_two_sizes_is_refused(distance, draw):
    with pytest.raises(ValueError, match="sizes must be equal"):
        distance.distances([draw(0)], [draw(1, 40, 40)])


def test_vgg_finds_its_layers_by_number(tmp_path, draw):
    # without the classifier, whose 120 million weights LPIPS has no use for
    features = torchvision.models.vgg16(weights=None).features.state_dict()
    path = tmp_path / "vgg16.pth"
    torch.save({f"features.{name}": tensor for name, tensor in features.items()}, path)
    vgg = LpipsDistance("vgg", path)
    assert vgg.marker == "vgg"
    assert torch.equal(vgg.model.net.slice5[-2].weight, features["28.weight"])
    assert vgg.distances([draw(0)], [draw(1)]).item() > 0


@pytest.mark.filterwarnings("ignore:.*weight:UserWarning")
def test_squeeze_is_the_packages_and_published_outside_the_mask(
    squeezenet_weights, monkeypatch, draw
):
    state = torch.load(squeezenet_weights, weights_only=True)
    downloads = torchvision.models._api.WeightsEnum
    monkeypatch.setattr(downloads, "get_state_dict", lambda *_, **__: state)
    library = lpips.LPIPS(net="squeeze", verbose=False)
    a, b = draw(0, 256, 256), draw(1, 256, 256)
    tensors = [torchvision.transforms.functional.to_tensor(image)[None] * 2 - 1 for image in (a, b)]
    with torch.no_grad():
        theirs = library(*tensors).item()
    squeeze = LpipsDistance("squeeze", squeezenet_weights, published="squeeze")
    assert squeeze.distances([a], [b]).item() == pytest.approx(theirs, abs=1e-6)
    assert theirs > 1e-3
    assert squeeze.marker == ""
    assert "lpips 0.1.4, squeeze" in squeeze.definition


def test_half_precision_moves_a_distance_by_more_than_the_tolerance(alexnet, draw):
    edited, reference = ([draw(seed, 128, 128) for seed in range(n, n + 8)] for n in (0, 8))
    distance = LpipsDistance("alex", alexnet)
    exact = distance.distances(edited, reference)
    with torch.autocast("cpu", torch.bfloat16):
        moved = (distance.distances(edited, reference) - exact).abs().max()
    assert 1e-5 < moved < 0.05


def test_building_it_leaves_the_random_state_alone(alexnet):
    before = torch.get_rng_state()
    LpipsDistance("alex", alexnet)
    assert torch.equal(torch.get_rng_state(), before)


def test_another_networks_file_is_refused(tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"features.0.weight": torch.zeros(1)}, path)
    with pytest.raises(RicError, match="does not hold LPIPS's alex backbone") as caught:
        LpipsDistance("alex", path)
    assert "alexnet-owt-7be5be79.pth" in caught.value.hint
