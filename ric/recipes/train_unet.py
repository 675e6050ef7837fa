"""`ric train-unet`: fine-tune an InstructPix2Pix UNet by Eq. 10 (Sec. 3.2).

Everything that does not change while the UNet trains is computed once: the source's latents, the
target's posterior, the embeddings of instructions, region texts and scene paragraphs.

What sample k of step n sees (which picture, noise, t, dropout, flip) is a function of the seed, n
and k alone, so nothing random needs saving and a resumed run repeats nothing and skips nothing.

Choice 6, conditioning dropout: 5 % text only, 5 % image only, 5 % both, one uniform draw a sample.
Choice 8, average: the weights' moving average, decay min(0.9999, (1+n)/(10+n)), is exported.
Choice 11, flip: off by default; per sample, and never where an instruction says left or right.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from diffusers import DDPMScheduler

from ric.checkpoints import (
    clear_unfinished,
    complete_checkpoints,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    restore_tensors,
    save_checkpoint,
)
from ric.data.batches import to_unit
from ric.data.masks import signature_mask
from ric.device import autocast, draw_generator, pick_device, pick_dtype
from ric.editors.pipeline import (
    encode_prompts,
    encode_source,
    load_pipeline,
    read_source_channels,
)
from ric.errors import RicError
from ric.interrupt import stop_between_steps
from ric.method.denoising import add_noise, predict_noise
from ric.method.objective import Losses, RegionInContextObjective
from ric.method.region_encoder import RegionEncoder
from ric.method.scene_encoder import SceneEncoder
from ric.models import locate_model
from ric.progress import Progress, Silent
from ric.recipes.artifacts import artifact_folder, pipeline_card
from ric.recipes.examples import Example, enough, load_examples, read_descriptions
from ric.recipes.guarded_step import GuardedAdamW
from ric.recipes.launch import start_accelerator

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from diffusers import StableDiffusionInstructPix2PixPipeline
    from torch import Tensor

    from ric.config import TrainUnetConfig
    from ric.method.region_box import Box
    from ric.run_dir import RunDir

# Shape letters: N samples, B batch, C latent channels, h and w latent height and width.


@dataclass(frozen=True)
class View:
    """One way to look at a sample, as it is or flipped: latents and the region's box."""

    source: Tensor  # (C, h, w), posterior mode, unscaled
    target_mean: Tensor  # (C, h, w)
    target_std: Tensor  # (C, h, w)
    box: Box | None


@dataclass(frozen=True)
class Prepared:
    """A sample with everything that does not change while the UNet trains."""

    views: tuple[View, ...]  # as it is; flipped too where --flip may
    instruction: Tensor  # (L, E)
    region_text: Tensor | None  # e_tr (P,)
    scene_text: Tensor | None  # e_tf (Q,)


@dataclass(frozen=True)
class Batch:
    """What the UNet sees in one (micro-)step; see `draw_batch`."""

    source: Tensor  # (B, C, h, w), zero where the picture was dropped
    clean: Tensor  # x_0 (B, C, h, w), sampled and scaled
    noise: Tensor
    timesteps: Tensor  # (B,) on the CPU
    instructions: Tensor  # (B, L, E), the null prompt where the text was dropped
    boxes: list[Box | None]
    region_texts: Tensor | None
    scene_texts: Tensor | None
    kept_region: Tensor  # (B,) bool on the CPU
    kept_scene: Tensor


def train_unet(config: TrainUnetConfig, run: RunDir, progress: Progress | None = None) -> Path:
    """Fine-tune the base's UNet on DATA and return the run's `pipeline` folder.

    Raises:
        RicError: no usable sample, a model that cannot be had or does not fit, a judge that is
            missing, or a loss that is not finite ten times in a row.
        Interrupted: asked to stop; the run resumes from its checkpoint.
    """
    progress = progress or Silent()
    device = pick_device(config.device)
    base = locate_model(
        config.base,
        run,
        tiny="pipeline",
        artifact="pipeline",
        weights_dir=config.weights,
        needs="train-unet",
    )
    pipeline = load_pipeline(base, device)
    read_source_channels(pipeline.unet)
    if config.attention == "xformers":
        pipeline.unet.enable_xformers_memory_efficient_attention()
    region_judge, scene_judge = load_judges(config, run, device)

    descriptions = read_descriptions(config.descriptions, run)
    examples = load_examples(
        config,
        run,
        progress,
        split=config.split,
        size=config.image_size,
        fit=config.fit,
        region_text=config.region_text if region_judge else None,
        descriptions=descriptions,
        require=(("region_text",) if region_judge else ()) + (("scene_text",) if scene_judge else ()),
    )
    examples = enough(examples, run, least=1)
    for example in examples:
        run.append("samples", {"id": example.id, "group": example.group})
    if region_judge and (lost := [item.id for item in examples if item.box is None]):
        run.note(unlocalised=lost)
        progress.note(f"{len(lost)} samples are unlocalised: the region loss skips them")
    prepared = prepare(examples, pipeline, region_judge, scene_judge, config, progress)
    null_prompt = encode_prompts(pipeline, [""])[0]

    noise_schedule = DDPMScheduler.from_config(pipeline.scheduler.config)
    objective = RegionInContextObjective(
        pipeline.vae,
        region_judge,
        scene_judge,
        prediction_type=noise_schedule.config.prediction_type,
        alphas_cumprod=noise_schedule.alphas_cumprod,
        region_weight=config.region_weight,
        global_weight=config.global_weight,
        noise_weight=config.noise_weight,
        align_below=config.align_below,
        align_weight=config.align_weight,
    )
    _train(config, run, progress, pipeline, objective, prepared, null_prompt)
    with artifact_folder(run, "pipeline") as folder:
        pipeline.unet.to(memory_format=torch.contiguous_format)
        pipeline.save_pretrained(folder)
        (folder / "README.md").write_text(pipeline_card(run, config.base), encoding="utf-8")
    return run.path / "pipeline"


def load_judges(
    config: TrainUnetConfig, run: RunDir, device: torch.device
) -> tuple[RegionEncoder | None, SceneEncoder | None]:
    """Load the judges whose losses are on; `tiny` means the tiny family's, not fitted.

    Raises:
        RicError: a loss is on and its judge is not named, or is no judge.
    """
    region = scene = None
    if config.region_loss:
        if config.region_clip is None:
            raise RicError(
                "The region loss needs a region judge: --region-clip RUN.",
                "Fit one with ric fit-clip DATA, or train without it: --no-region-loss",
            )
        path = locate_model(
            config.region_clip, run, tiny="region_clip", artifact="region_encoder",
            weights_dir=config.weights,
        )  # fmt: skip
        fitted = config.region_clip != "tiny"
        region = RegionEncoder.from_pretrained(path) if fitted else RegionEncoder.from_clip(path)
        region.gated = region.gated and config.gated_fusion
        region.to(device)
    if config.global_loss:
        if config.scene_blip is None:
            raise RicError(
                "The scene loss needs a scene judge: --scene-blip RUN.",
                "Fit one with ric fit-blip DATA, or train without it: --no-global-loss",
            )
        path = locate_model(
            config.scene_blip, run, tiny="scene_blip", artifact="scene_encoder",
            weights_dir=config.weights,
        )  # fmt: skip
        fitted = config.scene_blip != "tiny"
        scene = SceneEncoder.from_pretrained(path) if fitted else SceneEncoder.from_blip(path)
        scene.to(device)
    return region, scene


@torch.no_grad()
def prepare(
    examples: Sequence[Example],
    pipeline: StableDiffusionInstructPix2PixPipeline,
    region_judge: RegionEncoder | None,
    scene_judge: SceneEncoder | None,
    config: TrainUnetConfig,
    progress: Progress,
) -> list[Prepared]:
    """Encode each sample once: latents of both pictures, embeddings of all its texts."""
    device = pipeline.device
    prepared = []
    with progress.stage("encoding", total=len(examples), unit="samples") as stage:
        for item in examples:
            with autocast(device, pick_dtype(config.dtype, device)):
                prompt = encode_prompts(pipeline, [item.instruction])[0].float()
                e_tr = region_judge and region_judge.encode_text([item.region_text or ""])[0]
                e_tf = scene_judge and scene_judge.encode_text([item.scene_text or ""])[0]
            views = [_view(item, pipeline, config, flipped=False)]
            if config.flip and not re.search(r"\b(left|right)\b", item.instruction.lower()):
                views.append(_view(item, pipeline, config, flipped=True))
            prepared.append(
                Prepared(
                    views=tuple(views),
                    instruction=prompt,
                    region_text=None if e_tr is None else e_tr.float(),
                    scene_text=None if e_tf is None else e_tf.float(),
                )
            )
            stage.advance()
    return prepared


def _view(
    item: Example,
    pipeline: StableDiffusionInstructPix2PixPipeline,
    config: TrainUnetConfig,
    *,
    flipped: bool,
) -> View:
    source, target, box = to_unit(item.square.source), to_unit(item.square.target), item.box
    size = target.shape[-1]
    if config.ignore_signature:
        # choice 14: where the signature is, the target asks for what the source shows
        target = torch.where(torch.from_numpy(signature_mask(size)), source, target)
    if flipped:
        source, target = source.flip(-1), target.flip(-1)
        box = box and (size - box[2], box[1], size - box[0], box[3])
    device = pipeline.device
    with autocast(device, pick_dtype(config.dtype, device)):
        mode = encode_source(pipeline, source[None].to(device))[0]
        posterior = pipeline.vae.encode(target[None].to(device)).latent_dist
    return View(mode.float(), posterior.mean[0].float(), posterior.std[0].float(), box)


def draw_batch(
    prepared: Sequence[Prepared],
    null_prompt: Tensor,
    config: TrainUnetConfig,
    scaling_factor: float,
    num_timesteps: int,
    step: int,
    which: range,
) -> Batch:
    """Draw samples `which` of step `step`: a function of (seed, step, k) and nothing else.

    Args:
        prepared: All N samples; each epoch goes through them in an order of its own.
        null_prompt: The embedding of "" (L, E).
        config: Seed, batch size, dropout.
        scaling_factor: The VAE's.
        num_timesteps: t is drawn from 0 to this, exclusive.
        step: Counted from 0.
        which: The k's, a part of range(batch_size).
    """
    count, dropout = len(prepared), config.conditioning_dropout
    views, items, noises, cleans, timesteps, drops = [], [], [], [], [], []
    orders: dict[int, list[int]] = {}
    for k in which:
        epoch, place = divmod(step * config.batch_size + k, count)
        if epoch not in orders:
            generator = draw_generator(config.seed, "epoch", epoch)
            orders[epoch] = torch.randperm(count, generator=generator).tolist()
        item = prepared[orders[epoch][place]]
        generator = draw_generator(config.seed, "sample", step, k)
        t = torch.randint(num_timesteps, (), generator=generator)
        u, flip = torch.rand(2, generator=generator).tolist()
        noise, spread = torch.randn(2, *item.views[0].source.shape, generator=generator)
        view = item.views[-1 if flip < 0.5 else 0]
        device = view.source.device
        items.append(item)
        views.append(view)
        timesteps.append(t)
        noises.append(noise.to(device))
        sampled = view.target_mean + view.target_std * spread.to(device)
        cleans.append(sampled * scaling_factor)  # choice 12
        # choice 6: [0, p) text only, [p, 2p) both, [2p, 3p) picture only
        drops.append((u < 2 * dropout, dropout <= u < 3 * dropout))
    kept = [not (text or image) for text, image in drops]
    region_texts = [item.region_text for item in items if item.region_text is not None]
    scene_texts = [item.scene_text for item in items if item.scene_text is not None]
    return Batch(
        source=torch.stack(
            [view.source * (not image) for view, (_, image) in zip(views, drops, strict=True)]
        ),
        clean=torch.stack(cleans),
        noise=torch.stack(noises),
        timesteps=torch.stack(timesteps),
        instructions=torch.stack(
            [
                null_prompt if text else item.instruction
                for item, (text, _) in zip(items, drops, strict=True)
            ]
        ),
        boxes=[view.box for view in views],
        region_texts=torch.stack(region_texts) if region_texts else None,
        scene_texts=torch.stack(scene_texts) if scene_texts else None,
        kept_region=torch.tensor(
            [keep and view.box is not None for keep, view in zip(kept, views, strict=True)]
        ),
        kept_scene=torch.tensor(kept),
    )


def _train(
    config: TrainUnetConfig,
    run: RunDir,
    progress: Progress,
    pipeline: StableDiffusionInstructPix2PixPipeline,
    objective: RegionInContextObjective,
    prepared: list[Prepared],
    null_prompt: Tensor,
) -> None:
    """Take `config.steps` steps of Eq. 10, leaving the exported weights in the pipeline's UNet."""
    accelerator = start_accelerator(
        pipeline.device, pick_dtype(config.dtype, pipeline.device)
    )
    unet = pipeline.unet.to(memory_format=torch.channels_last)
    unet.train().requires_grad_(True)
    trained = accelerator.prepare_model(unet)
    named = dict(unet.named_parameters())
    optimizer = GuardedAdamW(
        unet.parameters(),
        lr=config.lr,
        betas=(config.adam_beta1, config.adam_beta2),
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
    )
    average = {name: parameter.detach().clone() for name, parameter in named.items()}
    folder = run.path / "checkpoints"
    clear_unfinished(folder)
    done = 0
    if checkpoints := complete_checkpoints(folder):
        groups, state = load_checkpoint(checkpoints[-1])
        torch.set_num_threads(state["threads"])
        restore_tensors(named, groups["model"])
        restore_tensors(average, groups["average"])
        restore_optimizer(named.items(), optimizer.optimizer, groups["moments"])
        done = state["step"]
        progress.note(f"resuming after step {done} of {config.steps}")
    run.forget_metrics_after(done)

    with (
        stop_between_steps() as stop,
        progress.stage("training", total=config.steps, done=done) as stage,
    ):
        for step in range(done, config.steps):
            began = time.monotonic()
            parts = []
            for which in _micro_batches(config):
                batch = draw_batch(
                    prepared,
                    null_prompt,
                    config,
                    pipeline.vae.config.scaling_factor,
                    len(objective.alphas_cumprod),
                    step,
                    which,
                )
                with accelerator.autocast():
                    losses = judge_batch(trained, objective, batch, config.batch_size)
                accelerator.backward(losses.total)
                parts.append({"loss": losses.total.detach(), **losses.parts()})
            values = {key: torch.stack([part[key] for part in parts]).sum() for key in parts[0]}
            grad_norm = optimizer.step(values["loss"])
            done = step + 1
            decay = min(config.ema_decay, (1 + step) / (10 + step))  # choice 8
            torch._foreach_lerp_(
                list(average.values()), [named[name].detach() for name in average], 1 - decay
            )
            stage.advance()
            last = done == config.steps
            if done % config.log_every == 0 or last:
                row = {key: value.item() for key, value in values.items()}
                row |= {"grad_norm": grad_norm.item(), "skipped": optimizer.check()}
                rate = config.batch_size / (time.monotonic() - began)
                row |= {"lr": config.lr, "images_per_second": rate}
                run.log_metrics({"step": done, **row})
                stage.advance(0, loss=row["loss"])
            if done % config.checkpoint_every == 0 or last or stop:
                save_checkpoint(
                    folder,
                    done,
                    {
                        "model": dict(named),
                        "average": average,
                        "moments": optimizer_tensors(named.items(), optimizer.optimizer),
                    },
                    {},
                    keep=config.keep_checkpoints,
                )
                stop.raise_if_set()
    if config.ema:
        restore_tensors(named, average)
    unet.eval()


def judge_batch(
    unet: torch.nn.Module, objective: RegionInContextObjective, batch: Batch, batch_size: int
) -> Losses:
    """Noise a batch, ask the UNet, and give Eq. 10 as this batch's share of `batch_size`."""
    device = batch.clean.device
    timesteps = batch.timesteps.to(device)
    alpha_bar_t = objective.alphas_cumprod.to(device)[timesteps]
    noisy = add_noise(batch.clean, batch.noise, alpha_bar_t)
    prediction = predict_noise(unet, noisy, timesteps, batch.instructions, batch.source)
    return objective(
        prediction,
        noisy,
        batch.clean,
        batch.noise,
        batch.timesteps,
        batch.boxes,
        batch.region_texts,
        batch.scene_texts,
        batch.kept_region,
        batch.kept_scene,
        batch_size,
    )


def _micro_batches(config: TrainUnetConfig) -> list[range]:
    size = -(-config.batch_size // config.accumulate)
    return [
        range(start, min(start + size, config.batch_size))
        for start in range(0, config.batch_size, size)
    ]
