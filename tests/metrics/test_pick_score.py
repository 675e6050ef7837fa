"""PickScore against the code of its model card, on transformers' processor and model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel, CLIPProcessor

from ric.errors import RicError
from ric.metrics.pick_score import PUBLISHED, PickScore

SIZES = [(512, 686), (299, 257)]
TEXTS = ["a red ball in the grass", "a blue house", "a tree " * 60]


@torch.no_grad()
def by_its_card(folder: Path, images: list[Image.Image], texts: list[str], **changes) -> list:
    """Score as https://huggingface.co/yuvalkirstain/PickScore_v1 says."""
    processor = CLIPProcessor(
        CLIPImageProcessorPil(**changes), AutoTokenizer.from_pretrained(folder)
    )
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    told = {"padding": True, "truncation": True, "max_length": 77, "return_tensors": "pt"}
    seen = model.get_image_features(**processor(images=images, return_tensors="pt")).pooler_output
    read = model.get_text_features(**processor(text=texts, **told)).pooler_output
    seen, read = (side / torch.norm(side, dim=-1, keepdim=True) for side in (seen, read))
    return (model.logit_scale.exp() * (read @ seen.T)).diagonal().tolist()


@pytest.mark.parametrize("size", SIZES)
def test_pick_score_is_that_of_the_model_card(clip_folder, draw, size):
    images = [draw(seed, *size) for seed in range(3)]
    network = PickScore(clip_folder)
    cosines = (network.image_embeddings(images) * network.text_embeddings(TEXTS)).sum(dim=1)
    found = (network.scale * cosines).tolist()
    assert found == pytest.approx(by_its_card(clip_folder, images, TEXTS), abs=1e-4)
    assert [network.is_cut(text) for text in TEXTS] == [False, False, True]
    bilinear = by_its_card(clip_folder, images, TEXTS, resample=Image.Resampling.BILINEAR)
    assert found != pytest.approx(bilinear, abs=1e-3)


def test_the_scale_is_that_of_the_weights(clip_folder, tmp_path):
    model = CLIPModel.from_pretrained(clip_folder)
    with torch.no_grad():
        model.logit_scale.fill_(2.0)
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(clip_folder).save_pretrained(tmp_path)
    network = PickScore(tmp_path)
    assert network.scale == pytest.approx(7.389, abs=1e-3)
    assert network.definition.startswith(f"7.389 times the cosine in {PUBLISHED}; PIL bicubic")


def test_only_the_published_encoder_is_unmarked(clip_folder):
    assert PickScore(clip_folder).marker == ""
    assert PickScore(clip_folder, encoder="tiny").marker == "tiny"


def test_another_networks_folder_is_refused(dino_folder):
    with pytest.raises(RicError):
        PickScore(dino_folder)
