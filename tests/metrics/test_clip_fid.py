"""CLIP-FID against clean-fid's own run of `clip_vit_b_32` over folders of pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cleanfid.fid import compute_fid, fid_from_feats
from PIL import Image
from torch import nn
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize
from transformers import CLIPConfig, CLIPModel

from ric.metrics.clip_features import ClipFeatures
from ric.metrics.clip_fid import ClipFidFeatures
from ric.metrics.clip_similarity import PUBLISHED
from ric.metrics.fid import fid_from_features

SIZES = [(512, 384), (299, 257)]
WIDTH, COUNT = 16, 24  # of the features, and pictures: more, so that covariances have full rank


@pytest.fixture(scope="module")
def folder(clip_folder, tmp_path_factory) -> Path:
    """The small CLIP of 224 pixels with narrower features."""
    config = CLIPConfig.from_pretrained(clip_folder)
    config.projection_dim = config.vision_config.projection_dim = WIDTH
    path = tmp_path_factory.mktemp("narrow")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        CLIPModel(config).save_pretrained(path)
    return path


class OpenAiClip(nn.Module):
    """The network under the names that OpenAI's `clip` package gives it."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.model = CLIPModel.from_pretrained(folder, dtype=torch.float32)

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model.get_image_features(pixels).pooler_output


@pytest.fixture
def openai_clip(folder, monkeypatch) -> None:
    """Let clean-fid import `clip`, which it takes the network from."""

    def load(name: str, device: str) -> tuple[nn.Module, None]:
        assert (name, str(device)) == ("ViT-B/32", "cpu")
        return OpenAiClip(folder), None

    monkeypatch.setitem(sys.modules, "clip", SimpleNamespace(load=load))


def written(folder: Path, images: list[Image.Image]) -> str:
    folder.mkdir()
    for number, image in enumerate(images):
        image.save(folder / f"{number:03}.png")
    return str(folder)


@pytest.mark.parametrize("size", SIZES)
def test_clip_fid_is_clean_fids_of_the_same_files(openai_clip, folder, draw, size, tmp_path):
    ours, theirs = ([draw(seed, *size) for seed in range(at, at + COUNT)] for at in (0, COUNT))
    folders = [written(tmp_path / name, some) for name, some in (("a", ours), ("b", theirs))]
    expected = compute_fid(
        *folders, model_name="clip_vit_b_32", device="cpu", num_workers=0, verbose=False
    )
    network = ClipFidFeatures(folder)
    features = [network.set_features(some).features for some in (ours, theirs)]
    assert features[0].shape == (COUNT, WIDTH)
    found = fid_from_features(*features).value
    assert found == pytest.approx(expected, rel=1e-4)
    # squashed, resized by bilinear, or of length 1: other numbers
    squashed, bilinear = (
        [network.set_features([rule(image) for image in some]).features for some in (ours, theirs)]
        for rule in (lambda image: image.resize((224, 224), Image.Resampling.BICUBIC), BILINEAR)
    )
    of_length_1 = [ClipFeatures(folder).set_features(some).features for some in (ours, theirs)]
    for wrong in (squashed, bilinear, of_length_1):
        assert fid_from_features(*wrong).value != pytest.approx(expected, rel=1e-3)


BILINEAR = Compose([Resize(224, InterpolationMode.BILINEAR), CenterCrop(224)])


def test_the_distance_is_clean_fids_of_the_same_features():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(60, 24)), rng.normal(0.2, 1.3, size=(50, 24))
    assert fid_from_features(a, b).value == pytest.approx(fid_from_feats(a, b), rel=1e-9)


def test_only_the_published_encoder_is_unmarked(clip_folder):
    assert ClipFidFeatures(clip_folder).marker == ""
    assert PUBLISHED in ClipFidFeatures(clip_folder).definition
    assert ClipFidFeatures(clip_folder, encoder="tiny").marker == "tiny"
