"""The training loop of the embedded family."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from ric.config import TinyConfig, TinyVaeConfig, as_dict
from ric.interrupt import Interrupted
from ric.progress import Silent
from ric.recipes.tiny.steps import Lesson, batch_of_step, learning_rate, train_steps
from ric.recipes.tiny.vae import train_vae
from ric.runs.checkpoints import load_checkpoint
from ric.runs.open_run import open_run


def test_the_rate_rises_in_a_line_and_falls_along_half_a_cosine_to_a_hundredth():
    config = TinyConfig(steps=1000, lr=2.0, warmup_steps=100)
    assert learning_rate(0, config) == pytest.approx(2.0 / 100, rel=1e-3)
    assert learning_rate(49, config) == pytest.approx(0.5 * 2.0, rel=1e-2)
    for step in (200, 500, 900):
        cosine = 0.5 * (1 + math.cos(math.pi * step / 1000))
        assert learning_rate(step, config) == pytest.approx(2.0 * (0.01 + 0.99 * cosine))
    assert learning_rate(1000, config) == pytest.approx(0.02)


def test_the_rate_stays_for_the_share_that_is_asked_for_and_falls_in_the_rest():
    config = TinyConfig(steps=1000, lr=2.0, warmup_steps=100, constant_share=0.6)
    assert [learning_rate(step, config) for step in (100, 350, 600)] == [2.0] * 3
    cosine = 0.5 * (1 + math.cos(math.pi / 4))
    assert learning_rate(700, config) == pytest.approx(2.0 * (0.01 + 0.99 * cosine))
    assert learning_rate(1000, config) == pytest.approx(0.02)
    assert learning_rate(999, replace(config, constant_share=1.0)) == 2.0


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


def test_of_several_averages_the_one_that_is_worth_most_is_kept(settings, tmp_path):
    # the loss draws the weight from 0 towards 10; the shorter an average, the nearer to it
    config = settings(TinyVaeConfig, steps=40, lr=0.02, averages=3, ema_decay=0.0, weight_decay=0.0)

    def kept(worth) -> tuple[float, list[float]]:
        layer = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.zeros_(layer.weight)
        folder = tmp_path / worth.__name__
        with open_run("tiny-vae", as_dict(config), runs_dir=tmp_path, run=folder) as run:
            lesson = Lesson(
                {"layer": layer},
                loss_of=lambda step: {"loss": (layer.weight - 10).square().sum()},
                measure=lambda: {"val_weight": layer.weight.item()},
                worth=worth,
            )
            train_steps(lesson, config, run, Silent())
        groups, _ = load_checkpoint(folder / "checkpoints" / "step-000040")
        names = ("average", "average-1", "average-2")
        averages = [groups[name]["layer.weight"].item() for name in names]
        return layer.weight.item(), averages

    def highest(figures):
        return figures["val_weight"]

    def lowest(figures):
        return -figures["val_weight"]

    weight, averages = kept(highest)
    assert averages == sorted(averages, reverse=True)
    assert len(set(averages)) == 3
    assert weight == averages[0]
    weight, averages = kept(lowest)
    assert weight == averages[2]


def test_figures_stand_at_the_start_and_the_end(settings, train, metrics_of, tmp_path):
    rows = metrics_of(train(train_vae, settings(TinyVaeConfig), tmp_path / "run"))
    assert [row["step"] for row in rows if "val_psnr" in row] == [0, 4]
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4]
