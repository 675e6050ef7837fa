"""ZONE's masks against their formulas, and the whole editor on drawn scenes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from ric.config import EditConfig
from ric.data.sample import samples_of
from ric.editors import zone_masks
from ric.editors.editor import EditRequest
from ric.editors.load import load_editor
from ric.editors.zone import Zone
from ric.settings import resolve_config
from ric.weights.tiny_family import tiny_family


@pytest.fixture(scope="module")
def zone() -> Callable[..., Zone]:
    """The embedded editor as both branches, with segments of like colour."""
    import torch

    def make(**settings: object) -> Zone:
        asked = {"data": "scenes:8@64#3", "preset": "tiny", "editor": "zone", "steps": 4}
        config = resolve_config(EditConfig, {**asked, **settings})
        pipeline = tiny_family() / "pipeline"
        return load_editor("zone", pipeline, config, torch.device("cpu"), unet_magicbrush=pipeline)

    return make


def scenes(count: int) -> list[EditRequest]:
    config = resolve_config(EditConfig, {"data": "scenes:8@64#3", "preset": "tiny", "split": "all"})
    samples = list(samples_of(config, limit=count))
    return [EditRequest(one.id, one.load_source(), one.instruction) for one in samples]


def grey(generator: np.random.Generator, side: int = 64) -> Image.Image:
    levels = generator.integers(0, 256, (side, side), dtype=np.uint8)
    return Image.fromarray(levels).convert("RGB")


def test_the_tokens_difference_is_that_of_the_scaled_maps_without_wrapping():
    start, end = np.array([[4.0, 2.0], [1.0, 0.0]]), np.array([[1.0, 2.0], [0.5, 0.0]])
    expected = [[255 - 127, 0], [0, 0]]  # 127 - 255 and 63 - 63 end at 0
    assert zone_masks.token_difference(start, end).tolist() == expected


def test_overlaps_are_intersection_over_union():
    generator = np.random.default_rng(0)
    mask, segments = generator.random((9, 7)) < 0.4, generator.random((5, 9, 7)) < 0.3
    for found, segment in zip(zone_masks.overlaps(mask, segments), segments, strict=True):
        one, other = (
            set(zip(*mask.nonzero(), strict=True)),
            set(zip(*segment.nonzero(), strict=True)),
        )
        assert found == pytest.approx(len(one & other) / len(one | other))


def test_the_smoothed_difference_is_that_of_two_low_passed_pictures():
    generator = np.random.default_rng(1)
    source, edited = grey(generator), grey(generator)
    within = generator.random((64, 64)) < 0.8

    def low_passed(image: Image.Image) -> np.ndarray:
        spectrum = np.fft.fftshift(np.fft.fft2(np.asarray(image.convert("L"), float) * within))
        rows, columns = np.indices(spectrum.shape) - 32
        spectrum[rows**2 + columns**2 > (200 * 64 / 512) ** 2] = 0
        return np.fft.ifft2(np.fft.ifftshift(spectrum))

    expected = np.abs(low_passed(edited) - low_passed(source))
    found = zone_masks.low_pass_difference(source, edited, within)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_a_composite_is_the_mean_by_shares_and_leaves_the_rest_to_the_bit():
    generator = np.random.default_rng(2)
    source, edited = grey(generator), grey(generator)
    region, edges = np.zeros((64, 64), bool), np.zeros((64, 64), bool)
    region[10:20, 10:20] = edges[8:18, 8:18] = True
    shares = zone_masks.shares_of_edit(region, edges)
    made = np.asarray(zone_masks.composite(source, edited, shares), int)
    own, other = np.asarray(source, int), np.asarray(edited, int)
    both = region & edges
    assert (made[both] == other[both]).all()
    blend = edges & ~region
    assert np.abs(made[blend] - (0.4 * own[blend] + 0.6 * other[blend])).max() <= 0.5
    assert (made[~edges] == own[~edges]).all()


def test_only_the_region_of_an_edit_differs_from_its_source(zone):
    requests, editor = scenes(3), zone()
    for request, made in zip(requests, editor.edit(requests), strict=True):
        assert isinstance(made, Image.Image)
        stages = editor.intermediates(request)
        within = np.asarray(stages["shares"].convert("L")) > 0
        differs = (np.asarray(made) != np.asarray(request.image)).any(axis=-1)
        assert not (differs & ~within).any()


def test_the_maps_of_the_text_and_of_the_empty_text_differ(zone):
    (request,) = scenes(1)
    maps = []
    for attention in ("text", "null"):
        editor = zone(zone_attention=attention)
        editor.edit([request])
        maps.append(np.asarray(editor.intermediates(request)["start_token"]))
    assert (maps[0] != maps[1]).any()
