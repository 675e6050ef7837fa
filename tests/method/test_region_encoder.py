from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

from ric.errors import RicError
from ric.method.judge_pixels import CLIP_MEAN, CLIP_STD
from ric.method.region_encoder import RegionEncoder

BOXES = [(0, 0, 20, 30), (31, 8, 64, 64)]


@pytest.fixture
def images(draw: torch.Generator) -> torch.Tensor:
    return torch.rand(2, 3, 64, 64, generator=draw) * 2 - 1


@pytest.fixture
def clip(tiny_family: Path) -> CLIPModel:
    return CLIPModel.from_pretrained(tiny_family / "clip", dtype=torch.float32).eval()


@pytest.fixture
def clip_copy(tiny_family: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_family / "clip", tmp_path / "clip"))


def pixels_of(region: torch.Tensor, size: int = 64) -> torch.Tensor:
    """Resize (1, 3, h, w) and normalise with OpenAI's numbers, written out."""
    resized = functional.interpolate(region, (size, size), mode="bicubic", antialias=True)
    mean = torch.tensor(CLIP_MEAN).reshape(3, 1, 1)
    std = torch.tensor(CLIP_STD).reshape(3, 1, 1)
    return ((resized.clamp(-1, 1) + 1) / 2 - mean) / std


def patch_tokens(clip: CLIPModel, pixels: torch.Tensor) -> torch.Tensor:
    hidden = clip.vision_model(pixel_values=pixels).last_hidden_state[:, 1:, :]
    return clip.visual_projection(clip.vision_model.post_layernorm(hidden))


@torch.no_grad()
def test_tokens_are_clips_patches_in_the_joint_space(region_encoder, clip, images):
    pixels = region_encoder.image_pixels(images)
    torch.testing.assert_close(pixels, pixels_of(images))
    tokens = region_encoder.tokens(pixels)
    assert tokens.shape == (2, 64, clip.config.projection_dim)
    torch.testing.assert_close(tokens, patch_tokens(clip, pixels_of(images)))


@torch.no_grad()
def test_a_region_is_fused_with_its_own_image_and_averaged(region_encoder, clip, images):
    got = region_encoder.encode_region(images, BOXES)
    for i, (x_min, y_min, x_max, y_max) in enumerate(BOXES):
        image = images[i : i + 1]
        e_r = patch_tokens(clip, pixels_of(image[:, :, y_min:y_max, x_min:x_max]))
        e_f = patch_tokens(clip, pixels_of(image))
        expected = region_encoder.fusion(e_r, e_f).mean(1)[0]
        torch.testing.assert_close(got[i], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("sees", ["crop", "image"])
def test_a_control_fuses_one_stream_with_itself(sees, region_encoder, clip, images, tmp_path):
    control = region_encoder.control(sees)
    boxes = [(0, 0, 30, 40), (10, 20, 50, 60)]
    with torch.no_grad():
        crops = [
            pixels_of(image[None, :, y:b, x:r])
            for image, (x, y, r, b) in zip(images, boxes, strict=True)
        ]
        shown = torch.cat(crops) if sees == "crop" else pixels_of(images)
        tokens = patch_tokens(clip, shown)
        expected = region_encoder.fusion(tokens, tokens).mean(1)
        torch.testing.assert_close(control.encode_region(images, boxes), expected)
        control.save_pretrained(tmp_path)
        again = RegionEncoder.from_pretrained(tmp_path)
        assert torch.equal(again.encode_region(images, boxes), control.encode_region(images, boxes))
    # the tower is shared, the fusion is not
    assert control.tower is region_encoder.tower
    control.fusion.project.bias.data.add_(1)
    assert not torch.equal(control.fusion.project.bias, region_encoder.fusion.project.bias)


def test_without_gated_fusion_the_crop_has_clips_own_embedding(region_encoder, clip, images):
    region_encoder.gated = False
    got = region_encoder.encode_region(images, BOXES)
    for i, (x_min, y_min, x_max, y_max) in enumerate(BOXES):
        region = images[i : i + 1, :, y_min:y_max, x_min:x_max]
        expected = clip.get_image_features(pixel_values=pixels_of(region)).pooler_output[0]
        torch.testing.assert_close(got[i], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_texts_have_clips_own_embedding(region_encoder, clip, tiny_family):
    texts = ["a red ball", "a small green cube beside the table"]
    tokenizer = AutoTokenizer.from_pretrained(tiny_family / "clip")
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    expected = clip.get_text_features(**inputs).pooler_output
    torch.testing.assert_close(region_encoder.encode_text(texts), expected)
    assert region_encoder.truncated_texts == 0


@torch.no_grad()
def test_padding_does_not_change_a_text(region_encoder):
    alone = region_encoder.encode_text(["a red ball"])
    beside = region_encoder.encode_text(["a red ball", "word " * 30])
    torch.testing.assert_close(beside[:1], alone)


@torch.no_grad()
def test_long_texts_are_cut_before_their_end_token_and_counted(region_encoder):
    first, second = "red ball " * 60, "blue cube " * 60
    ids = region_encoder.tokenize([first, second, "a dog"])["input_ids"]
    assert ids.shape == (3, 77)
    end = region_encoder.tokenizer.eos_token_id
    assert ids[0, -1] == ids[1, -1] == end
    assert (ids[:2] == end).sum() == 2
    assert region_encoder.truncated_texts == 2
    # cut texts still differ from each other, and are what their first 75 tokens say
    one, other = region_encoder.encode_text([first, second])
    assert not torch.allclose(one, other)
    torch.testing.assert_close(region_encoder.encode_text([first + "and more"])[0], one)


def test_a_closed_gate_confines_the_gradient_to_the_box(region_encoder, images):
    with torch.no_grad():
        region_encoder.fusion.gate.bias.fill_(-torch.inf)
    images.requires_grad_()
    e_tr = region_encoder.encode_text(["a red ball"] * 2).detach()
    f_r = region_encoder.encode_region(images, BOXES)
    (1 - functional.cosine_similarity(f_r, e_tr)).sum().backward()
    outside = torch.ones(2, 64, 64, dtype=torch.bool)
    for i, (x_min, y_min, x_max, y_max) in enumerate(BOXES):
        outside[i, y_min:y_max, x_min:x_max] = False
    magnitude = images.grad.abs().sum(1)
    assert torch.all(magnitude[outside] == 0)
    assert torch.all(magnitude[~outside] > 0)


def test_an_open_gate_carries_the_gradient_outside_the_box(region_encoder, images):
    images.requires_grad_()
    region_encoder.encode_region(images, BOXES).sum().backward()
    assert images.grad[0, :, 40:, 40:].abs().min() > 0


def test_boxes_must_match_the_images(region_encoder, images):
    with pytest.raises(RicError, match="2 images came with 1 boxes"):
        region_encoder.encode_region(images, BOXES[:1])


def test_the_fusion_is_seeded_and_leaves_the_global_random_state_alone(tiny_family):
    before = torch.random.get_rng_state()
    one, same, other = (
        RegionEncoder.from_clip(tiny_family / "clip", seed=seed).fusion.gate.weight
        for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_temperature_starts_where_told_and_stays_above_a_hundredth(tiny_family):
    encoder = RegionEncoder.from_clip(tiny_family / "clip", temperature=0.07)
    assert encoder.temperature.item() == pytest.approx(0.07)
    assert encoder.logit_scale.item() == pytest.approx(math.log(1 / 0.07))
    with torch.no_grad():
        encoder.logit_scale.fill_(9.0)
    assert encoder.temperature.item() == pytest.approx(0.01)
    # held at the bound, it can still come back
    encoder.temperature.backward()
    assert encoder.logit_scale.grad != 0


def test_a_temperature_of_zero_is_refused(tiny_family):
    with pytest.raises(RicError, match=r"temperature is 0\.0, which must be greater than 0"):
        RegionEncoder.from_clip(tiny_family / "clip", temperature=0.0)


def test_phase_1_trains_the_fusion_and_the_temperature_alone(region_encoder):
    region_encoder.freeze_backbone(True)
    training = {name for name, p in region_encoder.named_parameters() if p.requires_grad}
    assert training == {"logit_scale"} | {
        name for name, _ in region_encoder.named_parameters() if name.startswith("fusion.")
    }
    assert {id(p) for p in region_encoder.fusion_parameters()} == {
        id(p) for p in region_encoder.parameters() if p.requires_grad
    }


def test_phase_2_gives_every_trained_parameter_a_gradient(region_encoder, images):
    region_encoder.freeze_backbone(False)
    f_r = region_encoder.encode_region(images, BOXES)
    e_tr = region_encoder.encode_text(["a red ball", "a dog"])
    (f_r * e_tr / region_encoder.temperature).sum().backward()
    trained = [*region_encoder.backbone_parameters(), *region_encoder.fusion_parameters()]
    assert all(p.requires_grad and p.grad is not None for p in trained)
    # CLIP's own logit scale lies outside the contrastive path
    left = {n for n, p in region_encoder.named_parameters() if not p.requires_grad}
    assert left == {"tower.logit_scale"}


def test_without_gated_fusion_phase_1_has_the_temperature_only(region_encoder):
    region_encoder.gated = False
    assert list(region_encoder.fusion_parameters()) == [region_encoder.logit_scale]


# --- on disk -------------------------------------------------------------------------------------


def test_the_folder_says_what_it_is_and_transformers_opens_it(region_encoder, clip, tmp_path):
    region_encoder.gated = False
    region_encoder.save_pretrained(tmp_path / "region_encoder")
    settings = json.loads((tmp_path / "region_encoder" / "region_encoder.json").read_text())
    assert settings == {
        "schema": 1, "gated": False, "sees": "both", "num_heads": 8, "width": 64,
        "image_size": 64, "patch_size": 8, "vocabulary": clip.config.text_config.vocab_size,
    }  # fmt: skip
    assert RegionEncoder.from_pretrained(tmp_path / "region_encoder").gated is False
    again = CLIPModel.from_pretrained(tmp_path / "region_encoder" / "clip")
    assert all(
        torch.equal(a, b) for a, b in zip(again.parameters(), clip.parameters(), strict=True)
    )
    processor = AutoImageProcessor.from_pretrained(tmp_path / "region_encoder" / "clip")
    assert tuple(processor.image_mean) == CLIP_MEAN
    assert not list(tmp_path.rglob("*.bin"))


def test_nothing_in_the_folder_names_where_it_came_from(region_encoder, tiny_family, tmp_path):
    region_encoder.save_pretrained(tmp_path / "region_encoder")
    for path in tmp_path.rglob("*.json"):
        assert str(tiny_family) not in path.read_text(), path


def test_half_precision_files_are_loaded_as_float32(clip_copy):
    weights = load_file(clip_copy / "model.safetensors")
    halves = {name: tensor.half() for name, tensor in weights.items()}
    save_file(halves, clip_copy / "model.safetensors", {"format": "pt"})
    config = json.loads((clip_copy / "config.json").read_text())
    (clip_copy / "config.json").write_text(json.dumps({**config, "dtype": "float16"}))
    encoder = RegionEncoder.from_clip(clip_copy)
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}


def test_other_mean_and_std_beside_the_model_are_used_and_kept(clip_copy, tmp_path):
    numbers = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.25, 0.2]}
    (clip_copy / "preprocessor_config.json").write_text(json.dumps(numbers))
    encoder = RegionEncoder.from_clip(clip_copy)
    pixels = encoder.image_pixels(torch.ones(1, 3, 64, 64))
    torch.testing.assert_close(pixels[0, :, 0, 0], torch.tensor([1.0, 2.4, 3.5]))
    encoder.save_pretrained(tmp_path / "region_encoder")
    assert RegionEncoder.from_pretrained(tmp_path).pixels == encoder.pixels


def test_without_numbers_beside_the_model_openais_are_used(clip_copy):
    for path in clip_copy.glob("*processor_config.json"):
        path.unlink()
    pixels = RegionEncoder.from_clip(clip_copy).pixels
    assert (pixels.size, pixels.mean, pixels.std) == (64, CLIP_MEAN, CLIP_STD)


def test_odd_numbers_beside_the_model_are_refused(clip_copy):
    (clip_copy / "preprocessor_config.json").write_text('{"image_mean": [0.5], "image_std": [1]}')
    with pytest.raises(RicError, match=r"preprocessor_config.json holds image_mean \[0.5\]"):
        RegionEncoder.from_clip(clip_copy)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(RicError, match=r"nowhere does not hold a CLIP model \(no such folder\)"):
        RegionEncoder.from_clip(tmp_path / "nowhere")
    with pytest.raises(RicError, match=r"nowhere holds no region_encoder") as caught:
        RegionEncoder.from_pretrained(tmp_path / "nowhere")
    assert "Give a run of ric fit-clip" in caught.value.hint


def test_another_model_is_refused(tiny_family):
    with pytest.raises(RicError, match="holds a model of type 'blip', not 'clip'"):
        RegionEncoder.from_clip(tiny_family / "scene_encoder" / "blip")


def test_pickled_weights_are_refused_with_the_command_that_converts_them(clip_copy):
    (clip_copy / "model.safetensors").rename(clip_copy / "pytorch_model.bin")
    with pytest.raises(RicError, match=r"its weights as a pickle \(pytorch_model.bin\)") as caught:
        RegionEncoder.from_clip(clip_copy)
    assert "ric weights convert" in caught.value.hint
    (clip_copy / "pytorch_model.bin").unlink()
    with pytest.raises(RicError, match=r"it holds no complete safetensors"):
        RegionEncoder.from_clip(clip_copy)


def test_missing_weights_are_never_made_up(clip_copy):
    weights = load_file(clip_copy / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, clip_copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(RicError, match=r"lacks 1 of its weights, such as visual_proj"):
        RegionEncoder.from_clip(clip_copy)


def test_a_torn_weights_file_is_named(clip_copy):
    path = clip_copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(RicError, match=f"{path} cannot be used: truncated"):
        RegionEncoder.from_clip(clip_copy)


def test_a_folder_without_a_tokenizer_is_named(clip_copy):
    for path in clip_copy.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(RicError, match=r"is incomplete: it lacks tokenizer\.json"):
        RegionEncoder.from_clip(clip_copy)


def test_another_models_tokenizer_is_refused(clip_copy, tiny_family):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_family / "scene_encoder" / "blip" / name, clip_copy / name)
    with pytest.raises(RicError, match="has 236 tokens, its text encoder 752"):
        RegionEncoder.from_clip(clip_copy)


def test_a_tokenizer_whose_end_token_clip_does_not_pool_is_refused(clip_copy):
    config = json.loads((clip_copy / "config.json").read_text())
    config["text_config"]["eos_token_id"] = 5
    (clip_copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(RicError, match="the text tower pools token 5"):
        RegionEncoder.from_clip(clip_copy)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "fusion.safetensors").unlink(), "it lacks fusion.safetensors"),
        (
            lambda f: (f / "fusion.safetensors").write_bytes(b"torn"),
            "fusion.safetensors cannot be used: trunc",
        ),
        (lambda f: save_file({}, f / "fusion.safetensors"), "does not hold its encoder's weights"),
        (lambda f: (f / "region_encoder.json").write_text("[]"), "does not hold a JSON object"),
        (lambda f: (f / "region_encoder.json").write_text("{"), "Cannot read .*region_encoder.j"),
        (lambda f: (f / "region_encoder.json").write_text('{"schema": 2}'), "has schema 2"),
        (lambda f: (f / "region_encoder.json").write_text('{"schema": 1}'), "lacks a sound value"),
        (lambda f: shutil.rmtree(f / "clip"), r"has no folder clip"),
    ],
)
def test_a_damaged_folder_is_named(damage, message, region_encoder, tmp_path):
    region_encoder.save_pretrained(tmp_path / "region_encoder")
    damage(tmp_path / "region_encoder")
    with pytest.raises(RicError, match=message):
        RegionEncoder.from_pretrained(tmp_path)


def test_a_fusion_of_another_width_does_not_fit(region_encoder, tmp_path):
    region_encoder.save_pretrained(tmp_path / "region_encoder")
    path = tmp_path / "region_encoder" / "fusion.safetensors"
    weights = load_file(path)
    weights["fusion.gate.bias"] = torch.zeros(3)
    save_file(weights, path)
    with pytest.raises(RicError, match=r"does not fit its encoder.*fusion.gate.bias"):
        RegionEncoder.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("key", "saved", "words"),
    [
        ("width", 7, "width 7; the model beside it has 64"),
        ("patch_size", 16, "patch size 16; the model beside it has 8"),
        ("image_size", 224, "image size 224; the model beside it has 64"),
        ("vocabulary", 49408, "vocabulary 49408; the model beside it has"),
    ],
)
def test_another_width_patch_grid_or_tokenizer_than_it_was_fitted_with_is_an_error(
    key, saved, words, region_encoder, tmp_path
):
    region_encoder.save_pretrained(tmp_path)
    file = tmp_path / "region_encoder.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps(settings | {key: saved}))
    with pytest.raises(RicError, match=words):
        RegionEncoder.from_pretrained(tmp_path)
    del settings[key]  # as an older version wrote it
    file.write_text(json.dumps(settings))
    RegionEncoder.from_pretrained(tmp_path)
