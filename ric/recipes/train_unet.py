"""`ric train-unet`: fine-tune an InstructPix2Pix UNet by Eq. 10 (Sec. 3.2).

Everything that does not change while the UNet trains is computed once (`encodings`).

Choice 8, average: the weights' moving average, decay min(0.9999, (1+n)/(10+n)) after n steps, is
exported; `--no-ema` exports the weights themselves and keeps no average.

Started as several processes, each takes its part of every batch, and DDP joins their gradients: as
what a sample sees is a function of the seed, the step and its place in the batch, the steps are
those of one process. The first one keeps the average and writes the run.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import torch
from diffusers import DDPMScheduler
from torch._dynamo.exc import BackendCompilerFailed
from torch._inductor.exc import InductorError

from ric.device import pick_device, pick_dtype
from ric.distributed import Ranks, start_accelerator
from ric.errors import RicError, first_line
from ric.inputs.batches import TrainingSet
from ric.inputs.encodings import Encoder, OnDemand, encode_once
from ric.inputs.examples import Example, enough, load_examples
from ric.memory.plan import out_of_memory, within_memory
from ric.method.objective import RegionInContextObjective
from ric.method.region_encoder import RegionEncoder
from ric.method.scene_encoder import SceneEncoder
from ric.models.locate import locate
from ric.models.pipeline import (
    load_pipeline,
    load_small_decoder,
    read_source_channels,
    size_multiple,
)
from ric.progress import Progress, Silent
from ric.report.curves import Panel, draw_curves
from ric.runs.artifacts import artifact_folder, pipeline_card
from ric.runs.checkpoints import last_checkpoint, restore_tensors
from ric.runs.push_to_hub import push_to_hub
from ric.runs.samples import read_descriptions
from ric.runs.trained_on import list_trained_on
from ric.training.judges import compare_with_fits, region_judge_of, scene_judge_of
from ric.training.loop import Cadence, Loop, Phase, TrainState, Watch
from ric.training.lora import add_lora, export_lora
from ric.training.optimizer import GuardedAdamW
from ric.training.tracking import tracked
from ric.training.unet_step import accumulate_gradients
from ric.training.val_edits import ValEdits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from diffusers import (
        AutoencoderKL,
        AutoencoderTiny,
        StableDiffusionInstructPix2PixPipeline,
        UNet2DConditionModel,
    )

    from ric.config import TrainUnetConfig
    from ric.runs.run import RunDir


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
    config = within_memory(config, run, progress, ranks)
    with _in_one_line(config, run, ranks):
        pipeline, objective, data = _prepare(config, run, progress, device, ranks)
        with tracked(config.track if ranks.leads else None, run):
            _train(config, run, progress, pipeline, objective, data, checkpoint, ranks)
    if ranks.leads:
        draw_curves(run, CURVES)
        card = pipeline_card(run, config.base)
        if config.lora_rank:
            with artifact_folder(run, "lora") as folder:
                export_lora(pipeline.unet, folder)
                (folder / "README.md").write_text(card, encoding="utf-8")
        with artifact_folder(run, "pipeline") as folder:
            pipeline.save_pretrained(folder)
            (folder / "README.md").write_text(card, encoding="utf-8")
        if config.push_to_hub:
            pushed = run.path / ("lora" if config.lora_rank else "pipeline")
            _upload(pushed, config.push_to_hub, run, progress)
    return run.path / "pipeline"


def _prepare(
    config: TrainUnetConfig, run: RunDir, progress: Progress, device: torch.device, ranks: Ranks
) -> tuple[StableDiffusionInstructPix2PixPipeline, RegionInContextObjective, TrainingSet]:
    """Load the base and the judges, and encode the data (Raises RicError, as `train_unet`)."""
    base = locate(config, "base", run)
    pipeline = load_pipeline(base, device)
    if config.lora_rank:
        _refuse_unread_source(pipeline.unet)
    read_source_channels(pipeline.unet)
    refuse_size(config.image_size, size_multiple(pipeline))
    if config.attention == "xformers":
        _use_xformers(pipeline.unet)
    region_judge, scene_judge = load_judges(config, run, device)
    compare_with_fits(config, run, progress)
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
    if config.lora_rank:
        add_lora(pipeline.unet, config.lora_rank, config.seed)
    return pipeline, objective, data


def _upload(folder: Path, repo_id: str, run: RunDir, progress: Progress) -> None:
    """Push what was trained; a failure leaves the run whole, and the exit code tells of it."""
    try:
        progress.note(f"uploaded: {push_to_hub(folder, repo_id)}")
    except RicError as error:
        progress.note(f"{error.message} {error.hint}")
        run.note(unavailable=["the upload"])


@contextmanager
def _in_one_line(config: TrainUnetConfig, run: RunDir, ranks: Ranks) -> Iterator[None]:
    """Say in one line that memory ran out, or that torch.compile does not work on this machine."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise out_of_memory(config, run.runs_dir, ranks.count) from None
    except (BackendCompilerFailed, InductorError) as error:
        raise RicError(
            f"--compile does not work here: {first_line(error)}",
            "It needs a C++ compiler for a CPU and triton for a GPU; or leave --compile away.",
        ) from None


def _loss_decoder(
    config: TrainUnetConfig, run: RunDir, pipeline: StableDiffusionInstructPix2PixPipeline
) -> AutoencoderKL | AutoencoderTiny:
    """Give what decodes for the judges: the pipeline's own VAE, or a small one of its latents."""
    if config.loss_decoder == "vae":
        return pipeline.vae
    path = locate(config, "loss_decoder", run)
    return load_small_decoder(path, pipeline)


def load_judges(
    config: TrainUnetConfig, run: RunDir, device: torch.device
) -> tuple[RegionEncoder | None, SceneEncoder | None]:
    """Load the judges whose losses are on.

    Raises:
        RicError: a loss is on and its judge is not named, or is no judge.
    """
    region = scene = None
    if region_judge_of(config):
        path = locate(config, "region_clip", run)
        region = RegionEncoder.from_pretrained(path).to(device)
        region.gated = region.gated and config.gated_fusion
    if scene_judge_of(config):
        path = locate(config, "scene_blip", run)
        scene = SceneEncoder.from_pretrained(path).to(device)
    return region, scene


def _refuse_unread_source(unet: UNet2DConditionModel) -> None:
    if unet.conv_in.in_channels == unet.config.out_channels:
        raise RicError(
            "--lora-rank needs a base that reads a source picture; this one makes pictures from"
            " text alone.",
            "Start from an InstructPix2Pix-type pipeline, or train all weights: no --lora-rank.",
        )


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
        _leave_out(
            lost, len(examples), "region", "--region-text instruction", config, run, progress
        )
        if unlocalised := [item.id for item in examples if item.box is None]:
            run.note(unlocalised=unlocalised)
            progress.note(f"{len(unlocalised)} samples are unlocalised: the region loss skips them")
    if scene_judge:
        lost = [item.id for item in examples if item.scene_text is None]
        _leave_out(lost, len(examples), "scene", "--descriptions RUN", config, run, progress)
    return examples


def _leave_out(
    lost: list[str],
    count: int,
    judge: str,
    remedy: str,
    config: TrainUnetConfig,
    run: RunDir,
    progress: Progress,
) -> None:
    """Note the samples without a judge's text: its loss skips them, the noise loss does not.

    Raises:
        RicError: that is all of them, or any where the user did not allow it.
    """
    if not lost:
        return
    run.note(**{f"without_{judge}_text": lost})
    without = "--no-region-loss" if judge == "region" else "--no-global-loss"
    if len(lost) == count:
        raise RicError(
            f"No sample has a {judge} text: the {judge} loss would judge nothing.",
            f"Use {remedy}, or train without that loss: {without}",
        )
    if not config.allow_missing_text:
        shown = ", ".join(lost[:5]) + (", …" if len(lost) > 5 else "")
        raise RicError(
            f"{len(lost)} of {count} samples have no {judge} text: {shown}.",
            f"All are listed in {run.path / 'run.json'}. Use {remedy}, or train them by the other"
            " losses alone: --allow-missing-text",
        )
    progress.note(f"{len(lost)} samples have no {judge} text: the {judge} loss skips them")


def _leave_the_file(unet: UNet2DConditionModel) -> None:
    """Copy weights, one by one, out of the file that they are a view of on a CPU.

    As long as one of them is a view, all of the file's pages that were read stay in memory.
    """
    for weight in unet.parameters():
        weight.data = weight.data.clone()


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
    # 8-bit AdamW lays weights out plainly
    layout = torch.contiguous_format if config.adam_8bit else torch.channels_last
    _leave_the_file(pipeline.unet)
    unet = pipeline.unet.train().to(memory_format=layout)
    if not config.lora_rank:
        unet.requires_grad_(True)
    named = {name: weight for name, weight in unet.named_parameters() if weight.requires_grad}
    trained = accelerator.prepare_model(unet)
    if config.compile:
        # the gradient norms that are logged go back through the decoder once more
        torch._functorch.config.donated_buffer = False
        trained = torch.compile(trained)
        objective.vae.decoder.compile(dynamic=True)  # how many samples are judged varies
    optimizer = GuardedAdamW(
        named.values(),
        lr=config.lr,
        betas=(config.adam_beta1, config.adam_beta2),
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        eight_bit=config.adam_8bit,
    )
    state = TrainState(named)
    if config.ema and ranks.leads:
        state.keep_averages([config.ema_decay], torch.device("cpu") if config.ema_on_cpu else None)
    state.resume(checkpoint)
    phase = Phase(
        steps=config.steps,
        begin=lambda: optimizer,
        step=lambda step, logs: accumulate_gradients(
            config, accelerator, trained, objective, data, step, ranks, measured=logs
        ),
        rate=lambda step: config.lr,
        images=lambda step: config.batch_size,
    )
    shows = ValEdits(config, run, pipeline) if config.show_every and ranks.leads else None
    cadence = Cadence(
        log=config.log_every,
        save=config.checkpoint_every,
        preview=config.show_every if shows else 0,
        keep=config.keep_checkpoints,
    )
    watch = Watch(
        preview=partial(shows.show, progress=progress) if shows else None,
        shown="^(loss|grad_norm|cos_region|cos_scene)$",
    )
    Loop(run, progress, ranks, cadence, watch).take_steps(state, [phase])
    if state.averages:
        restore_tensors(named, state.averages[0])
    # safetensors refuses channels_last
    unet.eval().to(memory_format=torch.contiguous_format)
