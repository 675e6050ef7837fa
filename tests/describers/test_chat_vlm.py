"""Describing with a model of transformers: a tiny captioner, and a tiny chat model."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from asking import answers, request_for, scene_text
from PIL import Image
from safetensors.torch import load_file, save_file
from small_chat import write_chat_model

from ric.config import DescribeConfig
from ric.data.edit_sample import EditSample, Pictures
from ric.describers.chat_vlm import ChatVlm
from ric.describers.prompt import SCENE_PROMPT, filled
from ric.errors import RicError, SampleError

CPU = torch.device("cpu")


def picture(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def sample(instruction: str = "make it red", *, source: int = 0, target: int = 1) -> EditSample:
    pictures = Pictures(source=picture(source), target=picture(target))
    return EditSample(id="a", instruction=instruction, pictures=pictures)


@pytest.fixture(scope="module")
def chat_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chat_model(tmp_path_factory.mktemp("chat"))


@pytest.fixture(scope="module")
def open_model() -> Callable[..., ChatVlm]:
    def load(folder: Path, *, dtype: str = "fp32", **settings: Any) -> ChatVlm:
        config = DescribeConfig(dtype=dtype, **{"max_new_tokens": 6, **settings})
        return ChatVlm(folder, config, CPU)

    return load


class Spy:
    """Stand beside a model's `generate`: keep what went in and what came out."""

    def __init__(self, describer: ChatVlm, monkeypatch: pytest.MonkeyPatch) -> None:
        self.inputs: list[dict[str, Any]] = []
        self.tokens: list[torch.Tensor] = []
        self.generate = describer.model.generate
        monkeypatch.setattr(describer.model, "generate", self)

    def __call__(self, **inputs: Any) -> torch.Tensor:
        self.inputs.append(inputs)
        self.tokens.append(self.generate(**inputs))
        return self.tokens[-1]


# --- a captioner ---------------------------------------------------------------------------------


def test_a_captioner_reads_the_target_and_not_the_source(tiny_family, open_model, monkeypatch):
    describer = open_model(tiny_family / "captioner")
    spy = Spy(describer, monkeypatch)
    for source, target in ((0, 1), (0, 2), (3, 1)):
        scene_text(describer, sample(source=source, target=target))
    first, other_target, other_source = (given["pixel_values"] for given in spy.inputs)
    assert not torch.equal(first, other_target)
    assert torch.equal(first, other_source)
    # a plain captioner would only repeat a long prompt
    assert "input_ids" not in spy.inputs[0]


def test_one_picture_always_gets_the_same_text(tiny_family, open_model):
    describer = open_model(tiny_family / "captioner")
    first = scene_text(describer, sample(target=1))
    scene_text(describer, sample(target=2))
    assert scene_text(describer, sample(target=1)) == first != ""
    assert scene_text(open_model(tiny_family / "captioner"), sample(target=1)) == first


def test_an_answer_ends_where_the_models_positions_do(tiny_family, open_model, monkeypatch):
    describer = open_model(tiny_family / "captioner", max_new_tokens=520)
    assert describer.model.config.text_config.max_position_embeddings == 512
    # nothing ends it early
    describer.model.generation_config.eos_token_id = None
    describer.model.config.text_config.sep_token_id = None
    spy = Spy(describer, monkeypatch)
    assert scene_text(describer, sample())
    assert spy.tokens[0].shape[1] == 512


def test_a_prompt_longer_than_the_model_reads_fails_that_sample(
    chat_folder, open_model, monkeypatch
):
    describer = open_model(chat_folder)
    with pytest.raises(SampleError, match=r"the prompt has \d+ tokens; the model reads 2048"):
        scene_text(describer, sample("make it red " * 1000))


def test_a_sample_without_a_target_fails_alone(tiny_family, open_model):
    describer = open_model(tiny_family / "captioner")
    lone = EditSample(id="a", instruction="make it red", pictures=Pictures(source=picture(0)))
    with pytest.raises(SampleError, match="No target in"):
        scene_text(describer, lone)


def test_weights_are_held_in_the_format_asked_for(tiny_family, open_model):
    describer = open_model(tiny_family / "captioner", dtype="bf16")
    assert {tensor.dtype for tensor in describer.model.parameters()} == {torch.bfloat16}
    assert scene_text(describer, sample())


# --- a chat model --------------------------------------------------------------------------------


def test_the_chat_is_asked_with_table_4_and_its_instruction_about_the_target(
    chat_folder, open_model, monkeypatch
):
    describer = open_model(chat_folder)
    spy = Spy(describer, monkeypatch)
    scene_text(describer, sample("paint the {left} ball red", target=1))
    scene_text(describer, sample("paint the {left} ball red", target=2))
    tokens = spy.inputs[0]["input_ids"]
    asked = describer.processor.tokenizer.decode(tokens[0])
    assert asked.startswith("USER: <image>")
    assert filled(SCENE_PROMPT, "paint the {left} ball red") in asked
    assert asked.endswith("ASSISTANT:")
    # a picture of 32 px in patches of 8
    assert (tokens == describer.model.config.image_token_id).sum() == 16
    assert torch.equal(tokens, spy.inputs[1]["input_ids"])
    assert not torch.equal(spy.inputs[0]["pixel_values"], spy.inputs[1]["pixel_values"])


def test_only_what_the_chat_model_adds_is_the_answer(chat_folder, open_model, monkeypatch):
    describer = open_model(chat_folder, max_new_tokens=9)
    spy = Spy(describer, monkeypatch)
    text = scene_text(describer, sample())
    prompt = spy.inputs[0]["input_ids"].shape[1]
    new = spy.tokens[0][0, prompt:]
    assert 0 < len(new) <= 9
    answer = describer.processor.tokenizer.decode(new, skip_special_tokens=True)
    assert text == " ".join(answer.split())
    assert "meticulous visual analyst" not in text


def test_the_chat_answers_greedily_with_the_likeliest_token(chat_folder, open_model, monkeypatch):
    describer = open_model(chat_folder, max_new_tokens=3)
    spy = Spy(describer, monkeypatch)
    scene_text(describer, sample())
    inputs = {
        key: value
        for key, value in spy.inputs[0].items()
        if key in ("input_ids", "attention_mask", "pixel_values")
    }
    with torch.no_grad():
        likeliest = describer.model(**inputs).logits[0, -1].argmax()
    assert spy.tokens[0][0, inputs["input_ids"].shape[1]] == likeliest


@pytest.mark.parametrize("longest", [1, 5, 20])
def test_an_answer_is_never_longer_than_asked(chat_folder, open_model, monkeypatch, longest):
    describer = open_model(chat_folder, max_new_tokens=longest)
    # nothing ends it early
    describer.model.generation_config.eos_token_id = None
    spy = Spy(describer, monkeypatch)
    scene_text(describer, sample())
    assert spy.tokens[0].shape[1] - spy.inputs[0]["input_ids"].shape[1] == longest


def test_several_questions_together_get_the_answers_that_each_gets_alone(chat_folder, open_model):
    describer = open_model(chat_folder, batch_size=4)
    asked = [
        request_for(sample("make it red", target=1)),
        request_for(sample("remove the small ball on the left of the table", target=2)),
        request_for(sample(source=3), "source-caption"),
        request_for(sample(target=4), refused=("empty",), seed=5),
    ]
    together = answers(describer, asked)
    assert len({answer.text for answer in together}) == 4
    assert together == [answers(describer, [request])[0] for request in asked]


def test_a_captioner_reads_several_pictures_together(tiny_family, open_model):
    describer = open_model(tiny_family / "captioner", batch_size=3)
    asked = [request_for(sample(target=number)) for number in range(3)]
    assert answers(describer, asked) == [answers(describer, [one])[0] for one in asked]


def test_an_answer_that_ends_by_itself_is_whole_and_one_at_the_most_tokens_is_not(
    chat_folder, open_model
):
    describer = open_model(chat_folder)
    describer.model.generation_config.eos_token_id = None
    (cut,) = answers(describer, [request_for(sample())])
    assert (cut.tokens, cut.ended) == (6, False)
    tokens = describer.processor.tokenizer.encode(cut.text)
    describer.model.generation_config.eos_token_id = tokens[1]
    (whole,) = answers(describer, [request_for(sample())])
    assert whole.ended
    assert whole.tokens <= 2


def test_what_the_processor_refuses_or_memory_has_no_room_for_fails_alone(
    chat_folder, open_model, monkeypatch
):
    describer = open_model(chat_folder, batch_size=3)
    asked = [request_for(sample(target=number)) for number in (1, 2, 3)]
    alone = [answers(describer, [request])[0] for request in asked]
    reads, refused = describer.processor.apply_chat_template, asked[1].load_pictures()[0].tobytes()

    def refuse(chats: Any, **options: Any) -> Any:
        shown = [part["image"].tobytes() for (chat,) in chats for part in chat["content"][:-1]]
        if refused in shown:
            raise ValueError("absolute aspect ratio must be smaller than 200")
        return reads(chats, **options)

    monkeypatch.setattr(describer.processor, "apply_chat_template", refuse)
    first, second, third = answers(describer, asked)
    assert [first, third] == [alone[0], alone[2]]
    assert isinstance(second, SampleError)
    assert second.reason.endswith("refuses it: absolute aspect ratio must be smaller than 200")
    monkeypatch.setattr(describer.processor, "apply_chat_template", reads)
    generate = describer.model.generate

    def short_of_memory(**inputs: Any) -> torch.Tensor:
        if len(inputs["input_ids"]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return generate(**inputs)

    monkeypatch.setattr(describer.model, "generate", short_of_memory)
    assert answers(describer, asked) == alone


def test_a_tokenizer_without_a_padding_token_pads_a_batch_all_the_same(
    chat_folder, open_model, tmp_path
):
    folder = Path(shutil.copytree(chat_folder, tmp_path / "chat"))
    whole = open_model(chat_folder, batch_size=2)
    words = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**words, "pad_token": None}))
    config = json.loads((folder / "generation_config.json").read_text())
    config.pop("pad_token_id")
    (folder / "generation_config.json").write_text(json.dumps(config))
    without = open_model(folder, batch_size=2)
    asked = [request_for(sample("make it red")), request_for(sample("remove the small ball"))]
    assert answers(without, asked) == answers(whole, asked)


@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_weights_can_be_held_in_few_bits(tmp_path, open_model, bits):
    # on CPUs with AVX-512 bitsandbytes takes 64 weights of a row at once
    folder = write_chat_model(tmp_path / "model", width=64)
    whole, small = open_model(folder), open_model(folder, load_in=bits)
    assert small.model.get_memory_footprint() < 0.9 * whole.model.get_memory_footprint()
    layer = small.model.model.language_model.layers[0].mlp.gate_proj
    assert layer.weight.dtype == {"8bit": torch.int8, "4bit": torch.uint8}[bits]
    (answer,) = answers(small, [request_for(sample())])
    assert answer.tokens == 6


# --- what is refused -----------------------------------------------------------------------------


@pytest.fixture
def folder(tiny_family: Path, tmp_path: Path) -> Path:
    """A copy of the tiny captioner, to be spoilt."""
    return Path(shutil.copytree(tiny_family / "captioner", tmp_path / "captioner"))


def test_an_unknown_architecture_is_refused_with_what_to_try(folder, open_model):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "deepseek_vl_v2"}))
    with pytest.raises(
        RicError, match=r"Cannot load the AutoModelForImageTextToText|transformers cannot open"
    ) as caught:
        open_model(folder)
    assert "deepseek-vl-1.3b-chat" in caught.value.hint
    assert "--describer dataset" in caught.value.hint


def test_a_model_of_another_kind_is_refused(tiny_family, open_model):
    with pytest.raises(RicError, match=r"describer in .* is incomplete: it lacks tokenizer\.json"):
        open_model(tiny_family / "dino")


class _Trap:
    """Its pickle makes a file when it is loaded."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.sprung),)


def test_a_folder_of_pickles_alone_is_refused_and_the_pickle_never_opened(
    folder, tmp_path, open_model
):
    (folder / "model.safetensors").unlink()
    torch.save({"weight": _Trap(tmp_path / "sprung")}, folder / "pytorch_model.bin")
    with pytest.raises(RicError, match=r"holds its weights as a pickle"):
        open_model(folder)
    assert not (tmp_path / "sprung").exists()


def test_truncated_weights_are_refused(folder, open_model):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(RicError, match="cannot be used: truncated"):
        open_model(folder)


def test_weights_that_lack_a_tensor_are_refused_and_never_left_random(folder, open_model):
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in sorted(tensors) if "vision" in name)
    del tensors[name]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RicError, match=f"lacks 1 of its weights, such as {name}"):
        open_model(folder)


def test_a_folders_own_code_is_never_run_even_if_somebody_would_say_yes(
    folder, tmp_path, open_model, monkeypatch
):
    sprung = tmp_path / "sprung"
    (folder / "trap.py").write_text(f"import os\nos.mkdir({str(sprung)!r})\n")
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "trap"
    config["auto_map"] = {
        "AutoConfig": "trap.Config",
        "AutoModelForImageTextToText": "trap.Model",
    }
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr("builtins.input", lambda question="": "y")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    with pytest.raises(
        RicError, match=r"Cannot load the AutoModelForImageTextToText|transformers cannot open"
    ):
        open_model(folder)
    assert not sprung.exists()
