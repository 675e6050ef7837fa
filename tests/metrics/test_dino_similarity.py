"""DINO similarity against the model called by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import cosine_similarity
from transformers import ViTModel

from ric.metrics.dino_similarity import PUBLISHED, DinoSimilarity


@pytest.fixture(scope="module")
def folder(dino_folder):
    return dino_folder


@torch.no_grad()
def cls_by_hand(folder, image: Image.Image, short_side: int, crop: int) -> torch.Tensor:
    scale = short_side / min(image.size)
    size = tuple(int(side * scale) for side in image.size)
    left, top = ((side - crop) // 2 for side in size)
    resized = image.resize(size, Image.Resampling.BICUBIC)
    pixels = np.array(resized.crop((left, top, left + crop, top + crop))) / 255
    pixels = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    model = ViTModel.from_pretrained(folder, dtype=torch.float32)
    tokens = torch.from_numpy(pixels).float().permute(2, 0, 1)[None]
    return model(tokens).last_hidden_state[0, 0]


@pytest.mark.parametrize("size", [(256, 256), (299, 299), (512, 512), (1024, 1024), (768, 512)])
def test_cosine_is_the_models_called_by_hand(folder, draw, size):
    images = [draw(0, *size), draw(1, *size)]
    theirs = cosine_similarity(*(cls_by_hand(folder, image, 256, 224) for image in images), dim=0)
    one, other = DinoSimilarity(folder).image_embeddings(images)
    assert one @ other == pytest.approx(theirs.item(), abs=1e-5)
    assert theirs < 0.999
    # the model's own preprocessor squashes to 224 instead
    squashed = [
        cls_by_hand(folder, image.resize((224, 224), Image.Resampling.BICUBIC), 224, 224)
        for image in images
    ]
    assert one @ other != pytest.approx(cosine_similarity(*squashed, dim=0).item(), abs=1e-4)


def test_a_smaller_model_keeps_the_proportion_and_says_so(tiny_family, draw):
    dino = DinoSimilarity(tiny_family / "dino", encoder="tiny")
    images = [draw(2, 128, 128), draw(3, 128, 128)]
    by_hand = [cls_by_hand(tiny_family / "dino", image, 73, 64) for image in images]
    one, other = dino.image_embeddings(images)
    assert one @ other == pytest.approx(cosine_similarity(*by_hand, dim=0).item(), abs=1e-5)
    assert "bicubic to 73, centre crop 64" in dino.definition


def test_a_picture_is_at_cosine_one_with_itself(folder, draw):
    one, other = DinoSimilarity(folder).image_embeddings([draw(0), draw(0).copy()])
    assert one @ other == pytest.approx(1, abs=1e-6)


def test_only_the_published_encoder_is_unmarked(folder):
    assert DinoSimilarity(folder, encoder="tiny").marker == "tiny"
    assert DinoSimilarity(folder, encoder=PUBLISHED).marker == ""


def test_cosines_do_not_depend_on_the_batch(folder, draw):
    dino, images = DinoSimilarity(folder), [draw(seed) for seed in range(64)]
    together = dino.image_embeddings(images)
    for batch in (1, 7):
        parts = [dino.image_embeddings(images[at : at + batch]) for at in range(0, 64, batch)]
        torch.testing.assert_close(torch.cat(parts), together, atol=1e-5, rtol=0)


def test_half_precision_moves_a_cosine_by_more_than_the_tolerance(folder, draw):
    images = [draw(seed, 256, 256) for seed in range(8)]
    dino = DinoSimilarity(folder)
    exact = dino.image_embeddings(images)
    dino.model.to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        halved = dino.image_embeddings(images).float()
    moved = (halved @ halved.T - exact @ exact.T).abs().max()
    assert 1e-4 < moved < 0.05
