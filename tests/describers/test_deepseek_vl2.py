"""DeepSeek-VL2-Tiny beside the released code, whose outputs are in fixtures/deepseek-vl2."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from asking import answers, request_for, scene_text
from PIL import Image
from safetensors.torch import load_file
from small_vl2 import (
    MERGES,
    PROCESSOR,
    QUESTION,
    SIZES,
    changed_config,
    picture,
    resolutions,
    seeded_weights,
    sizes,
    tensor_shapes,
    write_model,
)
from tokenizers import Tokenizer, decoders, pre_tokenizers
from torch.profiler import ProfilerActivity, profile

from ric.config import DescribeConfig
from ric.data.edit_sample import EditSample, Pictures
from ric.describers.chat_vlm import ChatVlm
from ric.describers.deepseek_vl2.architecture import Architecture, read_architecture
from ric.describers.deepseek_vl2.describer import DeepseekVl2
from ric.describers.deepseek_vl2.load import UNUSED, load_vl2, released_places
from ric.describers.deepseek_vl2.network import Decoding, Vl2
from ric.describers.deepseek_vl2.processor import Processor, Question
from ric.describers.deepseek_vl2.tiles import best_resolution, views
from ric.describers.describer import load_describer
from ric.describers.prompt import SCENE_PROMPT, filled
from ric.errors import RicError, SampleError
from ric.weights import find_weight

CPU = torch.device("cpu")
FIXTURES = Path(__file__).parents[1] / "fixtures" / "deepseek-vl2"
TINY = "deepseek-ai/deepseek-vl2-tiny"
CLOSE = {"atol": 1e-4, "rtol": 0.0}
# the sizes of the released DeepSeek-VL2-Tiny
FULL = changed_config(
    candidate_resolutions=resolutions(384),
    vision_config={"width": 1152, "layers": 27, "heads": 16, "image_size": 384},
    projector_config={"input_dim": 1152, "n_embed": 1280},
    language_config={
        "hidden_size": 1280,
        "intermediate_size": 6848,
        "moe_intermediate_size": 896,
        "n_routed_experts": 64,
        "num_attention_heads": 10,
        "num_experts_per_tok": 6,
        "num_hidden_layers": 12,
        "num_key_value_heads": 10,
        "vocab_size": 129280,
    },
)


@pytest.fixture(scope="module")
def released() -> dict[str, torch.Tensor]:
    return load_file(FIXTURES / "outputs.safetensors")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("vl2"), shards=3)


@pytest.fixture(scope="module")
def small(model: Path) -> tuple[Processor, Vl2]:
    architecture = read_architecture(model)
    network = load_vl2(model, architecture, torch.float32, CPU)
    return Processor(model, architecture), network


@pytest.fixture(scope="module")
def describer(model: Path) -> DeepseekVl2:
    return DeepseekVl2(model, DescribeConfig(dtype="fp32", max_new_tokens=6, batch_size=4), CPU)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Architecture:
    """The released sizes, as their files say them."""
    folder = tmp_path_factory.mktemp("full")
    choices = {**PROCESSOR, "candidate_resolutions": resolutions(384)}
    (folder / "config.json").write_text(json.dumps(FULL))
    (folder / "processor_config.json").write_text(json.dumps(choices))
    return read_architecture(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model to be spoilt."""
    return write_model(tmp_path / "vl2")


def sample(name: str = "a", *, image: Image.Image | None = None, **texts: str) -> EditSample:
    image = image or picture(60, 50)
    texts = {"instruction": "make it red", **texts}
    return EditSample(id=name, pictures=Pictures(source=picture(9, 9), target=image), **texts)


def rewrite(file: Path, changes: dict[str, Any]) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


# --- beside the released code --------------------------------------------------------------------


def questions(processor: Processor, name: str) -> list[Question]:
    asked = SIZES.values() if name == "batch" else [SIZES[name]]
    return [processor.ask([picture(*size)], QUESTION) for size in asked]


def logits_of(network: Vl2, batch: Any) -> torch.Tensor:
    with torch.inference_mode():
        return network.language(network.embed(batch), batch.attention_mask)


@pytest.mark.parametrize("name", ["square", "wide", "tall"])
def test_features_and_embeddings_are_those_of_the_released_code(small, released, name):
    processor, network = small
    batch = processor.batch(questions(processor, name))
    assert torch.equal(batch.tokens.int(), released[f"{name}.input_ids"])
    with torch.inference_mode():
        features, embeds = network.encode(batch.views), network.embed(batch)
    torch.testing.assert_close(features, released[f"{name}.features"], **CLOSE)
    torch.testing.assert_close(embeds, released[f"{name}.embeds"], **CLOSE)


@pytest.mark.parametrize("name", ["square", "wide", "tall", "batch"])
def test_logits_and_twenty_greedy_tokens_are_those_of_the_released_code(small, released, name):
    processor, network = small
    batch = processor.batch(questions(processor, name))
    assert torch.equal(batch.tokens.int(), released[f"{name}.input_ids"])
    expected = released[f"{name}.logits"]
    logits = logits_of(network, batch)[:, -expected.shape[1] :]
    torch.testing.assert_close(logits, expected, **CLOSE)
    tokens = network.answer(batch, Decoding(20, eos=1, pad=2))
    assert torch.equal(tokens.int(), released[f"{name}.tokens"])


def test_experts_computed_as_on_a_gpu_give_the_same_logits(model, small, released):
    processor, _ = small
    network = load_vl2(model, read_architecture(model), torch.float32, CPU)
    network.group_experts()
    expected = released["batch.logits"]
    with profile(activities=[ProfilerActivity.CPU]) as ran:
        logits = logits_of(network, processor.batch(questions(processor, "batch")))
    assert any("grouped_mm" in event.key for event in ran.key_averages())
    torch.testing.assert_close(logits[:, -expected.shape[1] :], expected, **CLOSE)


@pytest.mark.parametrize("part", ["gate_proj", "up_proj", "down_proj"])
def test_one_experts_weights_changed_by_a_hundredth_are_noticed(tmp_path, small, released, part):
    name = f"language.model.layers.1.mlp.experts.5.{part}.weight"
    tensors = seeded_weights()
    tensors[name] = tensors[name] * 1.01
    folder = write_model(tmp_path / "vl2", tensors)
    network = load_vl2(folder, read_architecture(folder), torch.float32, CPU)
    processor, _ = small
    expected = released["square.logits"]
    logits = logits_of(network, processor.batch(questions(processor, "square")))
    assert (logits[:, -expected.shape[1] :] - expected).abs().max() > 2e-4


def test_200_sizes_get_the_tiles_and_tokens_of_the_released_code(small, full):
    processor, _ = small
    grids = json.loads((FIXTURES / "layout.json").read_text())["grids"]
    assert [tuple(row[:2]) for row in grids] == sizes(200, 4608)
    # every grid of tiles is chosen for one of them
    assert len({(across, down) for _, _, across, down, _ in grids}) == 23
    words = len(processor.ask([picture(42, 42)], QUESTION).tokens) - small_tokens(1, 1)
    for width, height, across, down, tokens in grids:
        assert best_resolution((width, height), full.resolutions) == (across * 384, down * 384)
        assert full.tokens_of((across, down)) + words == tokens


def small_tokens(across: int, down: int) -> int:
    """Count the tokens of a picture of the small model: 2 x 2 a tile, rows with a line break."""
    return 2 * 3 + 1 + 2 * down * (2 * across + 1)


def test_views_have_the_pixels_of_the_released_code(small):
    processor, _ = small
    rows = json.loads((FIXTURES / "layout.json").read_text())["pixels"]
    assert [tuple(row[:2]) for row in rows] == sizes(40, 504)
    for width, height, checksum in rows:
        asked = processor.ask([picture(width, height)], QUESTION)
        pixels = (asked.views * 127.5 + 127.5).round().to(torch.uint8)
        assert zlib.crc32(pixels.numpy().tobytes()) == checksum, (width, height)


# --- views and tokens ----------------------------------------------------------------------------


def test_a_picture_is_padded_with_grey_and_cut_row_by_row():
    image = Image.new("RGB", (20, 10), "white")
    image.paste((255, 0, 0), (0, 0, 10, 10))
    seen = views(image, (20, 10), 10)
    assert seen.shape == (3, 3, 10, 10)
    grey = torch.tensor(127 / 127.5 - 1)
    torch.testing.assert_close(seen[0, :, 0, 0], grey.expand(3))
    assert seen[1, :, 5, 5].tolist() == [1, -1, -1]
    assert seen[2, :, 5, 5].tolist() == [1, 1, 1]


def test_rows_end_with_line_breaks_and_the_tiles_join_to_one_picture(small):
    _, network = small
    hidden = len(network.image_newline)
    # each token holds its view, row and column
    tokens = torch.zeros(1 + 6, 4, hidden)
    for view in range(7):
        for place in range(4):
            tokens[view, place, :3] = torch.tensor([view, place // 2, place % 2])
    rows = network.lay_out(tokens, (3, 2))
    assert len(rows) == 2 * 3 + 1 + 4 * 7
    breaks = [i for i, row in enumerate(rows) if torch.equal(row, network.image_newline)]
    assert breaks == [2, 5, *(6 + 7 * (line + 1) for line in range(4))]
    assert torch.equal(rows[6], network.view_separator)
    third = rows[7 + 2 * 7 : 7 + 3 * 7 - 1, :3].tolist()  # the upper row of the lower tiles
    assert third == [[4, 0, 0], [4, 0, 1], [5, 0, 0], [5, 0, 1], [6, 0, 0], [6, 0, 1]]


@pytest.mark.parametrize(
    "text",
    ["hello world", "  two  spaces ", "a red ball,\nleft of 2,048 cr\u00eape", "x <image> y"],
)
def test_words_keep_their_spaces(small, text):
    processor, _ = small
    ids = processor.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    assert processor.text_of(ids) == text


def test_a_space_is_part_of_the_word_after_it(small):
    processor, _ = small
    ids = processor.tokenizer.encode("a ball", add_special_tokens=False)
    assert processor.tokenizer.convert_ids_to_tokens(ids) == ["a", "".join(MERGES[3])]


def test_a_tokenizer_that_loses_spaces_is_refused(folder):
    file = str(folder / "tokenizer.json")
    spoilt = Tokenizer.from_file(file)
    spoilt.pre_tokenizer = pre_tokenizers.Metaspace()
    spoilt.decoder = decoders.Metaspace()
    spoilt.save(file)
    with pytest.raises(RicError, match="does not give a text back as it was: 'A red ball,"):
        Processor(folder, read_architecture(folder))


def test_tokens_that_the_vocabulary_has_are_not_added_again(tmp_path, small):
    named = ("<image>", "<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>", "<|grounding|>")
    folder = write_model(tmp_path / "vl2", extra_tokens=(*named, "<|User|>", "<|Assistant|>"))
    processor = Processor(folder, read_architecture(folder))
    without, _ = small
    assert len(processor.tokenizer) == len(without.tokenizer)
    tokens = [one.ask([picture(50, 50)], QUESTION).tokens for one in (processor, without)]
    assert torch.equal(*tokens)


def test_more_tokens_than_the_network_has_are_refused(folder):
    config = changed_config(language_config={"vocab_size": 270})
    rewrite(folder / "config.json", config)
    with pytest.raises(RicError, match="has 272 tokens, its network 270"):
        Processor(folder, read_architecture(folder))


def test_an_instruction_that_looks_like_special_tokens_stays_text(small):
    processor, _ = small
    asked = processor.ask([picture(42, 42)], "say <image> or <|Assistant|>: no")
    assert (asked.tokens == processor.image_token).sum() == small_tokens(*asked.grids[0])
    assert (asked.tokens == processor.assistant).sum() == 1
    assert "<image> or" in processor.text_of(asked.tokens)


def test_the_question_is_table_4_about_the_target_with_its_instruction(describer, monkeypatch):
    seen: list[Any] = []
    ask = describer.processor.ask
    monkeypatch.setattr(
        describer.processor, "ask", lambda *given: seen.append(given) or ask(*given)
    )
    target = picture(60, 50)
    assert scene_text(describer, sample(image=target, instruction="paint the {left} ball"))
    (((image,), text),) = seen
    assert image.tobytes() == target.tobytes()
    assert text == filled(SCENE_PROMPT, "paint the {left} ball")


# --- loading -------------------------------------------------------------------------------------


def test_the_released_names_of_the_full_model_are_all_and_only_those_loaded(full):
    with torch.device("meta"):
        places = released_places(dict(Vl2(full).named_parameters()))
    shapes = {
        name: (sum(len(part) for part in parts), *parts[0].shape[1:])
        for name, parts in places.items()
    }
    expected = tensor_shapes(FULL)
    assert shapes == {k: v for k, v in expected.items() if not k.startswith(UNUSED)}
    size = 2 * sum(torch.Size(shape).numel() for shape in expected.values())
    assert size == pytest.approx(find_weight(TINY).size_bytes, rel=2e-3)


def load(folder: Path, tensors: dict[str, torch.Tensor]) -> Vl2:
    write_model(folder, tensors)
    return load_vl2(folder, read_architecture(folder), torch.bfloat16, CPU)


def test_weights_are_held_in_the_format_asked_for_and_rotations_in_float32(tmp_path):
    network = load(tmp_path, seeded_weights())
    assert {tensor.dtype for tensor in network.parameters()} == {torch.bfloat16}
    assert not any(tensor.is_meta for tensor in (*network.parameters(), *network.buffers()))
    assert network.language.model.rotary_emb.inv_freq.dtype == torch.float32
    assert not network.training


def test_the_unused_pooling_head_may_be_missing(tmp_path):
    tensors = {k: v for k, v in seeded_weights().items() if not k.startswith(UNUSED)}
    assert load(tmp_path, tensors)


@pytest.mark.parametrize(
    "name",
    ["language.model.layers.2.mlp.experts.7.up_proj.weight", "vision.blocks.1.attn.qkv.bias"],
)
def test_a_missing_tensor_is_named(tmp_path, name):
    tensors = seeded_weights()
    del tensors[name]
    with pytest.raises(RicError, match=f"lacks 1 of its tensors, such as {name}"):
        load(tmp_path, tensors)


@pytest.mark.parametrize("name", ["language.model.layers.3.mlp.gate.weight", "tile_indicators"])
def test_a_tensor_too_many_is_named(tmp_path, name):
    tensors = {**seeded_weights(), name: torch.zeros(2, 2)}
    with pytest.raises(RicError, match=f"has 1 tensors that are not its own, such as {name}"):
        load(tmp_path, tensors)


def test_a_tensor_held_twice_is_named_with_both_files(tmp_path):
    write_model(tmp_path, shards=2)
    copied = next(tmp_path.glob("model-00002-*"))
    copied.with_name("model.safetensors").write_bytes(copied.read_bytes())
    with pytest.raises(RicError, match=rf"twice, in {copied.name} and model\.safetensors"):
        load_vl2(tmp_path, read_architecture(tmp_path), torch.float32, CPU)


@pytest.mark.parametrize(
    ("name", "shape", "needed"),
    [
        ("language.model.layers.1.mlp.experts.0.gate_proj.weight", (23, 32), r"\(24, 32\)"),
        ("vision.pos_embed", (1, 16, 32), r"\(1, 9, 32\)"),
        ("vision.blocks.0.attn.qkv.weight", (32, 32), r"\(96, 32\)"),
    ],
)
def test_a_tensor_of_another_shape_is_named(tmp_path, name, shape, needed):
    tensors = {**seeded_weights(), name: torch.zeros(shape)}
    with pytest.raises(RicError, match=f"has {name} of shape .*, not {needed} as its config"):
        load(tmp_path, tensors)


SMALL = {"use_mla": True, "kv_lora_rank": 512, "qk_nope_head_dim": 128}
BASE = {"topk_method": "noaux_tc", "scoring_func": "sigmoid", "norm_topk_prob": True}


@pytest.mark.parametrize(
    ("language", "why"), [(SMALL, "with latent attention"), (BASE, "with the router 'noaux_tc'")]
)
def test_the_larger_sizes_are_refused_in_a_line_that_names_tiny(folder, language, why):
    rewrite(folder / "config.json", changed_config(language_config=language))
    with pytest.raises(RicError, match=why) as caught:
        load_describer("chat", folder, DescribeConfig(), CPU)
    assert "only DeepSeek-VL2-Tiny is run" in caught.value.message
    assert TINY in caught.value.hint


@pytest.mark.parametrize(
    ("file", "changes", "named"),
    [
        ("config.json", {"tile_tag": "1D"}, r"tile_tag '1D'; it must be '2D'"),
        ("config.json", {"language_config": {"norm_topk_prob": True}}, "norm_topk_prob 'True'"),
        ("config.json", {"language_config": {"rope_scaling": {"factor": 2}}}, "rope_scaling"),
        ("config.json", {"language_config": {"n_routed_experts": None}}, "a positive number"),
        ("config.json", {"language_config": {"hidden_size": "32"}}, "hidden_size '32'"),
        ("config.json", {"language_config": {"hidden_size": -1}}, "hidden_size '-1'"),
        ("config.json", {"language_config": {"num_key_value_heads": 2}}, "num_key_value_heads"),
        ("config.json", {"projector_config": {"n_embed": 16}}, "n_embed '16'; it must be 32"),
        ("config.json", {"vision_config": {"width": 16}}, "vision_config.width '16'"),
        ("processor_config.json", {"image_mean": [0, 0, 0]}, r"image_mean '\[0, 0, 0\]'"),
        ("processor_config.json", {"candidate_resolutions": [[42, 43]]}, "multiples of 42"),
        ("processor_config.json", {"candidate_resolutions": [[420, 42]]}, "of at most 9 tiles"),
        ("processor_config.json", {"candidate_resolutions": []}, "candidate_resolutions"),
    ],
)
def test_what_is_not_computed_here_is_refused_with_its_name(folder, file, changes, named):
    changed = changed_config(**changes) if file == "config.json" else {**PROCESSOR, **changes}
    rewrite(folder / file, changed)
    with pytest.raises(RicError, match=named):
        read_architecture(folder)


def test_a_config_that_no_network_can_have_is_told_in_one_line(folder):
    rewrite(
        folder / "config.json",
        changed_config(language_config={"num_attention_heads": 5, "num_key_value_heads": 5}),
    )
    with pytest.raises(RicError, match="Cannot build the network that"):
        load_vl2(folder, read_architecture(folder), torch.float32, CPU)


def test_a_folder_without_a_processor_is_incomplete(folder):
    (folder / "processor_config.json").unlink()
    with pytest.raises(RicError, match=r"describer in .* is incomplete: it lacks"):
        load_describer("chat", folder, DescribeConfig(), CPU)


def test_the_folders_own_code_is_never_run(folder):
    trap = f"import os\nos.mkdir({str(folder / 'sprung')!r})\n"
    for name in ("modeling_deepseek.py", "processing.py"):
        (folder / name).write_text(trap)
    rewrite(folder / "config.json", {"auto_map": {"AutoModel": "modeling_deepseek.Model"}})
    rewrite(folder / "processor_config.json", {"auto_map": {"AutoProcessor": "processing.P"}})
    rewrite(folder / "tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["processing.T"] * 2}})
    config = DescribeConfig(dtype="fp32", max_new_tokens=2)
    assert scene_text(load_describer("chat", folder, config, CPU), sample())
    assert not (folder / "sprung").exists()


def test_chat_takes_the_describer_that_the_models_config_names(model, tiny_family):
    config = DescribeConfig(dtype="fp32", max_new_tokens=7)
    for folder, kind in ((model, DeepseekVl2), (tiny_family / "captioner", ChatVlm)):
        describer = load_describer("chat", folder, config, CPU)
        assert isinstance(describer, kind)
        assert describer.max_new_tokens == 7


# --- answering -----------------------------------------------------------------------------------


def test_four_together_get_the_texts_that_each_gets_alone(describer):
    asked = [
        sample(name, image=picture(width, height), instruction=words)
        for name, width, height, words in (
            ("a", 100, 100, "make it red"),
            ("b", 130, 40, "remove the small ball on the left of the table"),
            ("c", 37, 160, "x"),
            ("d", 42, 42, "put a cup there"),
        )
    ]
    together = answers(describer, [request_for(one) for one in asked])
    assert len({answer.text for answer in together}) == 4
    assert together == [answers(describer, [request_for(one)])[0] for one in asked]


def test_decoding_with_a_cache_is_recomputing_everything_for_each_token(small):
    processor, network = small
    batch = processor.batch(questions(processor, "batch"))
    cached = network.answer(batch, Decoding(8, eos=1, pad=2))
    embeds, mask = network.embed(batch), batch.attention_mask
    with torch.inference_mode():
        for step in range(8):
            logits = network.language(embeds, mask)[:, -1]
            chosen = logits.argmax(-1)
            assert torch.equal(chosen, cached[:, step])
            added = network.language.model.embed_tokens(chosen)[:, None]
            embeds = torch.cat([embeds, added], dim=1)
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)


def test_an_answer_ends_with_the_token_that_ends_a_text(small):
    processor, network = small
    batch = processor.batch(questions(processor, "batch"))
    free = network.answer(batch, Decoding(20, eos=1, pad=2))
    last = int(free[0, 4])
    ended = network.answer(batch, Decoding(20, eos=last, pad=2))
    first = free[0].tolist().index(last)
    assert ended[0, : first + 1].tolist() == free[0, : first + 1].tolist()
    assert set(ended[0, first + 1 :].tolist()) <= {2}


def test_one_bad_target_fails_alone(describer, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"")
    pictures = Pictures(source=picture(9, 9), target=tmp_path / "broken.png")
    broken = EditSample(id="broken", instruction="make it red", pictures=pictures)
    narrow = sample("narrow", image=Image.new("RGB", (1, 3000)))
    asked = [request_for(one) for one in (sample("a"), broken, narrow, sample("d"))]
    first, second, third, fourth = answers(describer, asked)
    assert first.text == fourth.text == scene_text(describer, sample("a"))
    assert isinstance(second, SampleError)
    assert (second.sample_id, second.stage) == ("broken", "target")
    assert isinstance(third, SampleError)
    assert third.reason == "1 x 3000 pixels are too narrow: tiles show none"


def test_a_prompt_longer_than_the_model_reads_fails_that_sample(describer):
    with pytest.raises(SampleError, match=r"the prompt has \d+ tokens; the model reads 4096"):
        scene_text(describer, sample(instruction="make it red " * 400))


def test_an_answer_tells_how_many_tokens_it_has_and_whether_it_ended(describer, monkeypatch):
    (cut,) = answers(describer, [request_for(sample())])
    assert (cut.tokens, cut.ended) == (6, False)
    answer = describer.network.answer

    def ended(batch: Any, how: Decoding, **shared: Any) -> torch.Tensor:
        tokens = answer(batch, how, **shared).clone()
        tokens[:, 3] = how.eos
        return tokens

    monkeypatch.setattr(describer.network, "answer", ended)
    (whole,) = answers(describer, [request_for(sample())])
    assert (whole.tokens, whole.ended) == (4, True)
    assert cut.text.startswith(whole.text)


def test_pictures_that_questions_share_are_computed_once_and_the_answers_are_the_same(
    describer, monkeypatch
):
    one, other = sample("a"), sample("b", image=picture(130, 40))
    kinds = ("scene", "target-caption", "source-caption", "explicit-instruction", "region")
    asked = [request_for(one, what) for what in kinds] + [request_for(other)]
    alone = [answers(describer, [request])[0] for request in asked]
    encoded: list[int] = []
    encode = describer.network.encode
    monkeypatch.setattr(
        describer.network, "encode", lambda views: encoded.append(len(views)) or encode(views)
    )
    monkeypatch.setattr(describer, "batch_size", 6)
    assert answers(describer, asked) == alone
    whole = [describer.processor.ask(request.load_pictures(), "") for request in asked]
    # three of the six show the same source
    assert encoded == [sum(len(question.views) for question in whole) - 2 * len(whole[1].views)]


def test_an_answer_that_is_drawn_depends_on_its_seed_alone(describer):
    drawn = [request_for(sample(), seed=seed, refused=("empty",)) for seed in range(4)]
    alone = [answers(describer, [request])[0] for request in drawn]
    assert len({answer.text for answer in alone}) > 1
    assert answers(describer, drawn) == alone
    greedy = answers(describer, [request_for(sample())])
    assert answers(describer, [drawn[0], request_for(sample()), drawn[1]])[1] == greedy[0]


def test_an_answer_stops_between_tokens(describer):
    calls: list[int] = []

    def stop() -> None:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(describer.answer([request_for(sample())], stop))
    assert len(calls) == 4
