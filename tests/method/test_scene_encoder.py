from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import AutoTokenizer, BlipForImageTextRetrieval

from ric.errors import RicError
from ric.method.judge_pixels import CLIP_MEAN, CLIP_STD
from ric.method.scene_encoder import SceneEncoder

TEXTS = ["a red ball on the grass", "two dogs near a house"]


@pytest.fixture
def images(draw: torch.Generator) -> torch.Tensor:
    return torch.rand(2, 3, 96, 96, generator=draw) * 2 - 1


@pytest.fixture
def blip_copy(tiny_family: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_family / "scene_encoder" / "blip", tmp_path / "blip"))


@torch.no_grad()
def test_embeddings_are_those_of_blips_contrastive_head(scene_encoder, images, tiny_family):
    folder = tiny_family / "scene_encoder" / "blip"
    blip = BlipForImageTextRetrieval.from_pretrained(folder).eval()
    resized = functional.interpolate(images, (64, 64), mode="bicubic", antialias=True)
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (CLIP_MEAN, CLIP_STD))
    pixels = ((resized.clamp(-1, 1) + 1) / 2 - mean) / std
    inputs = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    e_f, e_tf = scene_encoder.encode_image(images), scene_encoder.encode_text(TEXTS)
    hidden = blip.vision_model(pixels).last_hidden_state
    torch.testing.assert_close(e_f, blip.vision_proj(hidden[:, 0]))
    # what BLIP itself scores pairs by
    scores = blip(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        pixel_values=pixels,
        use_itm_head=False,
    ).itm_score
    ours = functional.normalize(e_f, dim=-1) @ functional.normalize(e_tf, dim=-1).T
    torch.testing.assert_close(ours, scores)
    assert e_f.shape == e_tf.shape == (2, scene_encoder.width)


@torch.no_grad()
def test_a_long_paragraph_keeps_its_end_token_and_is_counted(tiny_family):
    encoder = SceneEncoder.from_blip(tiny_family / "scene_encoder" / "blip", max_text_tokens=40)
    first, second = "red ball " * 60, "blue cube " * 60
    ids = encoder.tokenize([first, second, "a dog"])["input_ids"]
    assert ids.shape == (3, 40)
    assert ids[0, -1] == ids[1, -1] == encoder.tokenizer.sep_token_id
    assert encoder.truncated_texts == 2
    one, other = encoder.encode_text([first, second])
    assert not torch.allclose(one, other)


@torch.no_grad()
def test_five_hundred_words_are_read_to_the_end(scene_encoder):
    words = ["red ball"] * 254
    assert scene_encoder.tokenize([" ".join(words)])["input_ids"].shape[1] == 510
    one, other = scene_encoder.encode_text([" ".join(words), " ".join([*words[:-1], "blue ball"])])
    assert scene_encoder.truncated_texts == 0
    assert not torch.equal(one, other)


def test_more_tokens_than_positions_are_never_read(tiny_family):
    encoder = SceneEncoder.from_blip(tiny_family / "scene_encoder" / "blip", max_text_tokens=9999)
    assert encoder.max_text_tokens == 512


def test_room_for_no_word_is_refused(tiny_family):
    with pytest.raises(RicError, match="max_text_tokens is 2; a text needs 3 or more"):
        SceneEncoder.from_blip(tiny_family / "scene_encoder" / "blip", max_text_tokens=2)


def test_only_the_contrastive_path_is_trained(scene_encoder, images):
    e_f, e_tf = scene_encoder.encode_image(images), scene_encoder.encode_text(TEXTS)
    (e_f * e_tf / scene_encoder.temperature).sum().backward()
    trained = [*scene_encoder.backbone_parameters(), scene_encoder.logit_scale]
    assert all(p.requires_grad and p.grad is not None for p in trained)
    others = {n for n, p in scene_encoder.named_parameters() if not p.requires_grad}
    assert others
    assert all("itm_head" in name or "crossattention" in name for name in others)
    scene_encoder.freeze_backbone(True)
    training = [p for p in scene_encoder.parameters() if p.requires_grad]
    assert len(training) == 1
    assert training[0] is scene_encoder.logit_scale


def test_the_folder_says_what_it_is(tiny_family, tmp_path):
    encoder = SceneEncoder.from_blip(tiny_family / "scene_encoder" / "blip", max_text_tokens=40)
    encoder.save_pretrained(tmp_path / "scene_encoder")
    settings = json.loads((tmp_path / "scene_encoder" / "scene_encoder.json").read_text())
    vocabulary = encoder.tower.config.text_config.vocab_size
    assert settings == {
        "schema": 1, "max_text_tokens": 40, "width": 64, "image_size": 64, "patch_size": 8,
        "vocabulary": vocabulary,
    }  # fmt: skip
    assert SceneEncoder.from_pretrained(tmp_path / "scene_encoder").max_text_tokens == 40
    for path in tmp_path.rglob("*.json"):
        assert str(tiny_family) not in path.read_text(), path


def test_numbers_in_a_processors_combined_file_are_used(blip_copy, tiny_family):
    (blip_copy / "preprocessor_config.json").unlink()
    path = blip_copy / "processor_config.json"
    processor = json.loads((tiny_family / "captioner" / "processor_config.json").read_text())
    processor["image_processor"]["image_mean"] = [0.1, 0.2, 0.3]
    path.write_text(json.dumps(processor))
    assert SceneEncoder.from_blip(blip_copy).pixels.mean == (0.1, 0.2, 0.3)


def test_a_blip_without_its_matching_head_will_do(blip_copy):
    weights = load_file(blip_copy / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "itm_head" not in name}
    save_file(kept, blip_copy / "model.safetensors", {"format": "pt"})
    SceneEncoder.from_blip(blip_copy)
    del kept["text_proj.weight"]
    save_file(kept, blip_copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(RicError, match=r"lacks 1 of its weights.*text_proj.weight"):
        SceneEncoder.from_blip(blip_copy)


def test_half_precision_files_are_loaded_as_float32(blip_copy):
    weights = load_file(blip_copy / "model.safetensors")
    halves = {name: tensor.half() for name, tensor in weights.items()}
    save_file(halves, blip_copy / "model.safetensors", {"format": "pt"})
    encoder = SceneEncoder.from_blip(blip_copy)
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}


def test_a_run_of_the_other_kind_is_named(region_encoder, tmp_path):
    region_encoder.save_pretrained(tmp_path / "region_encoder")
    with pytest.raises(
        RicError, match=r"holds no scene_encoder \(no scene_encoder.json\)"
    ) as caught:
        SceneEncoder.from_pretrained(tmp_path)
    assert "Give a run of ric fit-blip" in caught.value.hint


def test_a_captioner_is_no_judge(tiny_family):
    with pytest.raises(RicError, match=r"captioner lacks .* of its weights"):
        SceneEncoder.from_blip(tiny_family / "captioner")
