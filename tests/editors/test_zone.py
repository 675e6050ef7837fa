"""ZONE's masks against their formulas, and the whole editor on drawn scenes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from small_segmenters import write_sam, write_sam2
from torch.nn import functional
from transformers import Sam2ImageProcessor, Sam2Model, SamImageProcessor, SamModel

from ric.config import EditConfig
from ric.data.sample import samples_of
from ric.editors import zone_masks
from ric.editors.editor import EditRequest
from ric.editors.load import load_editor
from ric.editors.segmenters import Sam
from ric.editors.zone import Zone
from ric.recipes.edit import edit
from ric.settings import resolve_config
from ric.weights.tiny_family import tiny_family

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def zone() -> Callable[..., Zone]:
    """The embedded editor as both branches, with segments of like colour."""

    def make(**settings: object) -> Zone:
        asked = {"data": "scenes:8@64#3", "preset": "tiny", "editor": "zone", "steps": 4}
        config = resolve_config(EditConfig, {**asked, **settings})
        pipeline = tiny_family() / "pipeline"
        return load_editor("zone", pipeline, config, CPU, unet_magicbrush=pipeline)

    return make


def scenes(count: int) -> list[EditRequest]:
    config = resolve_config(EditConfig, {"data": "scenes:8@64#3", "preset": "tiny", "split": "all"})
    samples = list(samples_of(replace(config, limit=count)))
    return [EditRequest(one.id, one.load_source(), one.instruction) for one in samples]


def grey(generator: np.random.Generator, side: int = 64) -> Image.Image:
    levels = generator.integers(0, 256, (side, side), dtype=np.uint8)
    return Image.fromarray(levels).convert("RGB")


def test_the_tokens_difference_is_that_of_the_scaled_maps_without_wrapping():
    start, end = np.array([[4.0, 2.0], [1.0, 0.0]]), np.array([[1.0, 2.0], [0.5, 0.0]])
    expected = [[255 - 127, 0], [0, 0]]  # 127 - 255 and 63 - 63 end at 0
    assert zone_masks.token_difference(start, end).tolist() == expected


def test_the_coarse_mask_is_where_twice_the_enlarged_difference_is_at_most_108():
    difference = np.random.default_rng(3).integers(0, 256, (16, 16), dtype=np.uint8)
    found = zone_masks.coarse_mask(difference, (64, 64))
    enlarged = Image.fromarray(difference).resize((64, 64))  # as Pillow does unless told otherwise
    expected = [
        [min(2 * int(enlarged.getpixel((x, y))), 255) <= 108 for x in range(64)] for y in range(64)
    ]
    assert found.tolist() == expected
    assert 0.05 < found.mean() < 0.95


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


def test_the_segment_that_overlaps_most_with_the_coarse_mask_is_kept():
    source = grey(np.random.default_rng(4))
    # the start token reads the left half hardly more than the end token does
    start, end = np.full((8, 8), 4.0), np.full((8, 8), 1.0)
    end[:, :4] = 4.0
    halves = np.zeros((3, 64, 64), bool)
    halves[0, :, 40:], halves[1, :, :30], halves[2, :20] = True, True, True
    found = zone_masks.localise(source, source, (start, end), lambda image: halves, removes=False)
    coarse = found.coarse
    wanted = [(coarse & one).sum() / (coarse | one).sum() for one in halves]
    assert np.argmax(wanted) == 1
    assert found.iou == pytest.approx(wanted[1])
    assert (found.region == halves[1]).all()
    none = zone_masks.localise(source, source, (start, end), lambda image: halves[:0], removes=True)
    assert none.region is None


@pytest.mark.parametrize(
    ("write", "kind", "reads"),
    [(write_sam, SamModel, SamImageProcessor), (write_sam2, Sam2Model, Sam2ImageProcessor)],
    ids=["SAM", "SAM 2"],
)
def test_sam_s_segments_come_from_transformers_mask_generation(tmp_path, write, kind, reads):
    """A seeded random SAM: each segment is one that the network draws for a point of the grid."""
    folder, image = write(tmp_path), scenes(1)[0].image
    segments = Sam(folder, CPU)(image)
    assert segments.dtype == bool
    assert segments.shape[1:] == (64, 64)
    assert len(segments) > 0
    sam, processor = kind.from_pretrained(folder), reads.from_pretrained(folder)
    steps = (np.arange(32) + 0.5) / 32 * 64
    points = torch.tensor([[x, y] for y in steps for x in steps], dtype=torch.float32)
    with torch.no_grad():
        pixels = processor(image, return_tensors="pt").pixel_values
        drawn = sam(pixel_values=pixels, input_points=points[None, :, None])
    sure = drawn.iou_scores[0] > 0.88
    logits = functional.interpolate(drawn.pred_masks[0], (64, 64), mode="bilinear")[sure]
    for segment in segments:
        assert ((logits > 0).numpy() == segment).all(axis=(1, 2)).any()


def test_zone_edits_with_the_sam_of_a_folder(tmp_path, follow):
    folder = write_sam(tmp_path / "sam")
    settings = {"editor": "zone", "segmenter": str(folder), "save_intermediates": True}
    asked = {"data": "scenes:8@64#3", "preset": "tiny", "split": "all", "limit": 2, "steps": 2}
    run = follow(edit, resolve_config(EditConfig, {**asked, **settings}), tmp_path / "run")
    record = json.loads((run / "run.json").read_text())
    assert record["weights"]["segmenter"]["id"] == str(folder)
    rows = [json.loads(line) for line in (run / "edits.jsonl").read_text().splitlines()]
    failures = run / "failures.jsonl"  # where no segment overlaps with the attention
    assert len(rows) + (len(failures.read_text().splitlines()) if failures.is_file() else 0) == 2
    for row in rows:
        stages = run / "intermediates" / row["id"]
        style = next(stages.glob("*style.png"))
        segments = Sam(folder, CPU)(Image.open(style).convert("RGB"))
        region = np.asarray(Image.open(next(stages.glob("*region.png"))).convert("L")) > 0
        assert (
            any(not (region & ~segment).any() for segment in segments) or row["action"] == "remove"
        )


def test_the_maps_of_the_text_and_of_the_empty_text_differ(zone):
    (request,) = scenes(1)
    maps = []
    for attention in ("text", "null"):
        editor = zone(zone_attention=attention)
        editor.edit([request])
        maps.append(np.asarray(editor.intermediates(request)["start_token"]))
    assert (maps[0] != maps[1]).any()
