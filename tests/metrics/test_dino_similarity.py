"""DINO similarity against the model called by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import cosine_similarity
from transformers import ViTConfig, ViTModel

from ric.metrics.dino_similarity import PUBLISHED, DinoSimilarity


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small ViT of DINO's own size, 224."""
    path = tmp_path_factory.mktemp("dino")
    config = ViTConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=224,
        patch_size=16,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ViTModel(config).save_pretrained(path)  # with the pooler that other ViTs have
    return path


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


@pytest.mark.parametrize("size", [(256, 256), (512, 512), (1024, 1024), (768, 512)])
def test_cosine_is_the_models_called_by_hand(folder, draw, size):
    images = [draw(0, *size), draw(1, *size)]
    theirs = cosine_similarity(*(cls_by_hand(folder, image, 256, 224) for image in images), dim=0)
    one, other = DinoSimilarity(folder).image_embeddings(images)
    assert one @ other == pytest.approx(theirs.item(), abs=1e-5)
    assert theirs < 0.9999


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
