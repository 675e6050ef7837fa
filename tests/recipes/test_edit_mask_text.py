"""`ric edit --mask-text`: what is edited is found by CLIPSeg, or by a detector with a SAM."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_requests import draw
from PIL import Image
from small_detectors import write_grounding_dino
from small_segmenters import write_clipseg, write_sam2
from torch.nn import functional
from transformers import AutoImageProcessor, AutoTokenizer, CLIPSegForImageSegmentation

from ric.config import EditConfig
from ric.editors.text_masks import ClipsegMasks, load_finder
from ric.errors import RicError
from ric.models.table import models_of
from ric.preflight.checks import find_problems
from ric.recipes.edit import edit
from ric.settings import resolve_config

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def clipseg(tiny_family: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = tiny_family / "region_encoder" / "clip"
    return write_clipseg(tmp_path_factory.mktemp("clipseg"), words)


def shown(folder: Path, image: Image.Image, text: str) -> np.ndarray:
    """Compute the probability of each pixel of the network's own square, (64, 64)."""
    words = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    pixels = AutoImageProcessor.from_pretrained(folder)(image, return_tensors="pt").pixel_values
    assert pixels.shape == (1, 3, 64, 64)
    with torch.no_grad():
        network = CLIPSegForImageSegmentation.from_pretrained(folder)
        return network(pixel_values=pixels, **words).logits.sigmoid().reshape(64, 64).numpy()


@pytest.mark.parametrize("size", [(64, 64), (150, 40), (7, 300)])
def test_a_mask_is_where_the_network_gives_the_text_half_a_chance_at_any_size(clipseg, size):
    image = draw(*size)
    found = ClipsegMasks(clipseg, "the red ball", CPU)(image)
    assert found.shape == size[::-1]
    small = torch.tensor(shown(clipseg, image, "the red ball"))[None, None]
    wanted = functional.interpolate(
        small, size[::-1], mode="bilinear", align_corners=False, antialias=True
    )[0, 0]
    sure = (wanted - 0.5).abs() > 1e-2
    assert (found == (wanted > 0.5).numpy())[sure.numpy()].all()
    assert 0.02 < found.mean() < 0.98
    assert (found != ClipsegMasks(clipseg, "a blue cube", CPU)(image)).any()


def test_only_what_the_text_names_is_edited_and_the_row_says_so(clipseg, tiny, follow, tmp_path):
    photo = tmp_path / "a.png"
    draw(90, 60).save(photo)
    Image.new("L", (90, 60), 255).save(tmp_path / "a_mask.png")  # not read: the text goes before
    named = {"mask_text": "the red ball", "mask_text_model": str(clipseg)}
    settings = {"instruction": "make it red", "steps": 2, "image_size": 32, **named}
    run = follow(edit, tiny(EditConfig, photo, **settings), tmp_path / "run")
    (row,) = map(json.loads, (run / "edits.jsonl").read_text().splitlines())
    assert (row["mask"], row["mask_file"]) == ("text: the red ball", None)
    before, after = (np.asarray(Image.open(file)) for file in (photo, run / "images" / "a.png"))
    mask = ClipsegMasks(clipseg, "the red ball", CPU)(draw(90, 60))
    assert (before[~mask] == after[~mask]).all()
    assert (before[mask] != after[mask]).any()
    record = json.loads((run / "run.json").read_text())
    assert record["weights"]["text_segmenter"]["id"] == str(clipseg)


def test_where_nothing_is_found_that_photo_fails_and_the_others_go_on(
    clipseg, tiny, follow, tmp_path, monkeypatch
):
    find = ClipsegMasks.__call__
    # the network as it would answer for a picture without the thing
    monkeypatch.setattr(
        ClipsegMasks, "__call__", lambda self, image: find(self, image) & (image.width == 90)
    )
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, width in (("a", 90), ("b", 80)):
        draw(width, 60).save(photos / f"{name}.png")
    named = {"mask_text": "the red ball", "mask_text_model": str(clipseg)}
    settings = {"instruction": "make it red", "steps": 1, "image_size": 32, **named}
    run = follow(edit, tiny(EditConfig, photos, **settings), tmp_path / "run")
    (failure,) = map(json.loads, (run / "failures.jsonl").read_text().splitlines())
    assert failure["id"] == "b"
    assert failure["reason"] == "Nothing in the picture looks like 'the red ball'."
    assert [file.name for file in (run / "images").iterdir()] == ["a.png"]


def test_a_detector_and_a_sam_find_the_mask_and_a_photo_that_they_cannot_read_fails_alone(
    tiny, follow, tmp_path
):
    boxes, sam = write_grounding_dino(tmp_path / "boxes"), write_sam2(tmp_path / "sam")
    photos = tmp_path / "photos"
    photos.mkdir()
    draw(90, 60).save(photos / "a.png")
    draw(1, 400).save(photos / "b.png")  # at the network's longest side it has no width
    named = {"mask_text": "The red ball", "mask_text_model": str(boxes), "mask_text_sam": str(sam)}
    settings = {"instruction": "make it red", "steps": 2, "image_size": 32, **named}
    run = follow(edit, tiny(EditConfig, photos, **settings), tmp_path / "run")
    (row,) = map(json.loads, (run / "edits.jsonl").read_text().splitlines())
    assert (row["id"], row["mask"]) == ("a", "text: The red ball")
    assert (row["mask_text_model"], row["mask_text_sam"]) == (boxes.name, sam.name)
    before, after = (np.asarray(Image.open(at)) for at in (photos / "a.png", run / "images/a.png"))
    mask = load_finder(boxes, sam, "The red ball", CPU)(draw(90, 60))
    assert (before[~mask] == after[~mask]).all()
    assert (before[mask] != after[mask]).any()
    (failure,) = map(json.loads, (run / "failures.jsonl").read_text().splitlines())
    assert failure["id"] == "b"
    assert failure["reason"].startswith("--mask-text could not look at it: ")
    weights = json.loads((run / "run.json").read_text())["weights"]
    assert weights["text_segmenter"]["id"] == str(boxes)
    assert weights["text_segmenter_sam"]["id"] == str(sam)


def test_the_model_is_known_before_anything_is_loaded(clipseg, tmp_path, monkeypatch):
    draw().save(tmp_path / "a.png")

    def config(**settings: object) -> EditConfig:
        asked = {"data": str(tmp_path / "a.png"), "instruction": "x", "preset": "tiny"}
        return resolve_config(EditConfig, {**asked, **settings})

    def used(**settings: object) -> set[str]:
        return {model.row.setting for model in models_of(config(**settings))}

    assert used().isdisjoint({"mask_text_model", "mask_text_sam"})
    assert "mask_text_sam" not in used(mask_text="the dress")
    sam = {"mask_text_sam": "facebook/sam-vit-base"}
    assert {"mask_text_model", "mask_text_sam"} < used(mask_text="the dress", **sam)
    there = config(mask_text="the dress", mask_text_model=str(clipseg))
    assert find_problems(there, tmp_path) == []
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (problem,) = find_problems(config(mask_text="the dress"), tmp_path)
    assert "CIDAS/clipseg-rd64-refined (about 603 MB), which ric edit needs" in str(problem)


def test_what_would_do_nothing_or_is_no_such_model_is_refused(clipseg, tiny_family):
    def refused(**settings: object) -> str:
        with pytest.raises(RicError) as caught:
            resolve_config(EditConfig, {"data": "a.png", "instruction": "x", **settings})
        return caught.value.message

    assert "--mask names others" in refused(mask_text="the dress", mask="data")
    assert "is that of --mask-text" in refused(mask_text_model=str(clipseg))
    assert "--mask-text-sam is that of --mask-text" in refused(mask_text_sam=str(clipseg))
    assert "--mask-text-sam is empty" in refused(mask_text="the dress", mask_text_sam=" ")
    with pytest.raises(RicError, match=r"--mask-text has \d+ tokens, and the model reads"):
        ClipsegMasks(clipseg, "the dress " * 40, CPU)
    with pytest.raises(RicError, match="CLIPSegForImageSegmentation in"):
        ClipsegMasks(tiny_family / "captioner", "the dress", CPU)
