"""FID and IS against torch-fidelity and clean-fid, run on the same folders with one network."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import cleanfid.fid
import cleanfid.inception_pytorch
import numpy as np
import pytest
import torch
import torch_fidelity
from PIL import Image
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from ric.errors import RicError
from ric.metrics.fid import fid_from_features
from ric.metrics.inception import InceptionFeatures
from ric.metrics.inception_score import inception_score

SIZES = [(96, 80), (256, 256), (299, 299), (150, 300), (512, 512)]


@pytest.fixture(scope="module")
def inception(inception_weights: Path) -> InceptionFeatures:
    return InceptionFeatures(inception_weights, kind="torch-fidelity")


@pytest.fixture(scope="module")
def sets(draw) -> tuple[list[Image.Image], list[Image.Image]]:
    ours = [draw(seed, *SIZES[seed % len(SIZES)]) for seed in range(10)]
    theirs = [draw(seed, *SIZES[seed % len(SIZES)]) for seed in range(50, 60)]
    return ours, theirs


@pytest.fixture(scope="module")
def folders(sets, tmp_path_factory) -> tuple[str, str]:
    paths = []
    for images in sets:
        folder = tmp_path_factory.mktemp("pictures")
        for index, image in enumerate(images):
            image.save(folder / f"{index:02}.png")
        paths.append(str(folder))
    return tuple(paths)


@pytest.fixture(scope="module")
def features(inception, sets) -> dict[str, list]:
    """Every kind's features of both sets, each picture encoded once a kind."""
    kinds = ("clean", "torch-fidelity", "pytorch-fid")
    return {kind: [inception.fed_as(kind).set_features(side) for side in sets] for kind in kinds}


def fid(features, kind: str) -> float:
    ours, theirs = features[kind]
    return fid_from_features(ours.features.numpy(), theirs.features.numpy()).value


@pytest.fixture(scope="module")
def by_torch_fidelity(folders, inception_weights) -> dict[str, float]:
    return torch_fidelity.calculate_metrics(
        input1=folders[0],
        input2=folders[1],
        fid=True,
        isc=True,
        feature_extractor_weights_path=str(inception_weights),
        cuda=False,
        batch_size=1,  # it cannot stack pictures of several sizes
        cache=False,
        save_cpu_ram=True,
        verbose=False,
    )


def test_fid_is_torch_fidelitys(features, by_torch_fidelity):
    theirs = by_torch_fidelity["frechet_inception_distance"]
    assert theirs > 1
    assert fid(features, "torch-fidelity") == pytest.approx(theirs, rel=1e-5)


def test_inception_score_is_torch_fidelitys(features, by_torch_fidelity):
    # 10 pictures in 10 splits score 1 each: what the whole chain shows is checked with 2 splits
    ours = inception_score(features["torch-fidelity"][0].logits)
    assert ours.mean == pytest.approx(by_torch_fidelity["inception_score_mean"], rel=1e-5)
    assert inception_score(features["torch-fidelity"][0].logits, splits=1).mean > 1.5


@pytest.mark.parametrize("wrong", ["clean", "pytorch-fid"])
def test_another_resize_rule_gives_another_fid(features, by_torch_fidelity, wrong):
    theirs = by_torch_fidelity["frechet_inception_distance"]
    assert fid(features, wrong) != pytest.approx(theirs, rel=1e-3)


def test_another_resize_rule_gives_another_inception_score(features):
    right, wrong = (
        inception_score(features[kind][0].logits, splits=2).mean
        for kind in ("torch-fidelity", "clean")
    )
    assert wrong != pytest.approx(right, rel=1e-3)


def test_clean_fid_is_clean_fids(features, folders, inception):
    # clean-fid's own network is a file of traced layers; its rule and its FID are run here
    # around the same layers
    def network(pixels: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return inception.activations((pixels - 128) / 128)

    theirs = cleanfid_of(folders, network, "clean")
    assert theirs > 1
    assert fid(features, "clean") == pytest.approx(theirs, rel=1e-5)


def test_pytorch_fid_is_clean_fids_legacy_pytorch(
    features, folders, inception_weights, monkeypatch
):
    state = torch.load(inception_weights, weights_only=True)
    monkeypatch.setattr(
        cleanfid.inception_pytorch, "load_state_dict_from_url", lambda *_, **__: state
    )
    network = cleanfid.features.build_feature_extractor(
        "legacy_pytorch", torch.device("cpu"), use_dataparallel=False
    )
    theirs = cleanfid_of(folders, network, "legacy_pytorch")
    assert theirs > 1
    assert fid(features, "pytorch-fid") == pytest.approx(theirs, rel=1e-5)


def cleanfid_of(folders, network, mode: str) -> float:
    features = partial(
        cleanfid.fid.get_folder_features,
        model=network,
        mode=mode,
        num_workers=0,
        batch_size=5,
        device=torch.device("cpu"),
        verbose=False,
    )
    return float(cleanfid.fid.fid_from_feats(features(folders[0]), features(folders[1])))


def test_the_layers_called_by_hand_are_the_librarys_forward(
    inception, inception_weights, draw
):
    image = draw(3, 299, 299)
    library = FeatureExtractorInceptionV3(
        "by-hand", ["2048", "logits_unbiased"], str(inception_weights)
    )
    features, logits = library(torch.from_numpy(np.array(image)).permute(2, 0, 1)[None])
    ours = inception.set_features([image])
    torch.testing.assert_close(ours.features, features, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.logits, logits, rtol=1e-5, atol=1e-5)


def test_a_folders_fid_with_itself_is_zero(features):
    ours = features["clean"][0].features.numpy()
    assert fid_from_features(ours, ours).value == pytest.approx(0, abs=1e-4)


def test_a_file_with_code_in_it_is_refused(tmp_path):
    bad = tmp_path / "bad.pth"
    torch.save({"weight": Path("a class that is no tensor")}, bad)
    with pytest.raises(RicError, match="is not a file of tensors") as caught:
        InceptionFeatures(bad)
    assert "weights-inception-2015-12-05" in caught.value.hint


def test_another_networks_weights_are_refused(tmp_path):
    other = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(3)}, other)
    with pytest.raises(RicError, match="does not hold torch-fidelity's Inception v3"):
        InceptionFeatures(other)


def test_a_missing_weights_file_is_named(tmp_path):
    with pytest.raises(RicError, match=r"Cannot read the weights .*none\.pth: No such file"):
        InceptionFeatures(tmp_path / "none.pth")
