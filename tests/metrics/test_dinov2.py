"""DINOv2's cosine and features against transformers' processor and Meta's formula, written out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.linalg import sqrtm
from torch.nn.functional import cosine_similarity
from torchvision import transforms
from transformers import BitImageProcessorPil, Dinov2Config, Dinov2Model

from ric.errors import RicError
from ric.metrics.dinov2 import (
    FEATURES,
    SIMILARITY,
    Dinov2Features,
    Dinov2Similarity,
    interpolate_positions,
)
from ric.metrics.fid import fid_from_features

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES = [(512, 686), (400, 299)]  # of the first, half a pixel is left over beside the crop
WIDTH = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small DINOv2 of the published layout: 518 pixels, patches of 14, so 37 x 37 places."""
    path = tmp_path_factory.mktemp("dinov2")
    config = Dinov2Config(
        hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2, image_size=518,
        patch_size=14, initializer_range=0.2,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        Dinov2Model(config).save_pretrained(path)
    return path


def processor(**changes) -> BitImageProcessorPil:
    """Make the processor of facebook/dinov2-base's preprocessor_config.json."""
    told = {
        "size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224},
        "image_mean": MEAN, "image_std": STD, "resample": Image.Resampling.BICUBIC,
    }  # fmt: skip
    return BitImageProcessorPil(**(told | changes))


@torch.no_grad()
def tokens_of(model: Dinov2Model, pixels_BCHW: torch.Tensor) -> torch.Tensor:
    return model(pixels_BCHW).last_hidden_state[:, 0]


def loaded(folder: Path) -> Dinov2Model:
    return Dinov2Model.from_pretrained(folder, dtype=torch.float32)


@pytest.mark.parametrize("size", SIZES)
def test_cosine_is_transformers_processor_and_model(folder, draw, size):
    images, model = [draw(0, *size), draw(1, *size)], loaded(folder)

    def by_hand(**changes) -> float:
        pixels = processor(**changes)(images, return_tensors="pt")["pixel_values"]
        return cosine_similarity(*tokens_of(model, pixels), dim=0).item()

    one, other = Dinov2Similarity(folder).image_embeddings(images)
    assert one @ other == pytest.approx(by_hand(), abs=1e-5)
    assert by_hand() < 0.999
    for wrong in ({"resample": Image.Resampling.BILINEAR}, {"size": {"shortest_edge": 224}}):
        assert (one @ other).item() != pytest.approx(by_hand(**wrong), abs=1e-4)


def cubic_by_hand(grid: np.ndarray, places: int) -> np.ndarray:
    """Interpolate (M, M, W) by Keys' cubic of -0.75 at the places that a factor gives."""
    side = len(grid)
    factor = (places + 0.1) / side

    def weight(away: float) -> float:
        away = abs(away)
        if away <= 1:
            return 1.25 * away**3 - 2.25 * away**2 + 1
        return -0.75 * (away**3 - 5 * away**2 + 8 * away - 4) if away < 2 else 0.0

    mix = np.zeros((places, side))
    for place in range(places):
        at = (place + 0.5) / factor - 0.5
        for neighbour in range(int(np.floor(at)) - 1, int(np.floor(at)) + 3):
            mix[place, min(max(neighbour, 0), side - 1)] += weight(at - neighbour)
    return np.einsum("pm,qn,mnw->pqw", mix, mix, grid)


def test_positions_are_interpolated_as_metas_code_does_and_not_as_transformers(folder):
    learned = loaded(folder).embeddings.position_embeddings.detach()
    ours = interpolate_positions(learned, 16)
    grid = learned[0, 1:].reshape(37, 37, WIDTH).double().numpy()
    theirs = cubic_by_hand(grid, 16).reshape(256, WIDTH)
    assert ours.shape == (1, 257, WIDTH)
    np.testing.assert_allclose(ours[0, 1:].numpy(), theirs, atol=1e-4)
    assert torch.equal(ours[:, 0], learned[:, 0])
    plain = loaded(folder).embeddings.interpolate_pos_encoding(ours, 224, 224).detach()
    # as many places as there are positions stay as they are; of 37, transformers' differ
    assert (plain - ours).abs().max() > 0.01
    assert torch.equal(interpolate_positions(learned, 37), learned)


def features_by_hand(folder: Path, images: list[Image.Image], resize) -> torch.Tensor:
    """Write out dgm-eval's encoder on a model whose positions are for 224 pixels."""
    state = loaded(folder).state_dict()
    learned = state["embeddings.position_embeddings"]
    grid = cubic_by_hand(learned[0, 1:].reshape(37, 37, WIDTH).double().numpy(), 16)
    rest = torch.from_numpy(grid.reshape(1, 256, WIDTH)).float()
    state["embeddings.position_embeddings"] = torch.cat((learned[:, :1], rest), dim=1)
    config = Dinov2Config.from_pretrained(folder, image_size=224)
    model = Dinov2Model(config).eval()
    model.load_state_dict(state)
    rule = transforms.Compose([resize, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    return tokens_of(model, torch.stack([rule(image) for image in images]))


@pytest.mark.parametrize("size", SIZES)
def test_features_are_those_of_dgm_eval_and_their_distance_is_by_the_matrix_root(
    folder, draw, size
):
    images = [draw(seed, *size) for seed in range(12)]
    bicubic = transforms.InterpolationMode.BICUBIC
    theirs = features_by_hand(folder, images, transforms.Resize((224, 224), bicubic))
    ours = Dinov2Features(folder).set_features(images)
    torch.testing.assert_close(ours.features, theirs, atol=2e-4, rtol=0)
    assert ours.logits.shape == (12, 0)
    bilinear = transforms.InterpolationMode.BILINEAR
    wrong = features_by_hand(folder, images, transforms.Resize((224, 224), bilinear))
    assert (ours.features - wrong).abs().max() > 0.01
    a, b = (half.double().numpy() for half in (theirs[:6], theirs[6:]))
    root = sqrtm(np.cov(a, rowvar=False) @ np.cov(b, rowvar=False)).real
    by_root = np.square(a.mean(0) - b.mean(0)).sum()
    by_root += np.trace(np.cov(a, rowvar=False) + np.cov(b, rowvar=False) - 2 * root)
    found = fid_from_features(ours.features[:6], ours.features[6:]).value
    assert found == pytest.approx(by_root, rel=1e-3)


def test_only_the_published_encoders_are_unmarked_and_definitions_name_them(folder):
    for kind, published in ((Dinov2Similarity, SIMILARITY), (Dinov2Features, FEATURES)):
        assert kind(folder).marker == ""
        assert published in kind(folder).definition
        assert kind(folder, encoder="mine").marker == "mine"


def test_features_do_not_depend_on_the_batch(folder, draw):
    network, images = Dinov2Features(folder), [draw(seed) for seed in range(7)]
    together = network.set_features(images).features
    parts = [network.set_features([image]).features for image in images]
    torch.testing.assert_close(torch.cat(parts), together, atol=1e-4, rtol=0)


def test_another_networks_folder_is_refused(dino_folder):
    with pytest.raises(RicError, match="Dinov2Model"):
        Dinov2Similarity(dino_folder)
