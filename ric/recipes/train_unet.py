"""`ric train-unet`: fine-tune an InstructPix2Pix UNet by Eq. 10 (Sec. 3.2).

Everything that does not change while the UNet trains is computed once (`encodings`).

Choice 8, EMA: the exponential moving average of the weights, decay min(0.9999, (1+n)/(10+n)) after
n steps, is exported; `--no-ema` exports the weights themselves and keeps no average.

With several processes, each takes its part of every batch, and DDP averages their gradients. Since
a sample's random draws are a function of the seed, the step and its place in the batch, the steps
are those of one process. The main process keeps the EMA and writes the run.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch._dynamo.exc import BackendCompilerFailed
from torch._inductor.exc import InductorError

from ric.device import pick_dtype
from ric.distributed import refuse_batch, start_accelerator
from ric.errors import RicError, first_line
from ric.inputs.training_set import encode_training_set
from ric.memory.plan import out_of_memory, within_memory
from ric.method.balance import Balance
from ric.report.curves import Panel, draw_curves
from ric.runs.artifacts import artifact_folder, pipeline_card
from ric.runs.checkpoints import last_checkpoint, restore_tensors
from ric.runs.descriptions import read_descriptions
from ric.runs.push_to_hub import push_to_hub
from ric.training.clipped_steps import warn_of_clipping
from ric.training.judges import compare_with_fits
from ric.training.loop import Cadence, Loop, Phase, TrainState, Watch
from ric.training.lora import add_lora, export_lora
from ric.training.optimizer import GuardedAdamW
from ric.training.tracking import tracked
from ric.training.unet_networks import copy_out_of_file, load_base, load_objective
from ric.training.unet_step import UnetStep
from ric.training.val_edits import preview_edits
from ric.work import open_work

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from diffusers import StableDiffusionInstructPix2PixPipeline

    from ric.config import TrainUnetConfig
    from ric.inputs.batches import TrainingSet
    from ric.method.objective import RegionInContextObjective
    from ric.progress import Progress
    from ric.runs.run import RunDir
    from ric.work import Work

CURVES = (
    Panel("Eq. 10 and its parts", "^loss"),
    Panel("cosines with the texts", "^cos_"),
    Panel("gradient norms", "^grad_norm"),
    Panel("pictures per second", "^images_per_second$"),
)


def train_unet(config: TrainUnetConfig, run: RunDir, progress: Progress | None = None) -> Path:
    """Fine-tune the base's UNet on DATA and return the run's `pipeline` folder.

    Raises:
        RicError: there is no usable sample, a model or judge cannot be loaded or does not fit, or
            the loss was not finite ten times in a row.
        Interrupted: a stop was requested; the run resumes from its checkpoint.
    """
    checkpoint = last_checkpoint(run, progress)  # first: it sets the number of threads
    work = open_work(config, run, progress)
    refuse_batch(config.batch_size, work.ranks.count)
    config = within_memory(config, work)
    with _in_one_line(config, work):
        setup = _prepare(config, work)
        with tracked(config.track if work.ranks.is_main else None, run):
            _train(config, work, setup, checkpoint)
    if work.ranks.is_main:
        draw_curves(run, CURVES)
        if warning := warn_of_clipping(run.metrics(), config):
            work.progress.note(warning)
        _export(config, work, setup.pipeline)
    return run.path / "pipeline"


class Setup(NamedTuple):
    """The networks and data of a training, loaded and encoded."""

    pipeline: StableDiffusionInstructPix2PixPipeline
    objective: RegionInContextObjective
    data: TrainingSet


def _prepare(config: TrainUnetConfig, work: Work) -> Setup:
    """Load the base and the judges, and encode the data (raises RicError, as `train_unet`)."""
    pipeline = load_base(config, work)
    objective = load_objective(config, work, pipeline)
    texts = read_descriptions(config.descriptions, work.samples, work.run)
    compare_with_fits(config, work, texts)
    data = encode_training_set(config, work, pipeline, objective, texts)
    if config.gradient_checkpointing:
        for network in (pipeline.unet, objective.vae):
            network.enable_gradient_checkpointing()
    if config.lora_rank:
        add_lora(pipeline.unet, config.lora_rank, config.seed)
    return Setup(pipeline, objective, data)


def _export(
    config: TrainUnetConfig, work: Work, pipeline: StableDiffusionInstructPix2PixPipeline
) -> None:
    """Write what the next command reads, and upload it with `--push-to-hub`.

    A failed upload leaves the run complete; the exit code shows it.
    """
    run, card = work.run, pipeline_card(work.run, config.base)
    if config.lora_rank:
        with artifact_folder(run, "lora") as folder:
            export_lora(pipeline.unet, folder)
            (folder / "README.md").write_text(card, encoding="utf-8")
    with artifact_folder(run, "pipeline") as folder:
        pipeline.save_pretrained(folder)
        (folder / "README.md").write_text(card, encoding="utf-8")
    if config.push_to_hub:
        pushed = run.path / ("lora" if config.lora_rank else "pipeline")
        try:
            work.progress.note(f"uploaded: {push_to_hub(pushed, config.push_to_hub)}")
        except RicError as error:
            work.progress.note(f"{error.message} {error.hint}")
            run.note(unavailable=["the upload"])


@contextmanager
def _in_one_line(config: TrainUnetConfig, work: Work) -> Iterator[None]:
    """Turn a GPU out of memory, or a torch.compile that does not work here, into a RicError."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise out_of_memory(config, work.run.runs_dir, work.ranks.count) from None
    except (BackendCompilerFailed, InductorError) as error:
        raise RicError(
            f"--compile does not work here: {first_line(error)}",
            "Install what it needs (a CPU: a C++ compiler; a GPU: triton), or omit --compile.",
        ) from None


def _train(config: TrainUnetConfig, work: Work, setup: Setup, checkpoint: Path | None) -> None:
    """Take `config.steps` steps of Eq. 10; leave the weights to export in the pipeline's UNet."""
    ranks, (pipeline, objective, data) = work.ranks, setup
    accelerator = start_accelerator(work.device, pick_dtype(config.dtype, work.device), ranks)
    work.run.note(processes=ranks.count)
    # 8-bit AdamW needs contiguous weights
    layout = torch.contiguous_format if config.adam_8bit else torch.channels_last
    copy_out_of_file(pipeline.unet)
    unet = pipeline.unet.train().to(memory_format=layout)
    if not config.lora_rank:
        unet.requires_grad_(True)
    named = {name: weight for name, weight in unet.named_parameters() if weight.requires_grad}
    trained = accelerator.prepare_model(unet)
    if config.compile:
        # the logged gradient norms backpropagate through the decoder once more
        torch._functorch.config.donated_buffer = False
        trained = torch.compile(trained)
        objective.vae.decoder.compile(dynamic=True)  # the number of decoded samples varies
    optimizer = GuardedAdamW(
        named.values(),
        lr=config.lr,
        betas=(config.adam_beta1, config.adam_beta2),
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        eight_bit=config.adam_8bit,
    )
    state = TrainState(named)
    if config.ema and ranks.is_main:
        state.keep_averages([config.ema_decay], torch.device("cpu") if config.ema_on_cpu else None)
    state.resume(checkpoint)
    balance = None
    clips = config.clip_alignments is not None
    ratio = config.clip_alignments if clips else config.balance
    if ratio is not None:
        balance = Balance(ratio, state.extra.setdefault("gradient_norms", {}), clips=clips)
    phase = Phase(
        steps=config.steps,
        begin=lambda: optimizer,
        step=UnetStep(config, accelerator, trained, objective, data, ranks, balance),
        rate=lambda step: config.lr,
        images=lambda step: config.batch_size,
    )
    cadence = Cadence.of(config, preview=config.show_every if ranks.is_main else 0)
    preview = preview_edits(config, work, pipeline) if cadence.preview else None
    watch = Watch(preview=preview, shown="^(loss|grad_norm|cos_region|cos_scene)$")
    Loop(work.run, work.progress, ranks, cadence, watch).take_steps(state, [phase])
    if state.averages:
        restore_tensors(named, state.averages[0])
    # safetensors refuses channels_last
    unet.eval().to(memory_format=torch.contiguous_format)
