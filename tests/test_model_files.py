"""A model's folder is whole, or refused in one line that says what it lacks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ric.errors import RicError
from ric.model_files import PARTS, WEIGHTS, require_whole
from ric.weights.tiny_family import SHIPPED

MEMBER = {
    "pipeline": "pipeline",
    "region_encoder": "region_encoder",
    "scene_encoder": "scene_encoder",
    "describer": "captioner",
    "segmenter": "captioner",  # any network with a processor
    "text segmenter": "captioner",  # and a tokenizer
    "text and image model": "clip",
    "network": "scene_classifier",
}
NEEDS = [
    (kind, part, ways)
    for kind, parts in PARTS.items()
    for part, needs in parts.items()
    for ways in needs
    if ways[0] not in ("region_encoder.json", "scene_encoder.json")  # without it, it is a plain one
]
UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def copy_of(tiny_family: Path, tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(tiny_family / name, tmp_path / name))


@pytest.fixture
def pipeline(copy_of: Callable[[str], Path]) -> Path:
    return copy_of("pipeline")


def refused(folder: Path, kind: str = "pipeline") -> RicError:
    with pytest.raises(RicError) as caught:
        require_whole(folder, kind)
    return caught.value


def say(file: Path, **changes: object) -> None:
    """Change what a JSON file says; None takes a key out."""
    held = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in held.items() if value is not None}))


@pytest.mark.parametrize("kind", MEMBER)
def test_every_member_of_both_families_is_whole(kind, tiny_family):
    for family in (tiny_family, SHIPPED):
        require_whole(family / MEMBER[kind], kind)


@pytest.mark.parametrize(("kind", "part", "ways"), NEEDS)
@pytest.mark.parametrize("empty", [False, True])
def test_a_file_that_is_needed_is_refused_where_it_is_missing_or_empty(
    kind, part, ways, empty, copy_of
):
    folder = copy_of(MEMBER[kind])
    for way in ways:
        for name in way.split(" + "):
            for file in list((folder / part).glob(name)):
                file.write_bytes(b"") if empty else file.unlink()
    message = refused(folder, kind).message
    if ways != WEIGHTS:
        lacking = f"{part}/{ways[0]}".removeprefix("/")
        assert f" lacks {lacking}" in message or f"it has no {lacking}" in message
    else:
        assert str(folder / part) in message
        assert ("is incomplete" in message) or ("truncated" in message)


def test_a_vocabulary_without_its_merges_is_no_tokenizer(pipeline):
    folder = pipeline / "tokenizer"
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text('{"a": 0}')
    assert "it lacks tokenizer/tokenizer.json" in refused(pipeline).message
    (folder / "merges.txt").write_text("#version: 0.2\n")
    require_whole(pipeline, "pipeline")


@pytest.mark.parametrize(
    ("file", "key"),
    [
        ("unet/config.json", "attention_head_dim"),
        ("unet/config.json", "norm_num_groups"),
        ("scheduler/scheduler_config.json", "beta_schedule"),
    ],
)
def test_a_config_that_leaves_to_a_default_what_fits_any_weights_is_refused(pipeline, file, key):
    say(pipeline / file, **{key: None})
    assert refused(pipeline).message == f"{pipeline / file} does not say {key}."


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "does not hold a JSON object"),
        ("null", "does not hold a JSON object"),
        ('"text"', "does not hold a JSON object"),
        ("{", "Cannot read "),
        ('{"a": ' + "9" * 5000 + "}", "Cannot read "),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "is nested too deeply"),
        (b"\xff\xfe{}", "Cannot read "),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a git-lfs pointer"),
    ],
    ids=["list", "null", "text", "torn", "digits", "deep", "no UTF-8", "pointer"],
)
@pytest.mark.parametrize(
    "name", ["model_index.json", "vae/config.json", "tokenizer/tokenizer.json"]
)
def test_json_of_any_shape_is_one_line(pipeline, name, content, words):
    data = content if isinstance(content, bytes) else content.encode()
    (pipeline / name).write_bytes(data)
    message = refused(pipeline).message
    assert words in message
    assert str(pipeline / name) in message
    assert "\n" not in message


@pytest.mark.parametrize("file", ["text_encoder/config.json", "unet/config.json"])
def test_a_network_of_a_million_layers_is_not_begun(pipeline, file):
    say(pipeline / file, num_hidden_layers=10**6, layers_per_block=[2, 10**30])
    assert "layers, which no model has" in refused(pipeline).message


def test_json_beyond_all_that_a_model_has_is_not_read(pipeline, monkeypatch):
    monkeypatch.setattr("ric.model_files.LARGEST_JSON", 100)
    assert "it is not a model's file" in refused(pipeline).message


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: b"", "is incomplete|truncated"),
        (lambda data: data[:-1], "truncated"),
        (lambda data: data + b"!", "1 bytes too long"),
        (lambda data: b"\xff" * 9, "its header is incomplete"),
        (lambda data: (2).to_bytes(8, "little") + b"[]", "not that of a safetensors file"),
        (
            lambda data: (200_000).to_bytes(8, "little") + b"[" * 200_000,
            "not that of a safetensors file",
        ),
        (
            lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            "a git-lfs pointer, not the weights",
        ),
    ],
)
def test_broken_weights_are_named_with_what_is_wrong(pipeline, damage, words):
    file = pipeline / UNET
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(RicError, match=words):
        require_whole(pipeline, "pipeline")


@pytest.mark.parametrize(
    ("wrapper", "maker"), [("module", "DistributedDataParallel"), ("_orig_mod", "torch.compile")]
)
def test_a_network_saved_from_inside_a_wrapper_is_told_so(pipeline, wrapper, maker):
    tensors = {f"{wrapper}.{name}": value for name, value in load_file(pipeline / UNET).items()}
    save_file(tensors, pipeline / UNET)
    error = refused(pipeline)
    assert f"its names begin with '{wrapper}.', the prefix of {maker}" in error.message
    assert "unwrap_model" in error.hint


def test_quantised_weights_are_refused_whether_the_config_says_so_or_not(pipeline):
    say(pipeline / "text_encoder/config.json", quantization_config={"quant_method": "bitsandbytes"})
    assert "config.json has a quantization_config" in refused(pipeline).message
    say(pipeline / "text_encoder/config.json", quantization_config=None)
    save_file({"conv_in.weight": torch.zeros(2, dtype=torch.int8)}, pipeline / UNET)
    assert "it is quantised (I8)" in refused(pipeline).message


@pytest.mark.parametrize("file", ["random_states_0.pkl", "trainer_state.json", "zero_to_fp32.py"])
def test_another_trainers_checkpoint_is_named_for_what_it_is_and_lacks(pipeline, file):
    checkpoint = pipeline.with_name("checkpoint-500")
    shutil.copytree(pipeline / "unet", checkpoint / "unet")
    for name in (file, "training_args.bin", "scheduler.bin"):
        (checkpoint / name).write_bytes(b"x")
    error = refused(checkpoint)
    assert "is the checkpoint of another trainer (" in error.message
    assert file in error.message
    assert "it lacks model_index.json, vae, text_encoder, tokenizer, scheduler." in error.message
    assert "put this folder's unet in place of its own" in error.hint


def test_a_half_precision_variant_alone_is_told_so_and_nothing_is_written_beside_it(pipeline):
    (pipeline / UNET).rename(pipeline / UNET.replace(".safe", ".fp16.safe"))
    error = refused(pipeline)
    assert "holds only the half-precision variant" in error.message
    assert error.hint.endswith(f"ric weights convert {pipeline} NEW_FOLDER")
