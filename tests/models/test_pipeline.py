"""Loading a pipeline folder: what is taken, what is refused, and in which words."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import (
    EulerAncestralDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionInstructPix2PixPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

from ric.errors import RicError
from ric.models.pipeline import encode_prompts, load_pipeline, read_source_channels

CPU = torch.device("cpu")
UNET = "unet/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"


@pytest.fixture
def folder(tiny_family: Path, tmp_path: Path) -> Path:
    """A copy of the tiny pipeline, to be spoilt."""
    return Path(shutil.copytree(tiny_family / "pipeline", tmp_path / "pipeline"))


def refused(folder: Path) -> RicError:
    with pytest.raises(RicError) as caught:
        load_pipeline(folder, CPU)
    return caught.value


def change_index(folder: Path, **entries: object) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, **entries}))


def test_a_pipeline_loads_in_float32_frozen_and_without_a_safety_checker(folder):
    for file in (UNET, VAE, TEXT):
        half = {name: tensor.half() for name, tensor in load_file(folder / file).items()}
        save_file(half, folder / file, metadata={"format": "pt"})
    pipeline = load_pipeline(folder, CPU)
    assert isinstance(pipeline, StableDiffusionInstructPix2PixPipeline)
    assert pipeline.safety_checker is None
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        assert {tensor.dtype for tensor in part.parameters()} == {torch.float32}
    for part in (pipeline.vae, pipeline.text_encoder):
        assert not part.training
        assert not any(tensor.requires_grad for tensor in part.parameters())


def test_a_folder_labelled_as_text_to_image_loads_as_an_editor_with_euler_ancestral(folder):
    change_index(
        folder, _class_name="StableDiffusionPipeline", scheduler=["diffusers", "PNDMScheduler"]
    )
    PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True
    ).save_pretrained(folder / "scheduler")
    pipeline = load_pipeline(folder, CPU)
    assert isinstance(pipeline, StableDiffusionInstructPix2PixPipeline)
    assert isinstance(pipeline.scheduler, EulerAncestralDiscreteScheduler)
    wanted = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    torch.testing.assert_close(pipeline.scheduler.betas, wanted)


def test_a_folder_labelled_as_an_editor_keeps_its_own_scheduler(folder):
    change_index(folder, scheduler=["diffusers", "PNDMScheduler"])
    PNDMScheduler().save_pretrained(folder / "scheduler")
    assert isinstance(load_pipeline(folder, CPU).scheduler, PNDMScheduler)


def test_a_folder_without_model_index_is_no_pipeline(tmp_path):
    error = refused(tmp_path)
    assert error.message == f"{tmp_path} is not a diffusers pipeline: it has no model_index.json."
    assert "train-unet run" in error.hint


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "Cannot read "), ("[]", " does not hold a JSON object"), ("{}", " is not a pipeline's")],
)
def test_a_model_index_of_something_else_is_refused(folder, text, words):
    (folder / "model_index.json").write_text(text)
    message = refused(folder).message
    assert words in message
    assert f"{folder}/model_index.json" in message


@pytest.mark.parametrize("part", ["vae", "unet", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_part_is_named(folder, part):
    shutil.rmtree(folder / part)
    assert refused(folder).message == f"The pipeline in {folder} has no folder {part}."


@pytest.mark.parametrize("most", [None, 10**30, 1, 4096])
def test_a_tokenizer_that_cuts_texts_elsewhere_than_its_text_encoder_is_refused(folder, most):
    file = folder / "tokenizer" / "tokenizer_config.json"
    told = json.loads(file.read_text()) | {"model_max_length": most}
    file.write_text(json.dumps({key: value for key, value in told.items() if value is not None}))
    assert "the tokenizer cuts texts at" in refused(folder).message


class _Trap:
    """Its pickle makes a file when it is loaded."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.sprung),)


@pytest.mark.parametrize(
    ("file", "pickle_name"),
    [
        (UNET, "diffusion_pytorch_model.bin"),
        (VAE, "diffusion_pytorch_model.bin"),
        (TEXT, "pytorch_model.bin"),
    ],
)
def test_a_part_that_comes_only_as_a_pickle_is_refused_and_the_pickle_never_opened(
    folder, tmp_path, file, pickle_name
):
    (folder / file).unlink()
    torch.save({"weight": _Trap(tmp_path / "sprung")}, (folder / file).with_name(pickle_name))
    error = refused(folder)
    place = (folder / file).parent
    assert error.message.startswith(f"{place} holds its weights as a pickle ({pickle_name})")
    assert error.hint.endswith(f"ric weights convert {folder} NEW_FOLDER")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("file", [UNET, VAE, TEXT])
def test_truncated_weights_are_refused(folder, file):
    data = (folder / file).read_bytes()
    (folder / file).write_bytes(data[: len(data) // 2])
    assert refused(folder).message.startswith(f"{folder / file} cannot be used: truncated: ")


@pytest.mark.parametrize("file", [UNET, VAE, TEXT])
def test_weights_that_lack_a_tensor_are_refused_and_never_left_random(folder, file):
    tensors = load_file(folder / file)
    del tensors[sorted(tensors)[0]]
    save_file(tensors, folder / file, metadata={"format": "pt"})
    assert " lacks 1 of its weights, such as " in refused(folder).message


def test_code_that_comes_with_a_pipeline_is_never_run(folder, tmp_path):
    change_index(folder, unet=["my_unet", "MyUNet"])
    sprung = tmp_path / "sprung"
    (folder / "unet/my_unet.py").write_text(f"import os\nos.mkdir({str(sprung)!r})\n")
    assert "custom code" in refused(folder).message
    assert not sprung.exists()


def test_a_text_encoder_of_another_width_than_the_unet_reads_is_refused(folder):
    config = CLIPTextConfig.from_pretrained(folder / "text_encoder")
    config.hidden_size, config.num_attention_heads = 32, 2
    shutil.rmtree(folder / "text_encoder")
    CLIPTextModel(config).save_pretrained(folder / "text_encoder")
    message = refused(folder).message
    assert message == f"{folder}: the text encoder is 32 wide, the UNet reads 64."


def test_a_unet_that_predicts_other_channels_than_the_vae_has_is_refused(folder):
    config = UNet2DConditionModel.load_config(folder / "unet")
    unet = UNet2DConditionModel.from_config({**config, "in_channels": 6, "out_channels": 3})
    unet.save_pretrained(folder / "unet")
    message = refused(folder).message
    assert message == f"{folder}: the VAE has 4 latent channels, the UNet predicts 3."


def test_prompts_are_embedded_as_diffusers_embeds_them(tiny_family):
    pipeline = load_pipeline(tiny_family / "pipeline", CPU)
    texts = ["make the ball red", "", "a tree " * 60]
    wanted = pipeline._encode_prompt(texts, CPU, 1, do_classifier_free_guidance=False)
    assert encode_prompts(pipeline, texts).shape == (3, 77, 64)
    torch.testing.assert_close(encode_prompts(pipeline, texts), wanted)


# --- choice 10 -----------------------------------------------------------------------------------


def test_a_widened_unet_predicts_what_the_old_one_did_whatever_the_source(tiny_family):
    unet = load_pipeline(tiny_family / "text_to_image", CPU).unet.eval()
    generator = torch.Generator().manual_seed(0)
    noisy = torch.randn(2, 4, 16, 16, generator=generator)
    source = torch.randn(2, 4, 16, 16, generator=generator)
    text = torch.randn(2, 77, 64, generator=generator)
    bias = unet.conv_in.bias.clone()
    with torch.no_grad():
        wanted = unet(noisy, 7, encoder_hidden_states=text).sample
        read_source_channels(unet)
        got = unet(torch.cat([noisy, source], dim=1), 7, encoder_hidden_states=text).sample
    # a convolution of eight channels adds up in another order than one of four
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-5)
    torch.testing.assert_close(unet.conv_in.bias, bias)
    assert unet.config.in_channels == 8
    assert all(tensor.requires_grad for tensor in unet.conv_in.parameters())


def test_a_unet_that_reads_a_source_stays_as_it_is(tiny_family):
    unet = load_pipeline(tiny_family / "pipeline", CPU).unet
    conv = unet.conv_in
    read_source_channels(unet)
    assert unet.conv_in is conv


def test_a_unet_of_neither_4_nor_8_channels_is_no_base(tiny_family):
    config = UNet2DConditionModel.load_config(tiny_family / "pipeline/unet")
    unet = UNet2DConditionModel.from_config({**config, "in_channels": 9})
    with pytest.raises(RicError, match="reads 9 channels; 4 or 8 were expected") as caught:
        read_source_channels(unet)
    assert "Inpainting" in caught.value.hint
