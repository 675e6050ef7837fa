"""What is loaded from a folder is what its files say, run as ric chooses; or one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPModel, CLIPTextModel

from ric.errors import RicError
from ric.model_files import require_whole
from ric.models.pipeline import load_pipeline
from ric.pretrained import errors_in_one_line, load_network, load_tokenizer, refuse_not_finite

CPU = torch.device("cpu")


@pytest.fixture
def copy_of(tiny_family: Path, tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(tiny_family / name, tmp_path / "copy"))


def change(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def load(kind: type, folder: Path) -> torch.nn.Module:
    return load_network(kind, folder, dtype=torch.float32)


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
@pytest.mark.parametrize("named", ["eager", "flash_attention_2", "some-hub/kernel"])
def test_the_attention_that_a_config_names_is_not_used(key, named, copy_of):
    folder = copy_of("clip")
    plain = load(CLIPModel, folder).config
    held = json.loads((folder / "config.json").read_text())
    change(
        folder / "config.json",
        **{
            key: named,
            "text_config": held["text_config"] | {key: named},
            "vision_config": held["vision_config"] | {key: named},
        },
    )
    found = load(CLIPModel, folder).config
    for one, other in ((found, plain), (found.text_config, plain.text_config)):
        assert one._attn_implementation == other._attn_implementation != named


def test_layers_that_the_config_does_not_know_are_not_left_out_without_a_word(copy_of):
    folder = copy_of("pipeline/text_encoder")
    change(folder / "config.json", num_hidden_layers=1)
    with pytest.raises(RicError, match=r"16 tensors that its config\.json does not account for"):
        load(CLIPTextModel, folder)


@pytest.mark.parametrize("content", ["{}", '{"model": 1}', '{"model": {"type": "BPE"}}', "{", ""])
def test_a_tokenizer_of_any_shape_is_one_line(copy_of, content):
    folder = copy_of("pipeline/tokenizer")
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(RicError, match="Cannot load the tokenizer in"):
        load_tokenizer(folder)


def said_of(folder: Path) -> str:
    """Give what loading a folder says, if anything."""
    try:
        require_whole(folder, "text and image model")
        load(CLIPModel, folder)
    except RicError as error:
        return error.message
    return ""


ODD = [None, True, -1, 0, 10**30, 1.5, "text", [], [1], {}, {"a": 1}]


@pytest.mark.parametrize("value", ODD, ids=repr)
def test_a_config_of_any_shape_loads_or_is_one_line(copy_of, value):
    folder = copy_of("clip")
    config = json.loads((folder / "config.json").read_text())
    for section in (config, config["text_config"]):
        for key, before in list(section.items()):
            section[key] = value
            (folder / "config.json").write_text(json.dumps(config))
            assert "\n" not in said_of(folder)
            section[key] = before


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_refused(copy_of, bad):
    folder = copy_of("clip")
    tensors = load_file(folder / "model.safetensors")
    tensors["visual_projection.weight"][3, 4] = bad
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    model = load(CLIPModel, folder)
    with pytest.raises(RicError, match=r"1 weights in .* not finite, such as visual_projection"):
        refuse_not_finite(model, folder)


def test_a_network_of_other_names_is_refused_without_a_line_for_each_weight(copy_of, capfd):
    folder = copy_of("pipeline")
    file = folder / "unet/diffusion_pytorch_model.safetensors"
    tensors = {f"editor.{name}": value for name, value in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    capfd.readouterr()
    with pytest.raises(RicError, match=r"The unet in .* lacks 208 of its weights"):
        load_pipeline(folder, CPU)
    assert len("".join(capfd.readouterr())) < 200


def test_the_attention_blocks_of_older_vaes_are_read_under_their_old_names(copy_of):
    folder = copy_of("pipeline")
    expected = load_pipeline(folder, CPU).vae.state_dict()
    file = folder / "vae/diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = load_file(file)
    for new, name in old.items():
        tensors = {key.replace(new, name): value for key, value in tensors.items()}
    assert tensors.keys() != expected.keys()
    save_file(tensors, file, metadata={"format": "pt"})
    found = load_pipeline(folder, CPU).vae.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_tokenizer_of_another_text_encoder_is_refused(copy_of):
    folder = copy_of("pipeline")
    file = folder / "tokenizer/tokenizer.json"
    held = json.loads(file.read_text())
    words = held["model"]["vocab"]
    held["model"]["vocab"] = dict(list(words.items())[: len(words) // 2])
    held["model"]["merges"] = []
    file.write_text(json.dumps(held))
    with pytest.raises(RicError, match=r"The tokenizer in .* has \d+ tokens, its text encoder"):
        load_pipeline(folder, CPU)


class PanicException(BaseException):
    """Stands for a panic of a library's Rust part, which is no Exception."""


def test_what_is_no_exception_passes_unless_it_is_a_panic():
    with (
        pytest.raises(RicError, match="Cannot read it: torn"),
        errors_in_one_line("Cannot read it"),
    ):
        raise PanicException("torn")
    with pytest.raises(KeyboardInterrupt), errors_in_one_line("Cannot read it"):
        raise KeyboardInterrupt


def test_a_unet_of_float16_files_is_held_as_it_was_asked_for(copy_of):
    folder = copy_of("pipeline")
    UNet2DConditionModel.from_pretrained(folder / "unet").half().save_pretrained(folder / "unet")
    assert load_pipeline(folder, CPU).unet.dtype == torch.float32
