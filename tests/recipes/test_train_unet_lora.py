"""`ric train-unet --lora-rank`: what is trained, kept and exported."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline, UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor

from ric.config import TrainUnetConfig
from ric.errors import RicError
from ric.interrupt import Interrupted
from ric.models.pipeline import forget_source_channels, load_pipeline
from ric.preflight.checks import check
from ric.recipes.train_unet import train_unet

RANK = 3
SETTINGS = {"steps": 3, "batch_size": 2, "checkpoint_every": 3, "lora_rank": RANK, "lr": 1e-2}


@pytest.fixture(scope="module")
def config(tiny, edits) -> TrainUnetConfig:
    return tiny(TrainUnetConfig, edits, **SETTINGS)


@pytest.fixture(scope="module")
def run(config, follow, tmp_path_factory) -> Path:
    return follow(train_unet, config, tmp_path_factory.mktemp("lora") / "run")


def unet_of(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")


def updates_of(run: Path) -> dict[str, Tensor]:
    return load_file(run / "lora" / "pytorch_lora_weights.safetensors")


@torch.no_grad()
def answer(unet: UNet2DConditionModel) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    width = unet.config.cross_attention_dim
    latents, text = torch.randn(1, 8, 16, 16, generator=draw), torch.randn(1, 9, width)
    return unet.eval()(latents, torch.tensor([500]), 0 * text + 0.1).sample


def test_only_the_updates_are_trained_and_kept(run):
    checkpoint = run / "checkpoints" / "step-000003"
    weights = load_file(checkpoint / "model.safetensors")
    assert weights
    assert all("lora_A" in name or "lora_B" in name for name in weights)
    assert {min(weight.shape) for weight in weights.values()} == {RANK}
    assert (checkpoint / "average.safetensors").stat().st_size < 1e6
    assert all(weight.abs().max() > 0 for name, weight in weights.items() if "lora_B" in name)


def test_the_exported_pipeline_is_the_base_plus_b_times_a(run, tiny_family):
    merged, base, updates = unet_of(run / "pipeline"), unet_of(tiny_family / "pipeline"), {}
    for name, tensor in updates_of(run).items():
        layer, _, part = name.removeprefix("unet.").partition(".lora.")
        updates.setdefault(f"{layer}.weight", {})[part] = tensor
    assert merged.keys() == base.keys()
    for name, weight in merged.items():
        update = updates.pop(name, None)
        expected = base[name].float()
        if update:
            expected = expected + update["up.weight"] @ update["down.weight"]
            assert not torch.equal(weight, base[name].float())
        torch.testing.assert_close(weight, expected, atol=1e-6, rtol=1e-5)
    assert not updates


def test_diffusers_loads_the_updates_onto_the_base_and_answers_as_the_exported_pipeline(
    run, tiny_family
):
    base = StableDiffusionInstructPix2PixPipeline.from_pretrained(
        tiny_family / "pipeline", safety_checker=None, dtype=torch.float32
    )
    before = answer(base.unet)
    base.load_lora_weights(run / "lora")
    exported = UNet2DConditionModel.from_pretrained(run / "pipeline" / "unet")
    torch.testing.assert_close(answer(base.unet), answer(exported), atol=1e-5, rtol=1e-4)
    assert (answer(base.unet) - before).abs().max() > 1e-3


def test_a_stopped_run_ends_as_the_whole_one_to_the_bit(run, config, follow, stop_after, tmp_path):
    with pytest.raises(Interrupted):
        follow(train_unet, config, tmp_path / "run", stop_after("training", 2))
    again = follow(train_unet, config, tmp_path / "run")
    ours, whole = updates_of(again), updates_of(run)
    assert ours.keys() == whole.keys()
    assert all(torch.equal(ours[name], whole[name]) for name in whole)


def test_a_base_that_reads_no_source_is_refused(config, follow, tiny_family, tmp_path):
    pipeline = load_pipeline(tiny_family / "pipeline", torch.device("cpu"))
    forget_source_channels(pipeline.unet)
    pipeline.save_pretrained(tmp_path / "base")
    settings = TrainUnetConfig(**{**vars(config), "base": str(tmp_path / "base")})
    with pytest.raises(RicError, match="--lora-rank needs a base that reads a source picture"):
        follow(train_unet, settings, tmp_path / "run")


def test_without_peft_one_line_says_how_to_get_it(config, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(RicError, match="--lora-rank needs peft") as error:
        check(config, tmp_path)
    assert "ric[lora]" in error.value.hint
