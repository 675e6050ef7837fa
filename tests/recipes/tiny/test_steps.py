"""The training loop of the embedded family."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import load_file

from ric.config import TinyConfig, TinyVaeConfig
from ric.interrupt import Interrupted
from ric.recipes.tiny.steps import batch_of_step, learning_rate
from ric.recipes.tiny.vae import train_vae


def test_the_rate_rises_in_a_line_and_falls_along_half_a_cosine_to_a_hundredth():
    config = TinyConfig(steps=1000, lr=2.0, warmup_steps=100)
    assert learning_rate(0, config) == pytest.approx(2.0 / 100, rel=1e-3)
    assert learning_rate(49, config) == pytest.approx(0.5 * 2.0, rel=1e-2)
    for step in (200, 500, 900):
        cosine = 0.5 * (1 + math.cos(math.pi * step / 1000))
        assert learning_rate(step, config) == pytest.approx(2.0 * (0.01 + 0.99 * cosine))
    assert learning_rate(1000, config) == pytest.approx(0.02)


def test_each_epoch_sees_every_item_once_in_an_order_of_its_own():
    config = TinyConfig(batch_size=4, seed=3)
    seen = [index for step in range(5) for index in batch_of_step(10, config, step)]
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:]


def test_a_training_that_was_stopped_ends_as_the_whole_one_to_the_bit(
    settings, train, stop_after, metrics_of, tmp_path
):
    config = settings(TinyVaeConfig)
    whole = train(train_vae, config, tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(train_vae, config, tmp_path / "parts", stop_after("training", 2))
    assert not (tmp_path / "parts" / "vae").exists()
    parts = train(train_vae, config, tmp_path / "parts")
    name = "vae/diffusion_pytorch_model.safetensors"
    ours, theirs = load_file(parts / name), load_file(whole / name)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert metrics_of(parts) == metrics_of(whole)


def test_the_average_is_what_is_kept(settings, train, tmp_path):
    # decay (1 + n) / (10 + n): 0.1, 2/11, 3/12, 4/13
    run = train(train_vae, settings(TinyVaeConfig), tmp_path / "run")
    step = run / "checkpoints" / "step-000004"
    kept = load_file(run / "vae" / "diffusion_pytorch_model.safetensors")
    average, model = load_file(step / "average.safetensors"), load_file(step / "model.safetensors")
    name = "decoder.conv_out.weight"
    assert torch.equal(kept[name], average[f"vae.{name}"])
    assert not torch.equal(kept[name], model[f"vae.{name}"])


def test_figures_stand_at_the_start_and_the_end(settings, train, metrics_of, tmp_path):
    rows = metrics_of(train(train_vae, settings(TinyVaeConfig), tmp_path / "run"))
    assert [row["step"] for row in rows if "val_psnr" in row] == [0, 4]
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4]
