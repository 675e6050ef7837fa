"""What frozen networks make of samples: computed once, kept whole, never taken for another's."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ric.config import TrainUnetConfig
from ric.distributed import Ranks
from ric.inputs import encodings as module
from ric.inputs import filling
from ric.inputs.encodings import Encoder, OnDemand, Prepared, _key, encode_once
from ric.inputs.examples import Example, Needs, load_examples
from ric.method.region_encoder import RegionEncoder
from ric.method.scene_encoder import SceneEncoder
from ric.models.pipeline import load_pipeline
from ric.progress import Silent
from ric.recipes.train_unet import train_unet
from ric.runs.checkpoints import write_tensors
from ric.runs.open_run import open_run
from ric.work import open_work

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("RIC_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "encodings"


@pytest.fixture(scope="module")
def encoder(tiny_family) -> Encoder:
    return Encoder(
        load_pipeline(tiny_family / "pipeline", CPU),
        RegionEncoder.from_pretrained(tiny_family / "region_encoder"),
        SceneEncoder.from_pretrained(tiny_family / "scene_encoder"),
        torch.float32,
        flip=True,
    )


@pytest.fixture(scope="module")
def examples(tiny, make_edits, tmp_path_factory) -> list[Example]:
    """Five samples: the second says a side, the third has no scene text."""
    data = make_edits(
        5, {1: {"instruction": "add a ball left of the tree"}, 2: {"scene_text": None}}
    )
    config = tiny(TrainUnetConfig, data)
    with open_run("train-unet", {}, runs_dir=tmp_path_factory.mktemp("runs")) as run:
        return load_examples(
            config, open_work(config, run), "train", Needs(64, region_text="region_text")
        )


class Counting(Silent):
    """Counts the samples that are encoded, and keeps what is said."""

    def __init__(self) -> None:
        self.encoded, self.said = 0, []

    def stage(self, *_args, **_more):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_error) -> None: ...

    def advance(self, count=1, **_values) -> None:
        self.encoded += count

    def note(self, message: str) -> None:
        self.said.append(message)


def encoded(encoder: Encoder, examples: list[Example]) -> tuple[list[Prepared], Counting]:
    progress = Counting()
    return encode_once(encoder, examples, Ranks(CPU), progress), progress


def assert_same(ours: list[Prepared], theirs: list[Prepared]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert len(one.views) == len(other.views)
        pairs = [(one.instruction, other.instruction), (one.region_text, other.region_text),
                 (one.scene_text, other.scene_text)]  # fmt: skip
        for view, twin in zip(one.views, other.views, strict=True):
            assert view.box == twin.box
            pairs += [(getattr(view, key), getattr(twin, key)) for key in module.LATENTS]
        for mine, other_one in pairs:
            assert (mine is None) == (other_one is None)
            if mine is not None:
                assert mine.dtype == torch.float32
                assert torch.equal(mine, other_one)


def test_a_ceiling_is_the_cosine_of_the_decoded_target_with_its_own_text(encoder, examples, cache):
    judged = replace(encoder, decoder=encoder.pipeline.vae)
    kept, _ = encoded(judged, examples)
    assert kept[2].views[0].scene_ceiling is None  # it has no scene text
    vae, region, scene = encoder.pipeline.vae, encoder.region_judge, encoder.scene_judge
    for sample in (kept[0], kept[1]):
        for view in sample.views:  # also the flipped one, in its own box
            with torch.no_grad():
                pixels = vae.decode(view.target_mean[None]).sample.clamp(-1, 1)
                f_r, e_f = region.encode_region(pixels, [view.box]), scene.encode_image(pixels)
            region_ceiling = torch.cosine_similarity(f_r, sample.region_text[None])[0]
            scene_ceiling = torch.cosine_similarity(e_f, sample.scene_text[None])[0]
            torch.testing.assert_close(view.region_ceiling, region_ceiling)
            torch.testing.assert_close(view.scene_ceiling, scene_ceiling)


def test_ceilings_are_cached_by_the_whole_judge(encoder, examples, cache):
    judged = replace(encoder, decoder=encoder.pipeline.vae)
    other = copy.deepcopy(encoder.region_judge)
    with torch.no_grad():
        next(other.fusion.parameters()).add_(0.1)
    # embedded texts do not depend on the fusion, ceilings do
    assert _key(encoder, examples) == _key(replace(encoder, region_judge=other), examples)
    assert _key(judged, examples) != _key(replace(judged, region_judge=other), examples)
    assert _key(judged, examples) != _key(encoder, examples)


@pytest.mark.parametrize("in_a_shard", [2, 256])
def test_from_the_cache_comes_what_was_encoded_with_flips_boxes_and_gaps(
    in_a_shard, encoder, examples, cache, monkeypatch
):
    monkeypatch.setattr(module, "IN_A_SHARD", in_a_shard)
    direct = encoder.encode(examples)
    assert [len(one.views) for one in direct] == [2, 1, 2, 2, 2]
    assert direct[2].scene_text is None
    first, progress = encoded(encoder, examples)
    assert progress.encoded == 5
    assert_same(first, direct)
    again, progress = encoded(encoder, examples)
    assert progress.encoded == 0
    assert_same(again, direct)
    (folder,) = cache.iterdir()
    assert len(list(folder.glob("*.safetensors"))) == (3 if in_a_shard == 2 else 1)


def test_texts_are_kept_in_the_networks_precision_and_latents_in_float32(encoder, examples, cache):
    half = replace(encoder, dtype=torch.bfloat16)
    ours, _ = encoded(half, examples)
    (folder,) = cache.iterdir()
    kept = load_file(folder / "00000.safetensors")
    assert {kept[f"0.{key}.0"].dtype for key in module.LATENTS} == {torch.float32}
    assert {kept[f"0.{key}"].dtype for key in module.TEXTS} == {torch.bfloat16}
    for one, exact in zip(ours, half.encode(examples), strict=True):
        torch.testing.assert_close(one.instruction, exact.instruction, rtol=2**-8, atol=0)


def test_other_content_is_encoded_anew(encoder, examples, tiny_family, tmp_path):
    encoded(encoder, examples)
    brighter = examples[0].target.clone()
    brighter[0, 0, 0] += 1
    other_vae = load_pipeline(tiny_family / "pipeline", CPU)
    with torch.no_grad():
        next(other_vae.vae.parameters()).flatten()[0] += 1e-3
    for changed, items in (
        (encoder, [replace(examples[0], target=brighter), *examples[1:]]),
        (encoder, [replace(examples[0], instruction="add a cube"), *examples[1:]]),
        (encoder, [replace(examples[0], scene_text="a field"), *examples[1:]]),
        (encoder, examples[::-1]),
        (replace(encoder, flip=False), examples),
        (replace(encoder, dtype=torch.bfloat16), examples),
        (replace(encoder, scene_judge=None), examples),
        (replace(encoder, pipeline=other_vae), examples),
    ):
        _, progress = encoded(changed, items)
        assert progress.encoded == 5
    # ids, and places of files, are no content
    shutil.copytree(tiny_family / "pipeline", tmp_path / "elsewhere")
    moved = replace(encoder, pipeline=load_pipeline(tmp_path / "elsewhere", CPU))
    _, progress = encoded(moved, [replace(item, id=f"new-{item.id}") for item in examples])
    assert progress.encoded == 0


def test_a_network_that_computes_otherwise_with_the_same_weights_is_another(
    encoder, examples, tiny_family, tmp_path
):
    encoded(encoder, examples)
    shutil.copytree(tiny_family / "pipeline", tmp_path / "changed")
    file = tmp_path / "changed" / "text_encoder" / "config.json"
    settings = json.loads(file.read_text())
    other = {"quick_gelu": "gelu", "gelu": "quick_gelu"}[settings["hidden_act"]]
    file.write_text(json.dumps(settings | {"hidden_act": other}))
    _, progress = encoded(
        replace(encoder, pipeline=load_pipeline(tmp_path / "changed", CPU)), examples
    )
    assert progress.encoded == 5


def test_what_another_process_has_made_meanwhile_stays(encoder, examples, cache, monkeypatch):
    encode, others = Encoder.encode, []

    def encode_slower(self, items):
        made = encode(self, items)
        if not others:
            others.append(None)  # the other process is not slow
            encode_once(encoder, examples, Ranks(CPU), Silent())
            (folder,) = (one for one in cache.iterdir() if not one.name.startswith("."))
            others.append((folder / "00000.safetensors").stat().st_ino)
        return made

    monkeypatch.setattr(Encoder, "encode", encode_slower)
    monkeypatch.setattr(filling, "writer_name", iter(["slow.1", "quick.2"]).__next__)
    encoded(encoder, examples)
    (folder,) = cache.iterdir()
    assert (folder / "00000.safetensors").stat().st_ino == others[1]


@pytest.mark.parametrize(
    "harm", ["flipped bit", "cut", "missing", "no checksums", "{}", "7", "[[]]"]
)
def test_a_damaged_cache_is_found_by_its_checksums_and_made_again(harm, encoder, examples, cache):
    expected, _ = encoded(encoder, examples)
    (folder,) = cache.iterdir()
    shard = folder / "00000.safetensors"
    content = shard.read_bytes()
    if harm in ("flipped bit", "cut"):
        shard.unlink()  # what was read from it stays as it was
    if harm == "flipped bit":
        shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif harm == "cut":
        shard.write_bytes(content[:-100])
    elif harm == "missing":
        shard.unlink()
    elif harm == "no checksums":
        (folder / "checksums.json").unlink()
    else:
        (folder / "checksums.json").write_text(harm)
    ours, progress = encoded(encoder, examples)
    assert progress.encoded == 5
    assert progress.said == [f"{folder} is damaged and is being rebuilt"]
    assert_same(ours, expected)
    assert list(json.loads((folder / "checksums.json").read_text())) == [shard.name]


def test_on_demand_gives_the_same_to_rounding(encoder, examples):
    on_demand = OnDemand(encoder, examples)
    assert len(on_demand) == 5
    whole = encoder.encode(examples)
    for indices in ([4], [2, 0, 2]):
        for one, index in zip(on_demand.take(indices), indices, strict=True):
            other = whole[index]
            torch.testing.assert_close(one.instruction, other.instruction)
            for view, twin in zip(one.views, other.views, strict=True):
                torch.testing.assert_close(view.target_mean, twin.target_mean)
                assert view.box == twin.box


@pytest.mark.parametrize(("dtype", "within"), [("fp32", 1e-5), ("bf16", 2e-2)])
def test_without_the_cache_the_losses_are_the_same_to_rounding(
    dtype, within, tiny, edits, follow, tmp_path, metrics_of, cache
):
    config = tiny(TrainUnetConfig, edits, steps=2, batch_size=3, dtype=dtype, lr=1e-5, flip=True)
    cached = metrics_of(follow(train_unet, config, tmp_path / "cached"))
    assert len(list(cache.iterdir())) == 1
    uncached = metrics_of(follow(train_unet, replace(config, cache=False), tmp_path / "uncached"))
    assert len(list(cache.iterdir())) == 1
    for ours, theirs in zip(uncached, cached, strict=True):
        for part in ("loss", "loss_noise", "loss_region", "loss_global"):
            assert ours[part] == pytest.approx(theirs[part], rel=within), part


def test_a_second_training_encodes_nothing(tiny, edits, follow, tmp_path, monkeypatch, metrics_of):
    config = tiny(TrainUnetConfig, edits, steps=1, batch_size=3)
    first = metrics_of(follow(train_unet, config, tmp_path / "first"))

    def refuse(*_given):
        raise AssertionError("encoded again")

    monkeypatch.setattr(Encoder, "encode", refuse)
    second = metrics_of(follow(train_unet, replace(config, lr=1e-5), tmp_path / "second"))
    assert second[0]["loss"] == first[0]["loss"]


def test_a_fill_that_fails_leaves_nothing_behind(encoder, examples, cache, monkeypatch):
    def fail(*_given, **_named):
        raise OSError("No space left on device")

    monkeypatch.setattr(module, "write_tensors", fail)
    with pytest.raises(OSError, match="No space"):
        encoded(encoder, examples)
    assert not list(cache.iterdir())
    monkeypatch.setattr(module, "write_tensors", write_tensors)
    assert encoded(encoder, examples)[1].encoded == 5
