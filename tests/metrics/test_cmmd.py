"""CMMD against its formula written out, its networks' input, and its interval on known sets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPModel

from ric.errors import RicError
from ric.metrics.clip_features import PUBLISHED, ClipFeatures
from ric.metrics.cmmd import cmmd_from_features
from ric.metrics.kernel_sums import SUBSETS


def embeddings(seed: int, count: int = 20, width: int = 16, shift: float = 0.3) -> np.ndarray:
    """Draw unit vectors around a common direction, as CLIP's are."""
    rng = np.random.default_rng(seed)
    centre = np.ones(width) + shift * np.random.default_rng(1000 + seed).normal(size=width)
    rows = centre + 0.5 * rng.normal(size=(count, width))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def kernel(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.exp(-np.sum((x - y) ** 2) / (2 * 10**2)))


def by_hand(a: np.ndarray, b: np.ndarray) -> float:
    """The biased estimator written out, pair by pair."""
    within_a = np.mean([kernel(x, y) for x in a for y in a])
    within_b = np.mean([kernel(x, y) for x in b for y in b])
    return 1000 * (within_a + within_b - 2 * np.mean([kernel(x, y) for x in a for y in b]))


def test_cmmd_is_the_formula_written_out():
    a, b = embeddings(0), embeddings(1)
    found = cmmd_from_features(a, b)
    assert found.value == pytest.approx(by_hand(a, b), rel=1e-9)
    assert found.value > 0.1
    assert cmmd_from_features(a, b, block=1).value == pytest.approx(found.value, rel=1e-9)


def test_without_its_bias_it_is_the_mean_over_different_samples_alone():
    a, b = embeddings(0), embeddings(1)
    different = [(i, j) for i in range(20) for j in range(20) if i != j]
    of_pairs = [
        kernel(a[i], a[j]) + kernel(b[i], b[j]) - kernel(a[i], b[j]) - kernel(a[j], b[i])
        for i, j in different
    ]
    found = cmmd_from_features(a, b)
    assert found.value - found.bias == pytest.approx(1000 * np.mean(of_pairs), rel=1e-8)


def test_sets_that_make_no_pairs_may_differ_in_size():
    a, b = embeddings(0, 15), embeddings(1, 24)
    found = cmmd_from_features(a, b, paired=False)
    assert found.value == pytest.approx(by_hand(a, b), rel=1e-9)
    within = [
        np.mean([kernel(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j])
        for x in (a, b)
    ]
    across = np.mean([kernel(x, y) for x in a for y in b])
    assert found.value - found.bias == pytest.approx(1000 * (sum(within) - 2 * across), rel=1e-8)


def test_a_set_is_at_no_distance_from_itself():
    a = embeddings(0)
    found = cmmd_from_features(a, a)
    assert found.value == pytest.approx(0, abs=1e-9)
    assert found.value >= 0


def test_one_picture_is_too_few_and_three_have_no_interval():
    with pytest.raises(RicError, match="CMMD needs 2 pictures or more on each side"):
        cmmd_from_features(embeddings(0, 1), embeddings(1, 1))
    assert cmmd_from_features(embeddings(0, 3), embeddings(1, 3)).interval is None
    assert len(cmmd_from_features(embeddings(0, 4), embeddings(1, 4)).subsets) == SUBSETS


def test_all_samples_of_a_photo_are_in_a_subset_together():
    a, b = embeddings(0, 10), embeddings(1, 10)
    alone = cmmd_from_features(a, b, seed=3)
    doubled = [np.repeat(rows, 2, axis=0) for rows in (a, b)]
    photos = [str(number // 2) for number in range(20)]
    together = cmmd_from_features(*doubled, seed=3, photos=photos)
    assert together.value == pytest.approx(alone.value, rel=1e-9)
    assert together.photos == 10


def test_an_editor_tied_to_its_own_targets_gains_nothing_in_a_difference():
    tied, free, plain = [], [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)

        def drawn(rng=rng) -> np.ndarray:
            rows = np.ones(16) + 0.5 * rng.normal(size=(40, 16))
            return rows / np.linalg.norm(rows, axis=1, keepdims=True)

        target, other = drawn(), drawn()
        far = cmmd_from_features(other, target)
        copy = cmmd_from_features(target, target)
        tied.append(copy.value - copy.bias)
        free.append(far.value - far.bias)
        plain.append(far.value - copy.value)
    # both have the targets' distribution: the value prefers the copy, the difference neither
    assert np.mean(plain) > 5 * np.std(plain) / np.sqrt(60)
    assert abs(np.mean(free) - np.mean(tied)) < 3 * np.std(free) / np.sqrt(60)


@pytest.mark.parametrize("size", [(512, 384), (299, 256)])
def test_features_are_those_of_the_centre_square_in_clip(clip_folder, draw, size):
    images = [draw(seed, *size) for seed in range(3)]
    model = CLIPModel.from_pretrained(clip_folder, dtype=torch.float32)
    processor = CLIPImageProcessorPil()

    @torch.no_grad()
    def by_hand(images: list[Image.Image]) -> torch.Tensor:
        pixels = processor(images, return_tensors="pt")["pixel_values"]
        vectors = model.get_image_features(pixels).pooler_output
        return vectors / vectors.norm(dim=-1, keepdim=True)

    width, height = size
    left = (width - height) // 2
    squares = [image.crop((left, 0, left + height, height)) for image in images]
    ours = ClipFeatures(clip_folder).set_features(images)
    torch.testing.assert_close(ours.features, by_hand(squares), atol=1e-5, rtol=0)
    assert ours.logits.shape == (3, 0)
    # CLIP's own rule takes the square last, and others squash the picture
    squashed = [image.resize((224, 224), Image.Resampling.BICUBIC) for image in images]
    for wrong in (images, squashed):
        assert (ours.features - by_hand(wrong)).abs().max() > 1e-4


def test_only_the_published_encoder_is_unmarked(clip_folder):
    assert ClipFeatures(clip_folder).marker == ""
    assert PUBLISHED in ClipFeatures(clip_folder).definition
    assert ClipFeatures(clip_folder, encoder="tiny").marker == "tiny"
