"""Context consistency: two cosines of one judge, written out here from its parts."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from ric.config import EvalConfig
from ric.data.drawn_scenes import SceneStream
from ric.errors import RicError
from ric.method.judge_pixels import as_input
from ric.method.region_box import crop, grow_box, tightest_box
from ric.method.region_encoder import RegionEncoder
from ric.scoring.context_consistency import ContextConsistency

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def metric(tiny_family) -> ContextConsistency:
    return ContextConsistency(tiny_family / "region_encoder", EvalConfig(), CPU)


def pair_of(edited, mask, text="a red ball"):
    return SimpleNamespace(edited=edited, mask=mask, text=text)


def test_it_is_what_the_picture_adds_to_the_crop_by_the_fusion_s_own_parts(metric, tiny_family):
    (sample, *_) = SceneStream(count=1, size=64, seed=3)
    edited = sample.load_target().convert("RGB")
    mask = Image.fromarray(np.asarray(sample.load_mask()).astype(np.uint8) * 255)
    found = metric.score(pair_of(edited, mask), None)

    judge = RegionEncoder.from_pretrained(tiny_family / "region_encoder").eval()
    pixels = torch.from_numpy(np.array(edited)).permute(2, 0, 1)[None] / 127.5 - 1
    box = grow_box(tightest_box(np.asarray(mask) > 0), 64, 64)
    tower, numbers = judge.tower, judge.pixels

    def tokens(picture):
        mean, std = torch.tensor(numbers.mean), torch.tensor(numbers.std)
        seen = as_input(picture, numbers.size, mean, std)
        hidden = tower.vision_model(pixel_values=seen).last_hidden_state[:, 1:]
        return tower.visual_projection(tower.vision_model.post_layernorm(hidden))

    with torch.no_grad():
        region, whole = tokens(crop(pixels[0], box)[None]), tokens(pixels)
        text = judge.encode_text(["a red ball"])
        near, far = (
            torch.cosine_similarity(judge.fusion(region, around).mean(1), text).item()
            for around in (whole, region)
        )
    assert found == pytest.approx(near - far, abs=1e-6)
    assert abs(found) > 1e-6


def test_a_picture_without_a_text_or_with_an_empty_mask_has_none(metric):
    picture, nothing = Image.new("RGB", (64, 64)), Image.new("L", (64, 64))
    assert metric.score(pair_of(picture, nothing), None) is None
    assert metric.score(pair_of(picture, Image.new("L", (64, 64), 255), text=None), None) is None
    assert metric.score(pair_of(picture, None), None) is None


def test_a_judge_without_a_gated_fusion_is_refused(tiny_family, tmp_path):
    judge = RegionEncoder.from_clip(tiny_family / "clip", gated=False)
    judge.save_pretrained(tmp_path / "judge")
    with pytest.raises(RicError, match="needs a gated fusion"):
        ContextConsistency(tmp_path / "judge", EvalConfig(), CPU)
