from __future__ import annotations

import copy
import json
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderTiny,
    DDPMScheduler,
    StableDiffusionInstructPix2PixPipeline,
    UNet2DConditionModel,
)
from diffusers.models.resnet import ResnetBlock2D
from gradient_distance import first_moments, relative_distances
from noting import Noting
from PIL import Image, ImageDraw
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import cosine_similarity, mse_loss
from torch.nn.modules.module import register_module_forward_pre_hook

from ric.config import TrainUnetConfig
from ric.data.batches import to_unit
from ric.device import draw_generator, pick_device
from ric.distributed import refuse_batch
from ric.errors import RicError
from ric.inputs import training_set
from ric.inputs.batches import Batch, TrainingSet, draw_batch, draw_sample, index_at
from ric.inputs.encodings import Encoder
from ric.inputs.examples import Example, Needs, load_examples
from ric.interrupt import Interrupted
from ric.memory.plan import plan_memory
from ric.memory.step import count_step
from ric.method.region_encoder import RegionEncoder
from ric.method.scene_encoder import SceneEncoder
from ric.models.pipeline import load_pipeline, read_source_channels, refuse_size
from ric.recipes import train_unet as module
from ric.recipes.train_unet import train_unet
from ric.runs.open_run import open_run
from ric.training import unet_step
from ric.training.unet_step import micro_batches
from ric.work import open_work

NO_JUDGES = {"region_loss": False, "global_loss": False}
LATENT = (4, 16, 16)


@pytest.fixture(scope="module")
def config(tiny, edits) -> Callable[..., TrainUnetConfig]:
    """Three steps of batch size 4 with a checkpoint at each, all kept."""

    def make(data: Path = edits, **changes: Any) -> TrainUnetConfig:
        settings = {"steps": 3, "batch_size": 4, "checkpoint_every": 1, "keep_checkpoints": 9}
        return tiny(TrainUnetConfig, data, **settings | changes)

    return make


@pytest.fixture(scope="module")
def full(config, follow, tmp_path_factory) -> Path:
    """A run with both judges and the average."""
    return follow(train_unet, config(), tmp_path_factory.mktemp("full") / "run")


@pytest.fixture
def pipeline(tiny_family) -> StableDiffusionInstructPix2PixPipeline:
    return load_pipeline(tiny_family / "pipeline", torch.device("cpu"))


def group(run: Path, step: int, name: str) -> dict[str, Tensor]:
    return load_file(run / "checkpoints" / f"step-{step:06d}" / f"{name}.safetensors")


def exported(run: Path) -> dict[str, Tensor]:
    return load_file(run / "pipeline" / "unet" / "diffusion_pytorch_model.safetensors")


@contextmanager
def unet_calls() -> Iterator[list[tuple[Tensor, ...]]]:
    """Collect the arguments of every call of a UNet."""
    calls: list[tuple[Tensor, ...]] = []

    def keep(called: torch.nn.Module, arguments: tuple[Tensor, ...]) -> None:
        if isinstance(called, UNet2DConditionModel):
            calls.append(arguments)

    handle = register_module_forward_pre_hook(keep)
    try:
        yield calls
    finally:
        handle.remove()


def examples_of(config: TrainUnetConfig, folder: Path) -> list[Example]:
    with open_run("train-unet", {}, runs_dir=folder) as run:
        return load_examples(
            config, open_work(config, run), "train", Needs(64, region_text="region_text")
        )


def prepare(
    examples: list[Example],
    pipeline: StableDiffusionInstructPix2PixPipeline,
    region_judge: RegionEncoder | None = None,
    *,
    flip: bool = False,
) -> TrainingSet:
    """Encode the examples in float32, in one pass."""
    encoder = Encoder(pipeline, region_judge, None, torch.float32, flip)
    scale = pipeline.vae.config.scaling_factor
    return TrainingSet(encoder.encode(examples), encoder.null_prompt(), scale, 1000)


# --- what the UNet sees --------------------------------------------------------------------------


def test_the_unet_s_first_input_is_what_diffusers_training_script_builds(
    config, follow, edits, pipeline, tmp_path
):
    settings = config(steps=1, conditioning_dropout=0.0, **NO_JUDGES)
    with unet_calls() as calls:
        follow(train_unet, settings, tmp_path / "run")
    ours, timesteps = calls[0][:2]

    order = torch.randperm(8, generator=draw_generator(0, "epoch", 0)).tolist()[:4]
    draws = [draw_sample(0, 0, k, shape=LATENT, num_timesteps=1000, dropout=0) for k in range(4)]
    vae, scheduler = pipeline.vae, DDPMScheduler.from_config(pipeline.scheduler.config)

    def pixels(kind: str) -> Tensor:
        pictures = [
            np.array(Image.open(edits / kind / f"{n:02d}.png").convert("RGB").resize((64, 64)))
            for n in order
        ]
        # contiguous as in the script: another layout sums in another order
        return 2 * (torch.tensor(np.stack(pictures)).permute(0, 3, 1, 2).contiguous() / 255) - 1

    with torch.no_grad():
        posterior = vae.encode(pixels("target")).latent_dist
        sample = posterior.mean + posterior.std * torch.stack([draw.spread for draw in draws])
        latents = sample * vae.config.scaling_factor
        noise = torch.stack([draw.noise for draw in draws])
        steps = torch.tensor([draw.timestep for draw in draws])
        noisy = scheduler.add_noise(latents, noise, steps)
        original = vae.encode(pixels("source")).latent_dist.mode()
    theirs = torch.cat([noisy, original], dim=1)
    assert ours.shape == (4, 8, 16, 16)
    assert torch.equal(timesteps, steps)
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-5)


def test_prompts_are_the_pipeline_s_own_and_a_dropped_one_is_that_of_an_empty_text(
    config, pipeline, tmp_path
):
    settings = config(**NO_JUDGES)
    examples = examples_of(settings, tmp_path)
    data = prepare(examples, pipeline)
    for item, prepared in zip(examples, data.samples, strict=True):
        expected = pipeline._encode_prompt(item.instruction, "cpu", 1, False)[0]
        torch.testing.assert_close(prepared.instruction, expected)
    torch.testing.assert_close(data.null_prompt, pipeline._encode_prompt("", "cpu", 1, False)[0])
    assert data.num_timesteps == 1000
    assert data.scaling_factor == pipeline.vae.config.scaling_factor


def test_a_flip_mirrors_what_the_vae_sees_and_the_box_and_spares_texts_that_name_a_side(
    config, make_edits, pipeline, tmp_path
):
    sides = {
        1: {"instruction": "add a ball left of the tree"},
        2: {"region_text": "a clock whose hand turns clockwise"},
        3: {"scene_text": "The ball lies on the right-hand side."},
        4: {"scene_text": "It is bright."},
    }
    data = make_edits(5, sides)
    settings = config(data, flip=True)
    examples = examples_of(settings, tmp_path)
    prepared = prepare(examples, pipeline, flip=True).samples
    assert [len(item.views) for item in prepared] == [2, 1, 1, 1, 2]
    for item, twice in zip(examples[::4], prepared[::4], strict=True):
        plain, mirrored = twice.views
        for kind, ours in (("source", mirrored.source), ("target", mirrored.target_mean)):
            picture = to_unit(getattr(item, kind)).flip(-1)[None]
            with torch.no_grad():
                expected = pipeline.vae.encode(picture).latent_dist.mode()[0]
            torch.testing.assert_close(ours, expected)
        assert plain.box == item.box
        region = torch.zeros(64, 64)
        x_min, y_min, x_max, y_max = item.box
        region[y_min:y_max, x_min:x_max] = 1
        x_min, y_min, x_max, y_max = mirrored.box
        assert region.flip(-1)[y_min:y_max, x_min:x_max].all()
        assert (x_max - x_min) * (y_max - y_min) == region.sum()
    assert all(len(item.views) == 1 for item in prepare(examples, pipeline).samples)


def test_ignore_signature_hides_the_strip_from_the_target_s_latents(config, make_edits, tmp_path):
    data = make_edits(2)
    for n in range(2):
        target = Image.open(data / "source" / f"{n:02d}.png")
        ImageDraw.Draw(target).rectangle((89, 79, 96, 80), fill="#ff00ff")
        target.save(data / "target" / f"{n:02d}.png")
    # the strip is all that differs: hidden, the target is the source
    for ignore in (True, False):
        settings = config(data, ignore_signature=ignore, **NO_JUDGES)
        for item in examples_of(settings, tmp_path):
            assert torch.equal(item.source, item.target) is ignore


# --- Eq. 10 and its ablations --------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [2, 4])
def test_a_batch_in_pieces_gives_the_gradients_and_losses_of_the_whole(
    pieces, config, follow, tmp_path, metrics_of
):
    # seed 6 drops text or picture of some of the first eight, so that pieces keep unequal numbers
    settings = {"steps": 1, "seed": 6, "batch_size": 8, "conditioning_dropout": 0.2}
    draws = [draw_sample(6, 0, k, shape=(1,), num_timesteps=9, dropout=0.2) for k in range(8)]
    assert 0 < sum(draw.drop_text or draw.drop_source for draw in draws) < 8
    settings["max_grad_norm"] = 1e9
    whole = follow(train_unet, config(**settings), tmp_path / "whole")
    parts = follow(train_unet, config(**settings, accumulate=pieces), tmp_path / "parts")
    for one, other in zip(metrics_of(whole), metrics_of(parts), strict=True):
        assert {k: v for k, v in one.items() if k != "step"} == pytest.approx(
            {k: v for k, v in other.items() if k != "step"}, abs=1e-5, rel=1e-5
        )
    # after one step a moment is a tenth of the gradient
    apart = relative_distances(first_moments(parts, step=1), first_moments(whole, step=1))
    assert max(apart.values()) < 1e-5


def test_balanced_alignments_pull_as_hard_as_asked_of_the_noise_term(
    config, follow, tmp_path, metrics_of
):
    settings = {"steps": 4, "log_every": 1, "balance": 0.5}
    run = follow(train_unet, config(**settings), tmp_path / "run")
    rows = metrics_of(run)
    assert rows[0]["balance_region"] == rows[0]["balance_global"] == 0
    assert rows[0]["loss"] == pytest.approx(rows[0]["loss_noise"])
    averages: dict[str, float] = {}
    for before, row in pairwise(rows):
        for term in ("noise", "region", "global"):
            norm = before[f"grad_norm_{term}"]
            averages[term] = 0.9 * averages.get(term, norm) + 0.1 * norm
        for term in ("region", "global"):
            pull = row[f"balance_{term}"] * averages[term]
            assert pull == pytest.approx(0.5 * averages["noise"])
        assert row["loss"] == pytest.approx(
            row["loss_noise"]
            + row["balance_region"] * row["loss_region"]
            + row["balance_global"] * row["loss_global"]
        )
    parts = follow(train_unet, config(**settings, accumulate=2), tmp_path / "parts")
    for one, other in zip(rows, metrics_of(parts), strict=True):
        assert other["balance_region"] == pytest.approx(one["balance_region"], rel=1e-4)
        assert other["balance_global"] == pytest.approx(one["balance_global"], rel=1e-4)


def test_clipped_alignments_pull_at_most_as_hard_as_asked_of_the_noise_term(
    config, follow, tmp_path, metrics_of
):
    settings = {"steps": 2, "log_every": 1}
    first, free = metrics_of(
        follow(train_unet, config(**settings, clip_alignments=1e9), tmp_path / "free")
    )
    assert free["balance_region"] == free["balance_global"] == 1
    assert free["loss"] == pytest.approx(
        free["loss_noise"] + free["loss_region"] + free["loss_global"]
    )
    _, row = metrics_of(
        follow(train_unet, config(**settings, clip_alignments=0.1), tmp_path / "clipped")
    )
    for term in ("region", "global"):
        pull = row[f"balance_{term}"] * first[f"grad_norm_{term}"]
        assert pull == pytest.approx(
            min(0.1 * first["grad_norm_noise"], first[f"grad_norm_{term}"])
        )


def test_a_batch_smaller_than_the_number_of_processes_is_refused():
    refuse_batch(2, 2)
    with pytest.raises(RicError, match="--batch-size is 1, fewer than the 2 processes"):
        refuse_batch(1, 2)


def test_micro_batches_cover_the_batch_in_at_most_so_many_pieces():
    assert micro_batches(range(4), 1) == [range(4)]
    assert micro_batches(range(4), 2) == [range(2), range(2, 4)]
    assert micro_batches(range(5), 2) == [range(3), range(3, 5)]
    assert micro_batches(range(2), 7) == [range(1), range(1, 2)]


def plain_fine_tuning(
    pipeline: StableDiffusionInstructPix2PixPipeline, data: TrainingSet, config: TrainUnetConfig
) -> tuple[list[float], dict[str, Tensor]]:
    """Fine-tune as diffusers' script does: MSE of the noise, AdamW, clipping."""
    unet, scheduler = pipeline.unet, DDPMScheduler.from_config(pipeline.scheduler.config)
    unet.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(
        unet.parameters(), lr=1e-4, betas=(0.9, 0.999), weight_decay=1e-2, foreach=False
    )
    losses = []
    for step in range(config.steps):
        batch = draw_batch(data, config, step, range(config.batch_size))
        noisy = scheduler.add_noise(batch.clean, batch.noise, batch.timesteps)
        both = torch.cat([noisy, batch.source], dim=1)
        predicted = unet(both, batch.timesteps, batch.instructions).sample
        loss = mse_loss(predicted, batch.noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses, unet.state_dict()


@pytest.fixture(scope="module")
def plain(config, follow, tmp_path_factory) -> Path:
    """A run with neither judge nor average; its judges do not even exist."""
    settings = config(ema=False, region_clip="no/such", scene_blip="no/such", **NO_JUDGES)
    return follow(train_unet, settings, tmp_path_factory.mktemp("plain") / "run")


def test_with_both_losses_off_it_is_plain_fine_tuning(
    plain, config, pipeline, tmp_path, metrics_of, record_of
):
    settings = config(**NO_JUDGES)
    data = prepare(examples_of(settings, tmp_path), pipeline)
    losses, weights = plain_fine_tuning(pipeline, data, settings)
    rows = metrics_of(plain)
    assert [row["loss"] for row in rows] == pytest.approx(losses, rel=1e-5)
    assert all(row["loss_region"] == row["loss_global"] == 0 for row in rows)
    for name, weight in exported(plain).items():
        # Adam's first steps are of size lr whatever the gradient: rounding shows at 0 gradients
        torch.testing.assert_close(weight, weights[name], atol=2e-5, rtol=1e-4)
    assert record_of(plain)["weights"].keys() == {"pipeline"}


def test_the_total_is_the_weighted_sum_of_its_parts(config, follow, tmp_path, metrics_of):
    weights = {"region_weight": 0.5, "global_weight": 2.0, "noise_weight": 3.0}
    run = follow(train_unet, config(steps=2, **weights), tmp_path / "run")
    for row in metrics_of(run):
        assert row["loss_region"] > 0.1
        assert row["loss_global"] > 0.1
        total = 0.5 * row["loss_region"] + 2 * row["loss_global"] + 3 * row["loss_noise"]
        assert row["loss"] == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize(
    ("off", "judge", "key", "other"),
    [
        ("region_loss", "region_clip", "loss_region", "loss_global"),
        ("global_loss", "scene_blip", "loss_global", "loss_region"),
    ],
)
def test_a_loss_that_is_off_is_zero_its_judge_is_not_loaded_and_the_rest_is_as_before(
    off, judge, key, other, full, config, follow, tmp_path, metrics_of, record_of
):
    settings = config(steps=1, **{off: False, judge: "no/such"})
    run = follow(train_unet, settings, tmp_path / "run")
    row, before = metrics_of(run)[0], metrics_of(full)[0]
    assert row[key] == 0
    assert row[other] == pytest.approx(before[other], rel=1e-5)
    assert row["loss_noise"] == pytest.approx(before["loss_noise"], rel=1e-5)
    assert judge not in record_of(run)["weights"]


@torch.no_grad()
def predicted_clean(pipeline: StableDiffusionInstructPix2PixPipeline, batch: Batch) -> Tensor:
    """Eq. 5 for a batch in a straight line: x0_hat, scaled."""
    scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
    noisy = scheduler.add_noise(batch.clean, batch.noise, batch.timesteps)
    both = torch.cat([noisy, batch.source], dim=1)
    predicted = pipeline.unet(both, batch.timesteps, batch.instructions).sample
    share = scheduler.alphas_cumprod[batch.timesteps][:, None, None, None]
    return (noisy - (1 - share).sqrt() * predicted) / share.sqrt()


@torch.no_grad()
def crops_distance(judge: RegionEncoder, pixels: Tensor, batch: Batch) -> float:
    """Eq. 8 in a straight line, of CLIP's own embeddings of the crops."""
    tower, crops = judge.tower, judge.region_pixels(pixels.clamp(-1, 1), batch.boxes)
    seen = tower.visual_projection(tower.vision_model(pixel_values=crops).pooler_output)
    return (1 - cosine_similarity(seen, batch.region_aims)).mean().item()


@pytest.fixture(scope="module")
def unfused(tiny_family, tmp_path_factory) -> str:
    """A region judge without gated fusion."""
    folder = tmp_path_factory.mktemp("unfused") / "region_encoder"
    RegionEncoder.from_clip(tiny_family / "clip", gated=False).save_pretrained(folder)
    return str(folder)


def test_without_gated_fusion_clip_s_own_embedding_of_the_crop_is_judged(
    full, unfused, config, follow, pipeline, tiny_family, tmp_path, metrics_of
):
    settings = config(steps=1, gated_fusion=False, region_clip=unfused, conditioning_dropout=0.0)
    run = follow(train_unet, settings, tmp_path / "run")
    judge = RegionEncoder.from_clip(tiny_family / "clip")
    data = prepare(examples_of(settings, tmp_path), pipeline, judge)
    batch = draw_batch(data, settings, 0, range(4))
    with torch.no_grad():
        pixels = pipeline.vae.decode(predicted_clean(pipeline, batch) / data.scaling_factor).sample
    expected = crops_distance(judge, pixels, batch)
    row = metrics_of(run)[0]
    assert row["loss_region"] == pytest.approx(expected, abs=1e-4)
    assert row["loss_region"] != pytest.approx(metrics_of(full)[0]["loss_region"], abs=1e-3)


def test_aligned_to_the_target_each_judge_compares_with_what_it_makes_of_the_target(
    config, follow, pipeline, tiny_family, tmp_path, metrics_of
):
    settings = config(steps=1, align_to="target", conditioning_dropout=0.0)
    row = metrics_of(follow(train_unet, settings, tmp_path / "run"))[0]
    region = RegionEncoder.from_pretrained(tiny_family / "region_encoder")
    scene = SceneEncoder.from_pretrained(tiny_family / "scene_encoder")
    data = prepare(examples_of(settings, tmp_path), pipeline, region)
    batch = draw_batch(data, settings, 0, range(4))
    items = data.take([index_at(k, len(data.samples), settings.seed) for k in range(4)])
    targets = torch.stack([item.views[0].target_mean for item in items])
    predicted = predicted_clean(pipeline, batch) / data.scaling_factor
    with torch.no_grad():
        both = [pipeline.vae.decode(one).sample.clamp(-1, 1) for one in (predicted, targets)]
        near = cosine_similarity(*(region.encode_region(one, batch.boxes) for one in both))
        near_scene = cosine_similarity(*(scene.encode_image(one) for one in both))
    assert row["cos_region"] == pytest.approx(near.mean().item(), abs=1e-4)
    assert row["loss_region"] == pytest.approx((1 - near).mean().item(), abs=1e-4)
    assert row["loss_global"] == pytest.approx((1 - near_scene).mean().item(), abs=1e-4)


def test_a_judge_is_asked_only_for_what_it_was_fitted_for(config, unfused, follow, tmp_path):
    with pytest.raises(RicError, match="--no-gated-fusion, but tiny was fitted with gated") as one:
        follow(train_unet, config(gated_fusion=False), tmp_path / "one")
    assert one.value.hint.endswith("--no-gated-fusion")
    with pytest.raises(RicError, match="was fitted without gated fusion") as other:
        follow(train_unet, config(region_clip=unfused), tmp_path / "other")
    assert "--no-gated-fusion" in other.value.hint


# of Tables 2 and 3
ARMS: dict[str, dict[str, Any]] = {
    "all": {},
    "without region loss": {"region_loss": False},
    "without scene loss": {"global_loss": False},
    "without both": NO_JUDGES,
    "without fusion": {"gated_fusion": False},
}


def test_every_ablation_sees_the_same_samples_noise_and_timesteps_in_the_same_order(
    config, unfused, make_edits, follow, tmp_path, record_of, monkeypatch
):
    missing = {2: {"region_text": None}, 3: {"scene_text": None}}
    data = make_edits(8, missing)
    Image.new("L", (96, 80)).save(data / "mask" / "01.png")
    (data / "target" / "04.png").write_bytes(b"no picture")
    settings = config(data, steps=2, flip=True, allow_missing_text=True)
    seen: dict[str, list[Batch]] = {}
    for arm, changes in ARMS.items():
        batches = seen[arm] = []

        def watched(*given: Any, batches: list[Batch] = batches) -> Batch:
            batches.append(draw_batch(*given))
            return batches[-1]

        monkeypatch.setattr(unet_step, "draw_batch", watched)
        if "gated_fusion" in changes:
            changes = {**changes, "region_clip": unfused}
        run = follow(train_unet, replace(settings, **changes), tmp_path / arm)
        ids = [json.loads(line)["id"] for line in (run / "samples.jsonl").read_text().splitlines()]
        assert ids == ["00", "01", "02", "03", "05", "06", "07"]
        assert [row["id"] for row in map(json.loads, (run / "failures.jsonl").open())] == ["04"]
        if changes.get("region_loss", True):
            assert list(record_of(run)["bad_masks"]) == ["01"]
    for arm in ARMS:
        for ours, theirs in zip(seen[arm], seen["all"], strict=True):
            for name in ("source", "clean", "noise", "timesteps", "instructions"):
                assert torch.equal(getattr(ours, name), getattr(theirs, name)), (arm, name)
    assert any(box is None for batch in seen["all"] for box in batch.boxes)


@pytest.mark.parametrize("fit", ["squash", "crop"])
def test_a_bad_mask_costs_a_sample_its_region_loss_and_nothing_else(
    fit, config, make_edits, follow, tmp_path, metrics_of, record_of
):
    data = make_edits(2)
    for name in ("00", "01"):
        Image.new("L", (96, 80)).save(data / "mask" / f"{name}.png")
    settings = config(data, steps=1, fit=fit, conditioning_dropout=0.0)
    run = follow(train_unet, settings, tmp_path / "run")
    row = metrics_of(run)[0]
    assert row["loss_region"] == 0
    assert row["loss_global"] > 0.1
    assert not (run / "failures.jsonl").exists()
    assert set(record_of(run)["bad_masks"]) == {"00", "01"}


def test_texts_that_are_cut_are_counted_told_and_stand_in_the_card(
    config, make_edits, follow, tmp_path, record_of
):
    long = "a red ball " * 200
    data = make_edits(3, {0: {"instruction": long}, 1: {"region_text": long, "scene_text": long},
                          2: {"instruction": long}})  # fmt: skip
    noting = Noting()
    run = follow(train_unet, config(data, steps=1), tmp_path / "run", noting)
    cut = {"instruction": 2, "region_text": 1, "scene_text": 1}
    assert record_of(run)["truncated_texts"] == cut
    told = [line for line in noting.lines if line.endswith("the end is cut off")]
    assert [line.split()[0] for line in told] == ["2", "1", "1"]
    card = (run / "pipeline" / "README.md").read_text()
    assert (
        "texts cut because they were too long: instruction 2, region_text 1, scene_text 1" in card
    )


def test_gradient_checkpointing_computes_unet_and_decoder_again_and_changes_no_gradient(
    config, follow, tmp_path, metrics_of, monkeypatch
):
    settings = config(steps=2, batch_size=2, conditioning_dropout=0.0, log_every=2)
    calls, runs = {}, {}
    forward = ResnetBlock2D.forward
    for again in (False, True):
        count: list[bool] = []

        def counted(block: Any, *given: Any, count: list[bool] = count, **named: Any) -> Tensor:
            count.append(torch.is_grad_enabled())
            return forward(block, *given, **named)

        monkeypatch.setattr(ResnetBlock2D, "forward", counted)
        changed = replace(settings, gradient_checkpointing=again)
        runs[again] = follow(train_unet, changed, tmp_path / f"{again}")
        calls[again] = sum(count)
    assert calls[True] > 1.8 * calls[False]
    ours, theirs = (first_moments(runs[again], step=1) for again in (True, False))
    assert max(relative_distances(ours, theirs).values()) < 1e-5
    assert metrics_of(runs[True])[-1]["loss"] == pytest.approx(
        metrics_of(runs[False])[-1]["loss"], rel=1e-4
    )


def test_with_memory_given_the_plan_is_told_kept_and_followed(
    config, follow, tmp_path, record_of, metrics_of
):
    progress = Noting()
    settings = config(steps=1, batch_size=8, dtype="bf16")
    step = count_step(settings, tmp_path)
    least = plan_memory(step, replace(settings, accumulate=8, gradient_checkpointing=True), 99)
    run = follow(train_unet, replace(settings, memory=least.total), tmp_path / "run", progress)
    plan = record_of(run)["memory_plan"]
    assert plan["accumulate"] > 1
    assert progress.lines[0].startswith(f"--accumulate {plan['accumulate']} ")
    assert ("--adam-8bit" in progress.lines[0]) == plan["adam_8bit"]
    kept = group(run, 1, "moments")
    assert any(tensor.dtype == torch.uint8 for tensor in kept.values()) == plan["adam_8bit"]
    plain = metrics_of(follow(train_unet, settings, tmp_path / "plain"))[0]
    assert metrics_of(run)[0]["loss"] == pytest.approx(plain["loss"], rel=1e-2)  # bf16's rounding


@pytest.mark.parametrize("where", ["load_base", "encode_training_set", "_train"])
def test_a_gpu_without_memory_left_names_the_next_plan(
    where, config, follow, tmp_path, monkeypatch
):
    def full(*given: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    monkeypatch.setattr(module, where, full)
    with pytest.raises(RicError, match="The GPU ran out of memory") as error:
        follow(train_unet, config(batch_size=8), tmp_path / "run")
    assert "The next plan takes about 0." in error.value.hint
    assert "--accumulate 2" in error.value.hint


@pytest.mark.slow
def test_compiled_networks_take_the_same_steps(config, follow, tmp_path, metrics_of):
    settings = config(steps=2, batch_size=2)
    plain = follow(train_unet, settings, tmp_path / "plain")
    compiled = follow(train_unet, replace(settings, compile=True), tmp_path / "compiled")
    for ours, theirs in zip(metrics_of(compiled), metrics_of(plain), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-5)
    ours, theirs = (first_moments(run, step=1) for run in (compiled, plain))
    assert max(relative_distances(ours, theirs).values()) < 1e-3
    assert (compiled / "pipeline" / "model_index.json").is_file()


@pytest.mark.slow
def test_compiling_without_a_compiler_says_so_in_one_line(config, follow, tmp_path, monkeypatch):
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("no-such-compiler",))
    monkeypatch.setattr(torch._inductor.config, "force_disable_caches", True)
    with pytest.raises(RicError, match="--compile does not work here: ") as error:
        follow(train_unet, config(steps=1, batch_size=1, compile=True), tmp_path / "run")
    assert "omit --compile" in error.value.hint


def test_a_run_with_moments_in_8_bits_resumes_to_the_bit(config, follow, stop_after, tmp_path):
    settings = config(adam_8bit=True, checkpoint_every=3, lr=1e-3)
    whole = follow(train_unet, settings, tmp_path / "whole")
    moments = group(whole, 3, "moments")
    kinds = {tensor.dtype for name, tensor in moments.items() if name.endswith(":state1")}
    assert kinds == {torch.uint8, torch.float32}  # small tensors stay as they are
    with pytest.raises(Interrupted):
        follow(train_unet, settings, tmp_path / "run", stop_after("training", 2))
    run = follow(train_unet, settings, tmp_path / "run")
    ours, theirs = exported(run), exported(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.fixture(scope="module")
def small_decoder(tmp_path_factory) -> Path:
    """An AutoencoderTiny of random weights for latents of a quarter of the side."""
    folder = tmp_path_factory.mktemp("small") / "decoder"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        write_small_decoder(folder, blocks=3)
    return folder


def write_small_decoder(folder: Path, blocks: int) -> None:
    blocks_of = {f"num_{part}_blocks": (1,) * blocks for part in ("encoder", "decoder")}
    widths = {f"{part}_block_out_channels": (8,) * blocks for part in ("encoder", "decoder")}
    AutoencoderTiny(**blocks_of, **widths).save_pretrained(folder)


def test_a_small_decoder_decodes_for_the_judges_and_leaves_the_noise_loss_alone(
    full, unfused, small_decoder, config, follow, pipeline, tiny_family, tmp_path, metrics_of,
    record_of,
):  # fmt: skip
    settings = config(steps=2, gated_fusion=False, region_clip=unfused, conditioning_dropout=0.0,
                      global_loss=False)  # fmt: skip
    run = follow(train_unet, replace(settings, loss_decoder=str(small_decoder)), tmp_path / "small")
    judge = RegionEncoder.from_clip(tiny_family / "clip")
    data = prepare(examples_of(settings, tmp_path), pipeline, judge)
    batch = draw_batch(data, settings, 0, range(4))
    decoder = AutoencoderTiny.from_pretrained(small_decoder)
    with torch.no_grad():  # its latents are the scaled ones
        pixels = decoder.decode(predicted_clean(pipeline, batch)).sample
    expected = crops_distance(judge, pixels, batch)
    row = metrics_of(run)[0]
    assert row["loss_region"] == pytest.approx(expected, abs=1e-4)
    assert row["grad_norm_region"] > 0
    usual = metrics_of(follow(train_unet, settings, tmp_path / "usual"))[0]
    assert row["loss_noise"] == usual["loss_noise"]
    assert row["loss_region"] != pytest.approx(usual["loss_region"], abs=1e-3)
    assert record_of(run)["weights"]["loss_decoder"]["id"] == str(small_decoder)


def test_a_small_decoder_of_other_latents_and_a_folder_without_one_are_refused(
    config, follow, tiny_family, tmp_path
):
    write_small_decoder(tmp_path / "other", blocks=4)
    for folder, words in (
        (tmp_path / "other", "is for latents of 4 channels at 1/8 of the side; this pipeline's have"
         " 4 at 1/4."),
        (tiny_family / "pipeline" / "vae", "holds no AutoencoderTiny."),
        (tiny_family / "clip", "clip"),
    ):  # fmt: skip
        with pytest.raises(RicError) as error:
            follow(train_unet, config(loss_decoder=str(folder)), tmp_path / f"run-{folder.name}")
        assert words in error.value.message
        assert error.value.hint.endswith("vae.")


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("region_clip", "The region loss needs a fitted judge: --region-clip RUN"),
        ("scene_blip", "The scene loss needs a fitted judge: --scene-blip RUN"),
    ],
)
def test_a_loss_without_its_judge_says_how_to_get_one(missing, words, config, follow, tmp_path):
    with pytest.raises(RicError, match=words) as error:
        follow(train_unet, config(**{missing: None}), tmp_path / "run")
    assert "train without that loss: --no-" in error.value.hint


# --- what comes out ------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0.9999, 0.15])
def test_the_exported_weights_are_the_written_out_moving_average(
    limit, full, config, follow, tiny_family, tmp_path
):
    run = full
    if limit != TrainUnetConfig.ema_decay:
        run = follow(train_unet, config(ema_decay=limit, **NO_JUDGES), tmp_path / "run")
    base = tiny_family / "pipeline" / "unet" / "diffusion_pytorch_model.safetensors"
    average = {name: tensor.double() for name, tensor in load_file(base).items()}
    for n in range(3):
        decay = min(limit, (1 + n) / (10 + n))
        weights = group(run, n + 1, "model")
        average = {
            name: decay * tensor + (1 - decay) * weights[name].double()
            for name, tensor in average.items()
        }
    found = exported(run)
    assert found.keys() == average.keys()
    for name, tensor in average.items():
        torch.testing.assert_close(found[name].double(), tensor, atol=1e-7, rtol=1e-6)
    assert any(not torch.equal(found[name], weights[name]) for name in found)


def test_without_the_average_the_weights_themselves_are_exported(plain):
    last, found = group(plain, 3, "model"), exported(plain)
    assert last.keys() == found.keys()
    assert all(torch.equal(last[name], found[name]) for name in found)
    assert not (plain / "checkpoints" / "step-000003" / "average.safetensors").exists()


def test_the_exported_pipeline_opens_in_diffusers_and_edits_a_picture(full):
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(full / "pipeline")
    assert pipeline.unet.config.in_channels == 8
    assert pipeline.unet.dtype == torch.float32
    pipeline.set_progress_bar_config(disable=True)
    picture = Image.new("RGB", (64, 64), "#3366aa")
    edited = pipeline("add a red ball", picture, num_inference_steps=2, output_type="pil").images
    assert edited[0].size == (64, 64)


def test_the_pipeline_has_a_card_and_no_pickle(full, edits):
    card = (full / "pipeline" / "README.md").read_text()
    assert card.startswith("---\nbase_model: tiny\nlibrary_name: diffusers\n")
    assert "split train, 8 samples" in card
    assert edits.name in card
    assert "- lr: 0.0001" in card
    suffixes = {path.suffix for path in full.rglob("*") if path.is_file()}
    assert suffixes <= {".json", ".jsonl", ".safetensors", ".md", ".txt", ".png"}


@pytest.mark.parametrize(("rank", "artifact"), [(None, "pipeline"), (2, "lora")])
def test_what_was_trained_is_pushed_once_it_is_whole(
    rank, artifact, config, follow, tmp_path, monkeypatch
):
    pushed = {}

    def push(folder: Path, name: str) -> str:
        pushed[name] = (folder, {path.name for path in folder.iterdir()})
        return "an address"

    monkeypatch.setattr(module, "push_to_hub", push)
    progress = Noting()
    settings = config(steps=1, push_to_hub="someone/my-editor", lora_rank=rank)
    run = follow(train_unet, settings, tmp_path / "run", progress)
    folder, names = pushed["someone/my-editor"]
    assert folder == run / artifact
    assert "README.md" in names
    assert names & {"model_index.json", "pytorch_lora_weights.safetensors"}
    assert progress.lines[-1] == "uploaded: an address"


def test_an_upload_that_fails_leaves_the_run_done_and_is_told(
    config, follow, tmp_path, monkeypatch, record_of
):
    def push(folder: Path, name: str) -> str:
        raise RicError("It was not uploaded.", "Upload it later.")

    monkeypatch.setattr(module, "push_to_hub", push)
    progress = Noting()
    settings = config(steps=1, push_to_hub="someone/my-editor")
    record = record_of(follow(train_unet, settings, tmp_path / "run", progress))
    assert record["status"] == "done"
    assert record["unavailable"] == ["the upload"]
    assert progress.lines[-1] == "It was not uploaded. Upload it later."


def test_a_base_may_be_an_earlier_run_which_becomes_a_parent(
    full, config, follow, tmp_path, metrics_of, record_of
):
    settings = {"steps": 1, "ema": False, "seed": 9, **NO_JUDGES}
    run = follow(train_unet, config(base=str(full), **settings), tmp_path / "run")
    assert [(run / path).resolve() for path in record_of(run)["parents"]] == [full.resolve()]
    fresh = follow(train_unet, config(**settings), tmp_path / "fresh")
    assert metrics_of(run)[0]["loss"] != metrics_of(fresh)[0]["loss"]


def test_the_run_lists_its_samples_and_unlocalised_ones_are_noted_and_only_lose_one_loss(
    config, make_edits, follow, tmp_path, metrics_of, record_of
):
    data = make_edits(2, {n: {"mask_file_name": None} for n in (0, 1)})
    for n in (0, 1):
        target = Image.open(data / "source" / f"{n:02d}.png")
        ImageDraw.Draw(target).ellipse((2, 2, 92, 72), fill="#ff00ff")
        target.save(data / "target" / f"{n:02d}.png")
    settings = config(data, steps=1, conditioning_dropout=0.0)
    run = follow(train_unet, settings, tmp_path / "run")
    assert record_of(run)["unlocalised"] == ["00", "01"]
    row = metrics_of(run)[0]
    assert row["loss_region"] == 0
    assert row["loss_global"] > 0.1
    assert row["loss_noise"] > 0.1
    samples = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    assert [sample["id"] for sample in samples] == ["00", "01"]
    assert all(sample["group"] for sample in samples)
    assert not (run / "failures.jsonl").exists()


def test_bad_samples_are_failures_and_the_run_goes_on(config, make_edits, follow, tmp_path):
    data = make_edits(4)
    (data / "source" / "01.png").write_bytes(b"no picture")
    (data / "target" / "02.png").write_bytes(b"no picture")
    run = follow(train_unet, config(data, steps=1), tmp_path / "run")
    rows = [json.loads(line) for line in (run / "failures.jsonl").read_text().splitlines()]
    assert {row["id"]: row["stage"] for row in rows} == {"01": "source", "02": "target"}
    assert (run / "pipeline" / "model_index.json").is_file()


def test_samples_without_a_text_are_trained_by_the_noise_loss_where_allowed_and_noted(
    config, make_edits, follow, tmp_path, metrics_of, record_of
):
    changes = {0: {"region_text": None}, 1: {"scene_text": None}, 2: {"scene_text": None}}
    progress = Noting()
    settings = config(
        make_edits(4, changes), steps=1, conditioning_dropout=0.0, allow_missing_text=True
    )
    run = follow(train_unet, settings, tmp_path / "run", progress)
    assert not (run / "failures.jsonl").exists()
    samples = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    assert [sample["id"] for sample in samples] == ["00", "01", "02", "03"]
    assert record_of(run)["without_region_text"] == ["00"]
    assert record_of(run)["without_scene_text"] == ["01", "02"]
    assert progress.lines == [
        "1 samples have no region text: the region loss skips them",
        "2 samples have no scene text: the scene loss skips them",
    ]
    row = metrics_of(run)[0]
    # choice 6: what is left out counts as 0, the sum is over the whole batch
    assert row["loss_region"] == pytest.approx((1 - row["cos_region"]) * 3 / 4, rel=1e-4)
    assert row["loss_global"] == pytest.approx((1 - row["cos_scene"]) * 2 / 4, rel=1e-4)


def test_samples_without_a_text_are_listed_and_refused_where_not_allowed(
    config, make_edits, follow, tmp_path, record_of
):
    data = make_edits(8, {n: {"scene_text": None} for n in range(6)})
    with pytest.raises(RicError) as error:
        follow(train_unet, config(data), tmp_path / "run")
    assert error.value.message == "6 of 8 samples have no scene text: 00, 01, 02, 03, 04, …."
    assert "--allow-missing-text" in error.value.hint
    assert record_of(tmp_path / "run")["without_scene_text"] == [f"0{n}" for n in range(6)]


@pytest.mark.parametrize(
    ("column", "words", "without"),
    [
        ("region_text", "No sample has a region text", "--no-region-loss"),
        ("scene_text", "No sample has a scene text", "--no-global-loss"),
    ],
)
def test_a_judge_for_whom_no_sample_has_a_text_is_an_error(
    column, words, without, config, make_edits, follow, tmp_path
):
    data = make_edits(2, {n: {column: None} for n in (0, 1)})
    with pytest.raises(RicError, match=words) as error:
        follow(train_unet, config(data), tmp_path / "run")
    assert without in error.value.hint


@pytest.mark.parametrize(("size", "nearest"), [(60, "56 or 64"), (12, "8 or 16"), (71, "64 or 72")])
def test_an_image_size_that_cannot_be_halved_is_refused_before_anything_is_decoded(
    size, nearest, config, follow, tmp_path, monkeypatch
):
    def decode(*given: Any, **named: Any) -> None:
        pytest.fail("decoded")

    monkeypatch.setattr(training_set, "load_examples", decode)
    with pytest.raises(RicError, match=f"--image-size is {size}; .* multiple of 8") as error:
        follow(train_unet, config(image_size=size), tmp_path / "run")
    assert error.value.hint == f"Use --image-size {nearest}."


def test_below_the_smallest_image_size_the_two_smallest_are_named():
    with pytest.raises(RicError) as error:
        refuse_size(32, 64)
    assert error.value.hint == "Use --image-size 64 or 128."
    refuse_size(256, 64)


def test_gradient_norms_and_cosines_are_logged_and_null_where_nothing_was_judged(
    full, plain, metrics_of
):
    for row in metrics_of(full):
        for term in ("noise", "region", "global"):
            assert row[f"grad_norm_{term}"] > 0
        assert -1 < row["cos_region"] < 1
        assert -1 < row["cos_scene"] < 1
    for row in metrics_of(plain):
        assert row["grad_norm_noise"] > 0
        assert row["grad_norm_region"] == row["grad_norm_global"] == 0
        assert row["cos_region"] is row["cos_scene"] is None


def test_the_pictures_are_let_go_once_they_are_encoded(config, follow, tmp_path, monkeypatch):
    pictures, train = [], module._train

    def load(*given: Any, **named: Any) -> list[Example]:
        examples = load_examples(*given, **named)
        pictures.extend(weakref.ref(item.target) for item in examples)
        return examples

    def watched(*given: Any) -> None:
        assert len(pictures) == 8
        assert not any(reference() is not None for reference in pictures)
        train(*given)

    monkeypatch.setattr(training_set, "load_examples", load)
    monkeypatch.setattr(module, "_train", watched)
    follow(train_unet, config(steps=1, **NO_JUDGES), tmp_path / "run")


# --- a four-channel base -------------------------------------------------------------------------


def test_a_widened_unet_answers_as_the_old_one_for_every_source(tiny_family):
    old = UNet2DConditionModel.from_pretrained(tiny_family / "text_to_image" / "unet").eval()
    new = copy.deepcopy(old)
    read_source_channels(new)
    assert new.config.in_channels == new.conv_in.in_channels == 8
    assert torch.equal(new.conv_in.bias, old.conv_in.bias)
    assert new.conv_in.bias.abs().max() > 0
    generator = draw_generator(0, "widened")
    noisy, source = torch.randn(2, 3, *LATENT, generator=generator)
    text = torch.randn(3, 77, 64, generator=generator)
    steps = torch.tensor([5, 500, 999])
    with torch.no_grad():
        expected = old(noisy, steps, text).sample
        for scale in (0, 1, 100):
            found = new(torch.cat([noisy, scale * source], dim=1), steps, text).sample
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    untouched = copy.deepcopy(new)
    read_source_channels(untouched)
    assert torch.equal(untouched.conv_in.weight, new.conv_in.weight)


def test_a_text_to_image_base_starts_from_its_own_noise_loss_and_learns_to_read_the_source(
    config, follow, tiny_family, tmp_path, metrics_of
):
    base = tiny_family / "text_to_image"
    settings = config(base=str(base), steps=1, **NO_JUDGES)
    run = follow(train_unet, settings, tmp_path / "run")
    pipeline = load_pipeline(base, pick_device("cpu"))  # its UNet still reads four channels
    data = prepare(examples_of(settings, tmp_path), pipeline)
    batch = draw_batch(data, settings, 0, range(4))
    scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
    noisy = scheduler.add_noise(batch.clean, batch.noise, batch.timesteps)
    with torch.no_grad():
        predicted = pipeline.unet(noisy, batch.timesteps, batch.instructions).sample
    expected = mse_loss(predicted, batch.noise).item()
    assert metrics_of(run)[0]["loss"] == pytest.approx(expected, rel=1e-5)
    assert exported(run)["conv_in.weight"][:, 4:].abs().max() > 0
    again = StableDiffusionInstructPix2PixPipeline.from_pretrained(run / "pipeline")
    assert again.unet.config.in_channels == 8


# --- when it goes wrong --------------------------------------------------------------------------


def test_ten_losses_in_a_row_that_are_nan_end_the_run_and_keep_the_last_good_checkpoint(
    config, follow, tmp_path, metrics_of, record_of, monkeypatch
):
    settings = config(steps=16, checkpoint_every=3, keep_checkpoints=2, **NO_JUDGES)
    draw = unet_step.draw_batch

    def broken(data, config, step, which):
        batch = draw(data, config, step, which)
        if step >= 3:
            batch.noise[:] = torch.nan
        return batch

    run = tmp_path / "run"
    monkeypatch.setattr(unet_step, "draw_batch", broken)
    with pytest.raises(RicError, match="not finite in 10 steps in a row; the run stops"):
        follow(train_unet, settings, run)
    assert record_of(run)["status"] == "failed"
    assert "not finite in 10 steps" in record_of(run)["error"]
    rows = metrics_of(run)
    assert [row["skipped"] for row in rows] == [0, 0, 0, *range(1, 10)]
    assert [row["loss"] is None for row in rows] == [False] * 3 + [True] * 9
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == [
        "step-000009", "step-000012"
    ]  # fmt: skip
    kept, moments = group(run, 12, "model"), group(run, 12, "moments")
    assert all(torch.isfinite(tensor).all() for tensor in (*kept.values(), *moments.values()))
    assert all(value == 3 for name, value in moments.items() if name.endswith(":step"))

    monkeypatch.setattr(unet_step, "draw_batch", draw)
    follow(train_unet, settings, run)
    assert record_of(run)["status"] == "done"
    assert [row["step"] for row in metrics_of(run)] == list(range(1, 17))
    assert [row["skipped"] for row in metrics_of(run)][12:] == [9] * 4


def test_a_weight_that_is_no_number_fails_with_the_weights_of_the_base(
    config, follow, tiny_family, tmp_path, record_of
):
    # no flag sets such a weight: the config refuses it
    settings = config(steps=12, checkpoint_every=5, **NO_JUDGES)
    settings = replace(settings, noise_weight=float("nan"))
    with pytest.raises(RicError, match="not finite"):
        follow(train_unet, settings, tmp_path / "run")
    assert record_of(tmp_path / "run")["status"] == "failed"
    base = load_file(tiny_family / "pipeline" / "unet" / "diffusion_pytorch_model.safetensors")
    kept = group(tmp_path / "run", 5, "model")
    assert all(torch.equal(kept[name], base[name]) for name in base)
    assert not (tmp_path / "run" / "pipeline").exists()


def test_xformers_where_it_does_not_work_says_what_to_do(config, follow, tmp_path, monkeypatch):
    def missing(unet: UNet2DConditionModel) -> None:
        raise ModuleNotFoundError("Refer to the xformers repository\nfor how to install it")

    monkeypatch.setattr(UNet2DConditionModel, "enable_xformers_memory_efficient_attention", missing)
    with pytest.raises(RicError) as error:
        follow(train_unet, config(attention="xformers", **NO_JUDGES), tmp_path / "run")
    assert error.value.message == (
        "--attention xformers does not work here: Refer to the xformers repository"
    )
    assert error.value.hint == (
        "Install it with: pip install 'ric[xformers]', or use --attention sdpa"
    )
