"""The losses of Eq. 10 reach the UNet's weights, and training by them does what they ask for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from diffusers import DDPMScheduler, StableDiffusionInstructPix2PixPipeline, UNet2DConditionModel
from gradient_distance import first_moments
from prepared_samples import prepared_samples
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import cosine_similarity, mse_loss
from torchvision.transforms.functional import pil_to_tensor, to_pil_image

from ric.config import EditConfig, TrainUnetConfig
from ric.data.drawn_scenes import SceneStream
from ric.editors.editor import EditRequest
from ric.editors.instruct_pix2pix import InstructPix2Pix
from ric.inputs.batches import TrainingSet, draw_batch
from ric.inputs.examples import Example
from ric.method import objective as module
from ric.method.region_encoder import RegionEncoder
from ric.method.scene_encoder import SceneEncoder
from ric.models.pipeline import load_pipeline
from ric.recipes.scenes import make_scenes
from ric.recipes.train_unet import train_unet
from ric.settings import resolve_config
from ric.weights.tiny_family import SHIPPED

CPU = torch.device("cpu")
UNET = Path("unet") / "diffusion_pytorch_model.safetensors"


# --- one step ------------------------------------------------------------------------------------


@pytest.fixture
def one_step(tiny, edits, follow, tmp_path) -> Callable[..., Path]:
    """A run of one step of both judges alone, by weights that nothing but a gradient can change."""

    def take(name: str, **changes: Any) -> Path:
        settings = {"steps": 1, "batch_size": 2, "noise_weight": 0.0, "conditioning_dropout": 0.0,
                    "weight_decay": 0.0, "ema": False}  # fmt: skip
        return follow(
            train_unet, tiny(TrainUnetConfig, edits, **settings | changes), tmp_path / name
        )

    return take


def test_without_the_noise_loss_one_step_changes_every_weight_of_the_unet(one_step, tiny_family):
    found, base = (
        load_file(at / UNET) for at in (one_step("run") / "pipeline", tiny_family / "pipeline")
    )
    assert found.keys() == base.keys()
    assert [name for name in base if torch.equal(found[name], base[name])] == []


def test_with_the_prediction_of_x0_detached_every_gradient_is_zero(
    one_step, tiny_family, monkeypatch, metrics_of
):
    clean_from_prediction = module.clean_from_prediction

    def detached(prediction: Tensor, *given: Any) -> Tensor:
        return clean_from_prediction(prediction.detach(), *given)

    monkeypatch.setattr(module, "clean_from_prediction", detached)
    run = one_step("run")
    row = metrics_of(run)[0]
    assert row["loss_region"] > 0.1
    assert row["loss_global"] > 0.1
    assert row["grad_norm"] == row["grad_norm_region"] == row["grad_norm_global"] == 0
    assert not any(moment.any() for moment in first_moments(run, step=1).values())
    found, base = (load_file(at / UNET) for at in (run / "pipeline", tiny_family / "pipeline"))
    assert all(torch.equal(found[name], base[name]) for name in base)


def test_a_base_that_predicts_velocities_is_trained_on_velocities_and_judged_by_its_x0(
    one_step, tiny, edits, tiny_family, tmp_path, metrics_of
):
    base = shutil.copytree(tiny_family / "pipeline", tmp_path / "base")
    written = json.loads((base / "scheduler" / "scheduler_config.json").read_text())
    written["prediction_type"] = "v_prediction"
    (base / "scheduler" / "scheduler_config.json").write_text(json.dumps(written))
    run = one_step("run", base=str(base), noise_weight=1.0)

    start = Start.of(tiny_family)
    config = tiny(TrainUnetConfig, edits, batch_size=2, conditioning_dropout=0.0)
    _, data = prepared_samples(config, start.pipeline, start.region, start.scene, tmp_path)
    batch = draw_batch(data, config, 0, range(2))
    scheduler = DDPMScheduler.from_config(written)
    noisy = scheduler.add_noise(batch.clean, batch.noise, batch.timesteps)
    both = torch.cat([noisy, batch.source], dim=1)
    with torch.no_grad():
        predicted = start.pipeline.unet(both, batch.timesteps, batch.instructions).sample
        velocity = scheduler.get_velocity(batch.clean, batch.noise, batch.timesteps)
        share = scheduler.alphas_cumprod[batch.timesteps][:, None, None, None]
        seen = start.cosines(share.sqrt() * noisy - (1 - share).sqrt() * predicted, batch)
    row = metrics_of(run)[0]
    assert row["loss_noise"] == pytest.approx(mse_loss(predicted, velocity).item(), rel=1e-5)
    assert row["loss_noise"] != pytest.approx(mse_loss(predicted, batch.noise).item(), rel=1e-2)
    assert (row["cos_region"], row["cos_scene"]) == pytest.approx(seen, abs=1e-4)
    assert row["grad_norm"] > 0
    exported = StableDiffusionInstructPix2PixPipeline.from_pretrained(run / "pipeline")
    assert exported.scheduler.config.prediction_type == "v_prediction"


# --- many steps of the trained family ------------------------------------------------------------


class Start(NamedTuple):
    """A family's editor and judges."""

    pipeline: StableDiffusionInstructPix2PixPipeline
    region: RegionEncoder
    scene: SceneEncoder

    @classmethod
    def of(cls, family: Path) -> Start:
        return cls(
            load_pipeline(family / "pipeline", CPU),
            RegionEncoder.from_pretrained(family / "region_encoder"),
            SceneEncoder.from_pretrained(family / "scene_encoder"),
        )

    @torch.no_grad()
    def cosines(self, clean: Tensor, batch: Any) -> tuple[float, float]:
        """Give the mean cosines of Eqs. 8 and 9 for clean latents."""
        pixels = self.pipeline.vae.decode(clean / self.pipeline.vae.config.scaling_factor).sample
        pixels = pixels.clamp(-1, 1)
        region = cosine_similarity(
            self.region.encode_region(pixels, batch.boxes), batch.region_aims
        )
        scene = cosine_similarity(self.scene.encode_image(pixels), batch.scene_aims)
        return region.mean().item(), scene.mean().item()

    @torch.no_grad()
    def measure(
        self, unet: UNet2DConditionModel, data: TrainingSet, config: TrainUnetConfig, every: int
    ) -> tuple[float, float, float]:
        """Give the noise loss and both cosines, on the same noise at the same t each time.

        All eight scenes are seen at every `every`th t, which stands for those around it.
        """
        unet.eval()
        scheduler = DDPMScheduler.from_config(self.pipeline.scheduler.config, clip_sample=False)
        assert scheduler.config.prediction_type == "v_prediction"
        unseen = replace(config, seed=99, batch_size=8)  # noise that no training draws
        rows = []
        for number, t in enumerate(range(every // 2, 1000, every)):
            batch = draw_batch(data, unseen, number, range(8))
            steps = torch.full((8,), t)
            noisy = scheduler.add_noise(batch.clean, batch.noise, steps)
            both = torch.cat([noisy, batch.source], dim=1)
            predicted = unet(both, steps, batch.instructions).sample
            clean = scheduler.step(predicted, t, noisy).pred_original_sample  # Eq. 5
            asked = scheduler.get_velocity(batch.clean, batch.noise, steps)
            noise = mse_loss(predicted, asked).item()
            rows.append([noise, *self.cosines(clean, batch)])
        noise, region, scene = torch.tensor(rows).mean(dim=0).tolist()
        return noise, region, scene


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    """Drawn scenes, as many as hold eight of train."""
    folder = tmp_path_factory.mktemp("scenes") / "own"
    make_scenes(folder, SceneStream(count=12, size=64, seed=3), workers=1)
    return folder


@pytest.fixture
def eight(tiny, monkeypatch) -> Callable[..., TrainUnetConfig]:
    """A training of the shipped family on the first eight scenes, all in every batch."""
    monkeypatch.setenv("RIC_TINY_FAMILY", str(SHIPPED))

    def make(data: Path, **changes: Any) -> TrainUnetConfig:
        settings = {"limit": 8, "batch_size": 8, "conditioning_dropout": 0.0, "log_every": 50,
                    "checkpoint_every": 10_000}  # fmt: skip
        return tiny(TrainUnetConfig, data, **settings | changes)

    return make


def with_texts_of_the_next(scenes: Path, folder: Path) -> Path:
    """Copy eight scenes of train, each with the texts that belong to the next one's target."""
    shutil.copytree(scenes, folder)
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["split"] == "train"][:8]
    texts = [{key: row[key] for key in ("region_text", "scene_text")} for row in rows]
    changed = [row | of for row, of in zip(rows, texts[1:] + texts[:1], strict=True)]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in changed))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("texts", ["own", "next"])
def test_two_hundred_steps_of_both_judges_raise_both_cosines(
    texts, scenes, eight, follow, tmp_path
):
    data = scenes if texts == "own" else with_texts_of_the_next(scenes, tmp_path / "next")
    config = eight(data, steps=200, noise_weight=0.0)
    start = Start.of(SHIPPED)
    _, samples = prepared_samples(config, start.pipeline, start.region, start.scene, tmp_path)
    before = start.measure(start.pipeline.unet, samples, config, every=62)
    run = follow(train_unet, config, tmp_path / "run")
    trained = UNet2DConditionModel.from_pretrained(run / "pipeline" / "unet")
    after = start.measure(trained, samples, config, every=62)
    print(f"{texts} texts: noise loss, region and scene cosine {before}, then {after}")
    assert after[1] > before[1] + 0.1
    if texts == "next":
        assert after[2] > before[2] + 0.1
    else:
        # the shipped editor draws such scenes: the exact targets themselves are not 0.1 above it
        batch = draw_batch(samples, config, 0, range(8))
        _, of_targets = start.cosines(batch.clean, batch)
        assert of_targets < before[2] + 0.1
        assert after[2] > of_targets


def edits_of(start: Start, examples: list[Example]) -> Tensor:
    """Edit the sources as `ric edit --preset tiny` does: (8, 3, 64, 64) in [0, 1]."""
    usual = resolve_config(EditConfig, {"preset": "tiny", "data": "none"})
    editor = InstructPix2Pix(start.pipeline, device=CPU, dtype="fp32", steps=usual.steps,
                             guidance=usual.guidance, image_guidance=usual.image_guidance,
                             image_size=64)  # fmt: skip
    asked = [EditRequest(one.id, to_pil_image(one.source), one.instruction) for one in examples]
    return torch.stack([pil_to_tensor(made) for made in editor.edit(asked)]) / 255


@pytest.mark.slow
def test_eight_scenes_are_learnt_by_heart_with_every_loss_on(scenes, eight, follow, tmp_path):
    # as docs/method.md recommends; unbalanced, the judges pull harder than the noise loss
    config = eight(scenes, steps=1500, batch_size=4, lr=1e-3, balance=0.3, hinge=True)
    start = Start.of(SHIPPED)
    examples, samples = prepared_samples(
        config, start.pipeline, start.region, start.scene, tmp_path
    )
    targets = torch.stack([one.target for one in examples]) / 255
    sources = torch.stack([one.source for one in examples]) / 255
    before = start.measure(start.pipeline.unet, samples, config, every=20)
    apart_before = (edits_of(start, examples) - targets).abs().mean().item()
    run = follow(train_unet, config, tmp_path / "run")
    start.pipeline.unet = UNet2DConditionModel.from_pretrained(run / "pipeline" / "unet")
    after = start.measure(start.pipeline.unet, samples, config, every=20)
    apart = (edits_of(start, examples) - targets).abs().mean().item()
    idle = (sources - targets).abs().mean().item()
    print(f"noise loss, region and scene cosine {before}, then {after}")
    print(f"mean absolute error {apart_before:.4f}, then {apart:.4f}; of doing nothing {idle:.4f}")
    assert after[0] < 0.4 * before[0]
    assert apart < 0.8 * idle
    assert apart < apart_before
