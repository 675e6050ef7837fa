"""`ric train-unet`: fine-tune an InstructPix2Pix UNet by Eq. 10 (Sec. 3.2).

Everything that does not change while the UNet trains is computed once (`encodings`).

Choice 8, average: the weights' moving average, decay min(0.9999, (1+n)/(10+n)) after n steps, is
exported; `--no-ema` exports the weights themselves and keeps no average.

Started as several processes, each takes its part of every batch, and DDP joins their gradients: as
what a sample sees is a function of the seed, the step and its place in the batch, the steps are
those of one process. The first one keeps the average and writes the run.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

import torch
from diffusers import DDPMScheduler

from ric.checkpoints import load_checkpoint, restore_tensors, save_checkpoint
from ric.device import pick_device, pick_dtype
from ric.editors.pipeline import (
    load_pipeline,
    load_small_decoder,
    read_source_channels,
    size_multiple,
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
from ric.recipes.curves import Panel, draw_curves
from ric.recipes.encodings import Encoder, OnDemand, encode_once
from ric.recipes.examples import Example, enough, load_examples, read_descriptions
from ric.recipes.guarded_step import GuardedAdamW, finite_or_none
from ric.recipes.judges import region_judge_of, scene_judge_of
from ric.recipes.launch import start_accelerator
from ric.recipes.overlap import list_trained_on
from ric.recipes.ranks import Ranks
from ric.recipes.resume import last_checkpoint
from ric.recipes.tracking import tracked
from ric.recipes.training_batches import Batch, TrainingSet, draw_batch
from ric.recipes.val_edits import ValEdits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from accelerate import Accelerator
    from diffusers import (
        AutoencoderKL,
        AutoencoderTiny,
        StableDiffusionInstructPix2PixPipeline,
        UNet2DConditionModel,
    )
    from torch import Tensor

    from ric.config import TrainUnetConfig
    from ric.run_dir import RunDir


CURVES = (
    Panel("Eq. 10 and its parts", "^loss"),
    Panel("cosines with the texts", "^cos_"),
    Panel("gradient norms", "^grad_norm"),
    Panel("pictures a second", "^images_per_second$"),
)


def train_unet(config: TrainUnetConfig, run: RunDir, progress: Progress | None = None) -> Path:
    """Fine-tune the base's UNet on DATA and return the run's `pipeline` folder.

    Raises:
        RicError: no usable sample, a model that cannot be had or does not fit, a judge that is
            missing, or a loss that is not finite ten times in a row.
        Interrupted: asked to stop; the run resumes from its checkpoint.
    """
    progress = progress or Silent()
    checkpoint = last_checkpoint(run)
    device = pick_device(config.device)
    ranks = Ranks(device)
    refuse_batch(config.batch_size, ranks.count)
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
    refuse_size(config.image_size, size_multiple(pipeline))
    if config.attention == "xformers":
        _use_xformers(pipeline.unet)
    region_judge, scene_judge = load_judges(config, run, device)
    decoder = _loss_decoder(config, run, pipeline)
    data = _training_set(config, run, progress, pipeline, region_judge, scene_judge, ranks)
    noise_schedule = DDPMScheduler.from_config(pipeline.scheduler.config)
    objective = RegionInContextObjective(
        decoder,
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
    if config.gradient_checkpointing:
        for network in (pipeline.unet, objective.vae):
            network.enable_gradient_checkpointing()
    with tracked(config.track if ranks.leads else None, run):
        _train(config, run, progress, pipeline, objective, data, checkpoint, ranks)
    if ranks.leads:
        draw_curves(run, CURVES)
        with artifact_folder(run, "pipeline") as folder:
            pipeline.save_pretrained(folder)
            (folder / "README.md").write_text(pipeline_card(run, config.base), encoding="utf-8")
    return run.path / "pipeline"


def _loss_decoder(
    config: TrainUnetConfig, run: RunDir, pipeline: StableDiffusionInstructPix2PixPipeline
) -> AutoencoderKL | AutoencoderTiny:
    """Give what decodes for the judges: the pipeline's own VAE, or a small one of its latents."""
    if config.loss_decoder == "vae":
        return pipeline.vae
    path = locate_model(
        config.loss_decoder,
        run,
        tiny="loss_decoder",
        weights_dir=config.weights,
        needs="--loss-decoder",
    )
    return load_small_decoder(path, pipeline)


def load_judges(
    config: TrainUnetConfig, run: RunDir, device: torch.device
) -> tuple[RegionEncoder | None, SceneEncoder | None]:
    """Load the judges whose losses are on.

    Raises:
        RicError: a loss is on and its judge is not named, or is no judge.
    """
    region = scene = None
    if name := region_judge_of(config):
        path = locate_model(
            name, run, tiny="region_encoder", artifact="region_encoder", weights_dir=config.weights
        )
        region = RegionEncoder.from_pretrained(path).to(device)
        region.gated = region.gated and config.gated_fusion
    if name := scene_judge_of(config):
        path = locate_model(
            name, run, tiny="scene_encoder", artifact="scene_encoder", weights_dir=config.weights
        )
        scene = SceneEncoder.from_pretrained(path).to(device)
    return region, scene


def refuse_size(size: int, multiple: int) -> None:
    """Stop where S cannot be halved as often as VAE and UNet do.

    The decoded picture would be smaller than S, and every box, in pixels of S, off its region.

    Raises:
        RicError: it cannot; names the two nearest sizes that can.
    """
    if size % multiple:
        below = max(1, size // multiple) * multiple
        raise RicError(
            f"--image-size is {size}; this pipeline's VAE and UNet need a multiple of {multiple}.",
            f"Use --image-size {below} or {below + multiple}.",
        )


def refuse_batch(batch_size: int, processes: int) -> None:
    """Stop where a process would have no sample of a batch (Raises RicError)."""
    if batch_size < processes:
        raise RicError(
            f"--batch-size is {batch_size}, fewer than the {processes} processes.",
            "Give each process at least one sample.",
        )


def _use_xformers(unet: UNet2DConditionModel) -> None:
    try:
        unet.enable_xformers_memory_efficient_attention()
    except (ImportError, ValueError, RuntimeError, NotImplementedError) as error:
        raise RicError(
            f"--attention xformers does not work here: {str(error).splitlines()[0]}",
            "Install it with: pip install 'ric[xformers]', or use --attention sdpa",
        ) from None


def _training_set(
    config: TrainUnetConfig,
    run: RunDir,
    progress: Progress,
    pipeline: StableDiffusionInstructPix2PixPipeline,
    region_judge: RegionEncoder | None,
    scene_judge: SceneEncoder | None,
    ranks: Ranks,
) -> TrainingSet:
    """Encode the samples once, or keep their pictures to encode them in every step."""
    dtype = pick_dtype(config.dtype, pipeline.device)
    encoder = Encoder(pipeline, region_judge, scene_judge, dtype, config.flip)
    load = partial(_examples, config, run, progress, region_judge, scene_judge)
    examples = ranks.once_per_machine(load)
    return TrainingSet(
        samples=encode_once(encoder, examples, ranks, progress)
        if config.cache
        else OnDemand(encoder, examples),
        null_prompt=encoder.null_prompt(),
        scaling_factor=pipeline.vae.config.scaling_factor,
        num_timesteps=pipeline.scheduler.config.num_train_timesteps,
    )


def _examples(
    config: TrainUnetConfig,
    run: RunDir,
    progress: Progress,
    region_judge: RegionEncoder | None,
    scene_judge: SceneEncoder | None,
) -> list[Example]:
    """Decode the samples and list them; say which of them a judge's loss leaves out (choice 6)."""
    examples = load_examples(
        config,
        run,
        progress,
        split=config.split,
        size=config.image_size,
        fit=config.fit,
        region_text=config.region_text if region_judge else None,
        descriptions=read_descriptions(config.descriptions, config, run),
    )
    examples = enough(examples, run, least=1)
    list_trained_on(examples, run)
    if region_judge:
        lost = [item.id for item in examples if item.region_text is None]
        _leave_out(lost, len(examples), "region", "--region-text instruction", run, progress)
        if unlocalised := [item.id for item in examples if item.box is None]:
            run.note(unlocalised=unlocalised)
            progress.note(f"{len(unlocalised)} samples are unlocalised: the region loss skips them")
    if scene_judge:
        lost = [item.id for item in examples if item.scene_text is None]
        _leave_out(lost, len(examples), "scene", "--descriptions RUN", run, progress)
    return examples


def _leave_out(
    lost: list[str], count: int, judge: str, remedy: str, run: RunDir, progress: Progress
) -> None:
    """Note the samples without a judge's text: its loss skips them, the noise loss does not.

    Raises:
        RicError: that is all of them.
    """
    if len(lost) == count:
        without = "--no-region-loss" if judge == "region" else "--no-global-loss"
        raise RicError(
            f"No sample has a {judge} text: the {judge} loss would judge nothing.",
            f"Use {remedy}, or train without that loss: {without}",
        )
    if lost:
        run.note(**{f"without_{judge}_text": lost})
        progress.note(f"{len(lost)} samples have no {judge} text: the {judge} loss skips them")


def _train(
    config: TrainUnetConfig,
    run: RunDir,
    progress: Progress,
    pipeline: StableDiffusionInstructPix2PixPipeline,
    objective: RegionInContextObjective,
    data: TrainingSet,
    checkpoint: Path | None,
    ranks: Ranks,
) -> None:
    """Take `config.steps` steps of Eq. 10, leaving the exported weights in the pipeline's UNet."""
    dtype = pick_dtype(config.dtype, pipeline.device)
    accelerator = start_accelerator(pipeline.device, dtype, ranks)
    run.note(processes=ranks.count)
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
    keeps_average = config.ema and ranks.leads
    average = (
        {name: weight.detach().clone() for name, weight in named.items()} if keeps_average else {}
    )
    done = 0
    if checkpoint:
        groups, state = load_checkpoint(checkpoint)
        restore_tensors(named, groups["model"])
        if keeps_average:
            restore_tensors(average, groups.get("average", {}))
        optimizer.restore(named, groups["moments"])
        done = state["step"]
        progress.note(f"resuming after step {done} of {config.steps}")
    run.forget_metrics_after(done)
    shows = ValEdits(config, run, pipeline) if config.show_every and ranks.leads else None
    if shows and not done:
        shows.show(0, progress)

    with (
        stop_between_steps(second_ends=ranks.count == 1) as stop,
        progress.stage("training", total=config.steps, done=done) as stage,
    ):
        began, counted = time.monotonic(), done
        for step in range(done, config.steps):
            last = step + 1 == config.steps
            logs = (step + 1) % config.log_every == 0 or last
            values = _accumulate_gradients(
                config, accelerator, trained, objective, data, step, ranks, measured=logs
            )
            grad_norm = optimizer.step(values["loss"])
            if keeps_average:
                update_average(average, named, min(config.ema_decay, (1 + step) / (10 + step)))
            done = step + 1
            stage.advance()
            # asking the others waits for the device
            asked = ranks.asked_of_any(stop) if logs or ranks.count == 1 else None
            saves = done % config.checkpoint_every == 0 or last or asked is not None
            if logs:
                skipped = optimizer.check()
                row = {key: value.item() for key, value in values.items()}
                row |= {"grad_norm": grad_norm.item(), "skipped": skipped, "lr": config.lr}
                images = config.batch_size * (done - counted)
                row["images_per_second"] = images / (time.monotonic() - began)
                run.log_metrics({"step": done, **finite_or_none(row)})
                stage.advance(0, loss=row["loss"])
            if saves and ranks.leads:
                groups = {"model": named, "moments": optimizer.tensors(named)}
                if keeps_average:
                    groups["average"] = average
                save_checkpoint(
                    run.path / "checkpoints", done, groups, {}, keep=config.keep_checkpoints
                )
            if asked:
                ranks.leave_together(asked)
            due = shows if shows and done % config.show_every == 0 else None
            if due:
                due.show(done, progress)
            if logs or saves or due:
                began, counted = time.monotonic(), done
    if keeps_average:
        restore_tensors(named, average)
    # safetensors refuses channels_last
    unet.eval().to(memory_format=torch.contiguous_format)


def _accumulate_gradients(
    config: TrainUnetConfig,
    accelerator: Accelerator,
    unet: torch.nn.Module,
    objective: RegionInContextObjective,
    data: TrainingSet,
    step: int,
    ranks: Ranks,
    *,
    measured: bool,
) -> dict[str, Tensor]:
    """Go forward and back over one batch, piece by piece; return its loss and its parts.

    Each process goes over its own part of the batch; all get the gradients and values of all.

    Where `measured`, also what costs more: `grad_norm_noise`, `grad_norm_region` and
    `grad_norm_global` (`Losses.gradient_norms`), `cos_region` and `cos_scene`, the mean cosines of
    what the judges looked at, NaN where that was nothing.
    """
    pieces, norms, region, scene = [], [], [], []
    mine = ranks.share(config.batch_size)
    todo = micro_batches(range(mine.start, mine.stop), config.accumulate)
    for which in todo:
        batch = draw_batch(data, config, step, which)
        # the processes' gradients meet once, with the last piece; how many there are may differ
        with nullcontext() if which is todo[-1] else accelerator.no_sync(unet):
            with accelerator.autocast():
                losses = judge_batch(unet, objective, batch, config.batch_size)
            if measured:
                norms.append(losses.gradient_norms())
                region.append((losses.region_cosine, losses.region_count))
                scene.append((losses.scene_cosine, losses.scene_count))
            # DDP gives the mean over processes; each loss is its share of the whole batch's
            accelerator.backward(losses.total * ranks.count)
        pieces.append({"loss": losses.total.detach(), **losses.parts()})
    values = _summed(pieces, ranks)
    if measured:
        # the pieces are parts of one long vector
        squares = [{key: norm**2 for key, norm in piece.items()} for piece in norms]
        values |= {key: total.sqrt() for key, total in _summed(squares, ranks).items()}
        values |= {"cos_region": _mean(region, ranks), "cos_scene": _mean(scene, ranks)}
    return values


def _summed(pieces: Sequence[Mapping[str, Tensor]], ranks: Ranks) -> dict[str, Tensor]:
    """Add up scalars by name, over pieces and processes."""
    rows = torch.stack([torch.stack([value.float() for value in one.values()]) for one in pieces])
    return dict(zip(pieces[0], ranks.sum(rows.sum(dim=0)), strict=True))


def _mean(parts: Sequence[tuple[Tensor, int]], ranks: Ranks) -> Tensor:
    """Join means over so many samples each, of all processes; NaN over none."""
    device = parts[0][0].device
    sums = [mean.float() * count for mean, count in parts if count]
    total = torch.stack(sums).sum() if sums else torch.zeros((), device=device)
    count = torch.tensor(float(sum(count for _, count in parts)), device=device)
    total, count = ranks.sum(torch.stack([total, count]))
    return total / count


def micro_batches(whole: range, pieces: int) -> list[range]:
    """Split a range into at most `pieces` ranges of nearly the same length."""
    size = -(-len(whole) // pieces)
    return [whole[start : start + size] for start in range(0, len(whole), size)]


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


@torch.no_grad()
def update_average(
    average: Mapping[str, Tensor], named: Mapping[str, Tensor], decay: float
) -> None:
    """Move the average towards the weights, in place: decay * average + (1 - decay) * weights."""
    torch._foreach_lerp_(list(average.values()), [named[name] for name in average], 1 - decay)
