"""FID and IS against torch-fidelity and clean-fid, run on the same folders with one network."""

from __future__ import annotations

import copy
from collections.abc import Callable
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
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.utils import extract_featuresdict_from_input_id

from ric.errors import RicError
from ric.metrics.fid import fid_from_features
from ric.metrics.inception import InceptionFeatures
from ric.metrics.inception_score import inception_score

SIZES = [(256, 256), (299, 299), (150, 300), (512, 512), (1024, 1024)]


@pytest.fixture(scope="module")
def inception(inception_weights: Path) -> InceptionFeatures:
    return InceptionFeatures(inception_weights, kind="torch-fidelity")


@pytest.fixture(scope="module")
def sets(draw) -> tuple[list[Image.Image], list[Image.Image]]:
    ours = [draw(seed, *SIZES[seed % len(SIZES)]) for seed in range(6)]
    theirs = [draw(seed, *SIZES[seed % len(SIZES)]) for seed in range(50, 54)]
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


def options(folders, inception_weights: Path) -> dict:
    return {
        "input1": folders[0],
        "input2": folders[1],
        "feature_extractor_weights_path": str(inception_weights),
        "isc_splits": 2,  # with its 10, 6 pictures would give NaN
        "cuda": False,
        "batch_size": 1,  # it cannot stack pictures of several sizes
        "cache": False,
        "save_cpu_ram": True,
        "verbose": False,
    }


@pytest.fixture(scope="module")
def by_torch_fidelity(folders, inception_weights) -> list[dict[str, torch.Tensor]]:
    """torch-fidelity's features of both folders, read and resized by torch-fidelity itself."""
    network = FeatureExtractorInceptionV3(
        "by-library", ["2048", "logits_unbiased"], str(inception_weights)
    )
    settings = options(folders, inception_weights)
    return [extract_featuresdict_from_input_id(side, network, **settings) for side in (1, 2)]


@pytest.fixture(scope="module")
def theirs(by_torch_fidelity) -> dict[str, float]:
    fid = fid_from_features(*(side["2048"] for side in by_torch_fidelity)).value
    return {"fid": fid, **isc_features_to_metric(by_torch_fidelity[0]["logits_unbiased"], 2)}


def test_fid_is_torch_fidelitys(features, by_torch_fidelity, theirs):
    assert theirs["fid"] > 1
    assert fid(features, "torch-fidelity") == pytest.approx(theirs["fid"], rel=1e-5)
    for ours, library in zip(features["torch-fidelity"], by_torch_fidelity, strict=True):
        torch.testing.assert_close(ours.features, library["2048"], rtol=1e-4, atol=1e-5)


def test_inception_score_is_torch_fidelitys(features, theirs):
    ours = inception_score(features["torch-fidelity"][0].logits, splits=2)
    assert ours.mean > 1.5
    assert ours.mean == pytest.approx(theirs["inception_score_mean"], rel=1e-5)
    # the spread of two nearly equal scores has their error, not its own
    assert ours.std == pytest.approx(theirs["inception_score_std"], abs=1e-5 * ours.mean)


@pytest.mark.slow
def test_both_are_what_torch_fidelity_calculates_from_the_folders(
    features, folders, inception_weights
):
    # slow: it takes the eigenvalues of a general matrix of 2048 x 2048
    settings = options(folders, inception_weights)
    library = torch_fidelity.calculate_metrics(fid=True, isc=True, **settings)
    ours = inception_score(features["torch-fidelity"][0].logits, splits=2)
    assert ours.mean == pytest.approx(library["inception_score_mean"], rel=1e-5)
    assert fid(features, "torch-fidelity") == pytest.approx(
        library["frechet_inception_distance"], rel=1e-5
    )


@pytest.mark.parametrize("wrong", ["clean", "pytorch-fid"])
def test_another_resize_rule_gives_another_fid(features, theirs, wrong):
    assert fid(features, wrong) != pytest.approx(theirs["fid"], rel=1e-3)


def test_another_resize_rule_gives_another_inception_score(features, theirs):
    wrong = inception_score(features["clean"][0].logits, splits=2)
    assert wrong.mean != pytest.approx(theirs["inception_score_mean"], rel=1e-3)


Read = Callable[[str, str], np.ndarray]


@pytest.fixture(scope="module")
def read_as_clean_fid(inception, inception_weights) -> Read:
    """Give `read(folder, kind)`: clean-fid's features, read and resized by clean-fid itself."""

    # its network for `clean` is a traced file of the same layers, so these stand in; the one for
    # `legacy_pytorch` is its own and is only kept from downloading
    def layers(pixels: torch.Tensor) -> torch.Tensor:
        return inception.activations((pixels - 128) / 128)

    with pytest.MonkeyPatch.context() as patch:
        state = torch.load(inception_weights, weights_only=True)
        patch.setattr(
            cleanfid.inception_pytorch, "load_state_dict_from_url", lambda *_, **__: state
        )
        legacy = cleanfid.features.build_feature_extractor(
            "legacy_pytorch", torch.device("cpu"), use_dataparallel=False
        )
    read = partial(
        cleanfid.fid.get_folder_features,
        num_workers=0,
        batch_size=5,
        device=torch.device("cpu"),
        verbose=False,
    )
    fed = {"clean": (layers, "clean"), "pytorch-fid": (legacy, "legacy_pytorch")}
    return lambda folder, kind: read(folder, fed[kind][0], mode=fed[kind][1])


@pytest.fixture(scope="module")
def by_clean_fid(folders, read_as_clean_fid) -> dict[str, list[np.ndarray]]:
    kinds = ("clean", "pytorch-fid")
    return {kind: [read_as_clean_fid(folder, kind) for folder in folders] for kind in kinds}


@pytest.mark.filterwarnings("ignore:.*weight:UserWarning")
@pytest.mark.parametrize("kind", ["clean", "pytorch-fid"])
def test_features_and_fid_are_clean_fids(features, by_clean_fid, kind):
    library = fid_from_features(*by_clean_fid[kind]).value
    assert library > 1
    assert fid(features, kind) == pytest.approx(library, rel=1e-5)
    ours = np.concatenate([side.features.numpy() for side in features[kind]])
    np.testing.assert_allclose(ours, np.concatenate(by_clean_fid[kind]), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["clean", "pytorch-fid"])
def test_fid_is_clean_fids_by_its_own_matrix_root(features, by_clean_fid, kind):
    library = float(cleanfid.fid.fid_from_feats(*by_clean_fid[kind]))
    assert fid(features, kind) == pytest.approx(library, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("size", [256, 299, 512, 1024])
def test_at_every_size_all_three_fids_and_is_are_their_librarys(
    draw, tmp_path, inception, inception_weights, read_as_clean_fid, size
):
    sides = [[draw(seed, size, size) for seed in range(start, start + 8)] for start in (0, 60)]
    paths = tuple(str(tmp_path / side) for side in ("edited", "target"))
    for path, images in zip(paths, sides, strict=True):
        Path(path).mkdir()
        for index, image in enumerate(images):
            image.save(f"{path}/{index}.png")
    network = FeatureExtractorInceptionV3(
        "by-library", ["2048", "logits_unbiased"], str(inception_weights)
    )
    settings = options(paths, inception_weights)
    tf1 = [extract_featuresdict_from_input_id(side, network, **settings) for side in (1, 2)]
    library = {
        "torch-fidelity": fid_from_features(*(side["2048"] for side in tf1)).value,
        **{
            kind: fid_from_features(*(read_as_clean_fid(path, kind) for path in paths)).value
            for kind in ("clean", "pytorch-fid")
        },
    }
    encoded = {
        kind: [inception.fed_as(kind).set_features(side) for side in sides] for kind in library
    }
    ours = {kind: fid(encoded, kind) for kind in library}
    assert ours == pytest.approx(library, rel=1e-5)
    assert min(library.values()) > 1
    isc = isc_features_to_metric(tf1[0]["logits_unbiased"], 2)["inception_score_mean"]
    assert inception_score(encoded["torch-fidelity"][0].logits, splits=2).mean == pytest.approx(
        isc, rel=1e-5
    )
    assert isc > 1.5
    # any other rule falls outside; at 299 pixels two of them leave a picture as it is
    pairs = [("clean", "pytorch-fid"), ("torch-fidelity", "pytorch-fid")]
    for one, other in [*pairs, ("clean", "torch-fidelity")][: 2 if size == 299 else 3]:
        assert ours[one] != pytest.approx(library[other], rel=1e-4)


@pytest.mark.slow
def test_fid_does_not_depend_on_the_batch(inception, draw):
    clean = inception.fed_as("clean")
    edited, target = (
        [draw(seed, 128, 96) for seed in range(64)],
        [draw(seed) for seed in (70, 71, 72)],
    )
    of_targets = clean.set_features(target).features.numpy()

    def by(batch: int) -> float:
        parts = [clean.set_features(edited[at : at + batch]) for at in range(0, 64, batch)]
        features = np.concatenate([part.features.numpy() for part in parts])
        return fid_from_features(features, of_targets).value

    assert by(1) == pytest.approx(by(64), rel=1e-5)
    assert by(7) == pytest.approx(by(64), rel=1e-5)


def test_half_precision_moves_fid_by_more_than_any_tolerance(inception, features, draw):
    # why every network runs in float32, whatever --dtype says
    # of two pictures: where a CPU has no arithmetic for it, one takes seconds
    ours, theirs = (side.features.numpy() for side in features["clean"])
    exact = fid_from_features(ours[:2], theirs).value
    with pytest.MonkeyPatch.context() as patch:
        layers = [layer for name, layer in inception.network.named_children() if name != "fc"]
        halved = copy.deepcopy(torch.nn.Sequential(*layers)).to(torch.bfloat16)
        patch.setattr(
            InceptionFeatures,
            "activations",
            lambda _, pixels: halved(pixels.to(torch.bfloat16)).flatten(1).float(),
        )
        by_half = inception.fed_as("clean").set_features([draw(0, *SIZES[0]), draw(1, *SIZES[1])])
    moved = fid_from_features(by_half.features.numpy(), theirs).value
    assert 1e-4 < abs(moved / exact - 1) < 0.1


def test_the_layers_called_by_hand_are_the_librarys_forward(inception, inception_weights, draw):
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
