"""Masks of a text by SAM 3, and by GroundingDINO with a SAM, beside transformers' own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_requests import draw
from small_detectors import write_grounding_dino, write_sam3, write_sam3_as_released
from small_segmenters import write_clipseg, write_sam, write_sam2
from transformers import (
    GroundingDinoForObjectDetection,
    GroundingDinoProcessor,
    MMGroundingDinoForObjectDetection,
    Sam2Model,
    Sam2Processor,
    Sam3Model,
    Sam3Processor,
    SamModel,
    SamProcessor,
)

from ric.config import EditConfig
from ric.editors.text_masks import load_finder
from ric.errors import RicError
from ric.preflight.pipelines import refuse_other_finders
from ric.settings import resolve_config

CPU = torch.device("cpu")
SIZES = [(64, 64), (150, 40), (7, 300)]
Models = dict[str, Path]


@pytest.fixture(scope="module")
def models(tiny_family: Path, tmp_path_factory: pytest.TempPathFactory) -> Models:
    room, words = tmp_path_factory.mktemp("models"), tiny_family / "region_encoder" / "clip"
    sam3 = write_sam3(room / "sam3", words)
    return {
        "clipseg": write_clipseg(room / "clipseg", words),
        "sam3": sam3,
        "sam3_video": write_sam3_as_released(room / "sam3_video", sam3),
        "grounding-dino": write_grounding_dino(room / "grounding-dino"),
        "mm-grounding-dino": write_grounding_dino(room / "mm-grounding-dino", mm=True),
        "sam": write_sam(room / "sam"),
        "sam2": write_sam2(room / "sam2"),
    }


def found(models: Models, name: str, text: str, size: tuple[int, int], sam: str = "") -> np.ndarray:
    mask = load_finder(models[name], models.get(sam), text, CPU)(draw(*size))
    assert mask.shape == size[::-1]
    assert mask.dtype == bool
    return mask


@pytest.mark.parametrize("size", SIZES)
def test_sam_3_unites_the_masks_of_all_things_that_it_finds(models, size):
    processor = Sam3Processor.from_pretrained(models["sam3"])
    inputs = processor(images=draw(*size), text="the red ball", return_tensors="pt")
    with torch.no_grad():
        outputs = Sam3Model.from_pretrained(models["sam3"])(**inputs)
    (things,) = processor.post_process_instance_segmentation(outputs, target_sizes=[size[::-1]])
    assert 2 < len(things["masks"]) < 12
    wanted = things["masks"].any(0).numpy()
    assert 0.1 < wanted.mean() < 0.9
    assert (found(models, "sam3", "the red ball", size) == wanted).all()
    assert (found(models, "sam3_video", "the red ball", size) == wanted).all()
    assert (found(models, "sam3", "a blue cube", size) != wanted).any()


def boxes_of(models: Models, name: str, text: str, size: tuple[int, int]) -> torch.Tensor:
    """Compute a GroundingDINO's boxes of a score above one quarter, in pixels, (N, 4)."""
    kinds = {
        "grounding-dino": GroundingDinoForObjectDetection,
        "mm-grounding-dino": MMGroundingDinoForObjectDetection,
    }
    processor = GroundingDinoProcessor.from_pretrained(models[name])
    inputs = processor(images=draw(*size), text=text, return_tensors="pt")
    with torch.no_grad():
        outputs = kinds[name].from_pretrained(models[name])(**inputs)
    scores = outputs.logits[0].sigmoid().max(-1).values
    x, y, width, height = outputs.pred_boxes[0][scores > 0.25].T
    corners = torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], -1)
    assert 0 < len(corners) < len(scores)
    return corners * torch.tensor([*size, *size])


def logits_in(models: Models, sam: str, boxes: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
    """Compute a SAM's logits of boxes, asked for all at once, (N, H, W)."""
    network, processor = {"sam": (SamModel, SamProcessor), "sam2": (Sam2Model, Sam2Processor)}[sam]
    processor = processor.from_pretrained(models[sam])
    inputs = processor(draw(*size), input_boxes=[boxes.tolist()], return_tensors="pt")
    sizes = [inputs[key] for key in ("original_sizes", "reshaped_input_sizes") if key in inputs]
    inputs["input_boxes"] = inputs["input_boxes"].float()
    with torch.no_grad():
        made = network.from_pretrained(models[sam])(**inputs, multimask_output=False)
    (logits,) = processor.post_process_masks(made.pred_masks, *sizes, binarize=False)
    return logits[:, 0].numpy()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("name", "sam"), [("grounding-dino", "sam"), ("mm-grounding-dino", "sam2")]
)
def test_a_sam_fills_the_boxes_that_a_grounding_dino_finds(models, name, sam, size):
    boxes = boxes_of(models, name, "the red ball.", size)
    highest = logits_in(models, sam, boxes, size).max(0)
    size_of = np.abs(highest)  # where GELU cuts all channels off, it is 0 to the bit
    sure = (size_of > 1e-3 * size_of.max()) | (size_of == 0)
    mask = found(models, name, "the red ball", size, sam)
    assert sure.mean() > 0.9
    assert (mask == (highest > 0))[sure].all()
    assert 0.02 < mask.mean() < 0.98


@pytest.mark.parametrize("name", ["grounding-dino", "mm-grounding-dino"])
def test_a_grounding_dino_reads_lower_case_with_a_dot_at_its_end(models, name):
    size = (150, 40)
    plain = found(models, name, "the red ball.", size, "sam")
    assert (found(models, name, " The Red Ball ", size, "sam") == plain).all()
    assert (found(models, name, "a blue cube", size, "sam") != plain).any()


@pytest.mark.parametrize("name", ["sam3", "grounding-dino"])
def test_a_mask_is_empty_where_no_score_is_high_enough(models, name, monkeypatch):
    monkeypatch.setattr("ric.editors.detected_masks.SCORE", 1.0)
    monkeypatch.setattr("ric.editors.detected_masks.BOX_SCORE", 1.0)
    sam = "sam" if name == "grounding-dino" else ""
    assert not found(models, name, "the red ball", (64, 64), sam).any()


def refused(models: Models, name: str, sam: str = "", text: str = "the red ball") -> RicError:
    with pytest.raises(RicError) as caught:
        load_finder(models[name], models.get(sam), text, CPU)
    assert "\n" not in caught.value.message
    return caught.value


@pytest.mark.parametrize("name", ["grounding-dino", "mm-grounding-dino"])
def test_boxes_alone_are_refused_with_the_name_of_a_sam(models, name):
    error = refused(models, name)
    assert f"({name}), and a SAM is to find the masks" in error.message
    assert error.hint == "Name one: --mask-text-sam facebook/sam-vit-base"


@pytest.mark.parametrize("name", ["clipseg", "sam3", "sam3_video"])
def test_a_sam_beside_a_model_that_makes_masks_itself_is_refused(models, name):
    assert f"makes masks itself ({name})" in refused(models, name, "sam").message


def test_a_dry_run_says_the_same_before_anything_is_loaded(models, tmp_path):
    def config(name: str, sam: str = "") -> EditConfig:
        folders = {"mask_text_model": str(models[name])}
        folders |= {"mask_text_sam": str(models[sam])} if sam else {}
        flags = {"data": "photos", "instruction": "x", "mask_text": "the red ball", **folders}
        return resolve_config(EditConfig, flags)

    for name, sam in (("grounding-dino", ""), ("clipseg", "sam"), ("sam", "")):
        with pytest.raises(RicError) as caught:
            refuse_other_finders(config(name, sam), tmp_path)
        assert caught.value.message == refused(models, name, sam).message
    refuse_other_finders(config("grounding-dino", "sam"), tmp_path)
    refuse_other_finders(config("sam3"), tmp_path)


def test_a_model_of_another_kind_is_refused_with_those_that_it_may_be(models):
    error = refused(models, "sam")
    assert "is a model of type 'sam', which finds nothing by a text." in error.message
    assert error.hint is not None
    for kind in ("CLIPSeg", "SAM 3", "GroundingDINO", "MM Grounding DINO"):
        assert kind in error.hint
    error = refused(models, "grounding-dino", "clipseg")
    assert "is a model of type 'clipseg', which makes no masks from boxes." in error.message


@pytest.mark.parametrize(
    ("name", "sam"), [("clipseg", ""), ("sam3", ""), ("grounding-dino", "sam")]
)
def test_a_text_that_would_not_be_read_whole_is_refused(models, name, sam):
    assert "--mask-text has " in refused(models, name, sam, "the dress " * 40).message


@pytest.mark.parametrize("name", ["sam3", "grounding-dino", "sam"])
def test_weights_that_are_missing_are_not_made_up(models, name, tmp_path):
    for file in models[name].iterdir():
        (tmp_path / file.name).symlink_to(file)
    config = json.loads((models[name] / "config.json").read_text())
    parts = {
        "sam3": ("detr_decoder_config", "num_layers"),
        "grounding-dino": ("text_config", "num_hidden_layers"),
        "sam": ("mask_decoder_config", "num_hidden_layers"),
    }
    part, count = parts[name]
    config[part][count] += 1
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps(config))
    there = {**models, name: tmp_path}
    asked = ("grounding-dino", "sam") if name == "sam" else (name, "sam" * (name != "sam3"))
    error = refused(there, *asked)
    assert f"in {tmp_path} lacks" in error.message
