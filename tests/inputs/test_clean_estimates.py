"""Judges are fitted also on what the base makes of noised targets: x0_hat, by its own formula."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from diffusers import DDPMScheduler

from ric.config import FitBlipConfig, FitClipConfig
from ric.data.batches import to_unit
from ric.device import draw_generator
from ric.errors import RicError
from ric.inputs.clean_estimates import MARK, with_estimates
from ric.inputs.examples import Example, Needs, load_examples
from ric.models.pipeline import load_pipeline
from ric.recipes.fit_blip import fit_blip
from ric.recipes.fit_clip import fit_clip
from ric.runs.open_run import open_run
from ric.settings import resolve_config
from ric.work import Work, open_work

CPU = torch.device("cpu")


@pytest.fixture
def fit(tiny, edits, tmp_path) -> tuple[FitClipConfig, Work, list[Example]]:
    config = tiny(FitClipConfig, edits, blur_to_t=600, batch_size=3)
    with open_run("fit-clip", {}, runs_dir=tmp_path) as run:
        work = open_work(config, run)
        return config, work, load_examples(config, work, "train", Needs(64))


@torch.no_grad()
def by_hand(pipeline, item: Example, until: int) -> tuple[int, torch.Tensor]:
    """Noise a target with diffusers' scheduler, predict, and solve its step for x_0."""
    generator = draw_generator(0, "estimate", item.id)
    t = torch.randint(until, (1,), generator=generator)
    noise = torch.randn(4, 16, 16, generator=generator)[None]
    scheduler = DDPMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    scale = pipeline.vae.config.scaling_factor
    target, source = (to_unit(one)[None] for one in (item.target, item.source))
    clean = pipeline.vae.encode(target).latent_dist.mean * scale
    noisy = scheduler.add_noise(clean, noise, t)
    mode = pipeline.vae.encode(source).latent_dist.mode()
    words = pipeline.tokenizer(
        item.instruction, padding="max_length", truncation=True, return_tensors="pt"
    )
    text = pipeline.text_encoder(words.input_ids)[0]
    prediction = pipeline.unet(torch.cat([noisy, mode], dim=1), t, text).sample
    x0_hat = scheduler.step(prediction, int(t), noisy).pred_original_sample
    return int(t), (pipeline.vae.decode(x0_hat / scale).sample[0].clamp(-1, 1) + 1) / 2


def test_an_estimate_is_what_diffusers_scheduler_solves_for_and_follows_the_targets(
    fit, tiny_family
):
    config, work, examples = fit
    shown = with_estimates(examples, config, work)
    count = len(examples)
    assert shown[:count] == examples
    pipeline = load_pipeline(tiny_family / "pipeline", CPU)
    steps = []
    for item, made in zip(examples, shown[count:], strict=True):
        assert made == replace(item, id=item.id + MARK, target=made.target)
        t, wanted = by_hand(pipeline, item, 600)
        assert (made.target / 255 - wanted).abs().max() < 1 / 255
        steps.append(t)
    assert len(set(steps)) > count // 2
    assert 100 < max(steps) < 600


def test_an_estimate_is_that_of_its_seed_and_sample_whatever_stands_beside_it(fit):
    config, work, examples = fit
    alone = with_estimates(examples[4:5], config, work)[1].target.int()
    beside_others = with_estimates(examples, config, work)[-4].target.int()
    assert (alone - beside_others).abs().max() <= 1  # sums of another batch round otherwise
    other = with_estimates(examples[4:5], replace(config, seed=1), work)[1].target.int()
    assert (alone - other).abs().float().mean() > 2


@pytest.mark.parametrize(
    ("recipe", "kind", "epochs"),
    [
        (fit_clip, FitClipConfig, {"fusion_epochs": 1, "joint_epochs": 1, "controls": False}),
        (fit_blip, FitBlipConfig, {"epochs": 2}),
    ],
    ids=["clip", "blip"],
)
def test_a_fit_goes_through_both_pictures_of_each_sample_and_is_measured_on_sharp_ones(
    recipe, kind, epochs, tiny, edits, follow, tmp_path, metrics_of
):
    settings = {"batch_size": 4, "log_every": 1, **epochs}
    sharp = follow(recipe, tiny(kind, edits, **settings), tmp_path / "sharp")
    both = follow(recipe, tiny(kind, edits, **settings, blur_to_t=400), tmp_path / "both")
    steps = [[row["step"] for row in metrics_of(run) if "loss" in row] for run in (sharp, both)]
    assert [max(of_run) for of_run in steps] == [4, 8]  # eight samples
    untrained = [
        next(row for row in metrics_of(run) if "val_i2t_recall_at_1" in row)
        for run in (sharp, both)
    ]
    assert untrained[0] == untrained[1]
    weights = json.loads((both / "run.json").read_text())["weights"]
    assert weights["pipeline"]["id"] == "tiny"
    assert "pipeline" not in json.loads((sharp / "run.json").read_text())["weights"]


def test_a_size_that_the_base_cannot_read_and_a_base_without_use_are_refused(fit):
    config, work, examples = fit
    with pytest.raises(RicError, match="need a multiple of 8"):
        with_estimates(examples, replace(config, image_size=50), work)
    for kind in (FitClipConfig, FitBlipConfig):
        with pytest.raises(RicError, match="uses --base only with --blur-to-t"):
            resolve_config(kind, {"data": "scenes:9", "base": "runs/1"})
