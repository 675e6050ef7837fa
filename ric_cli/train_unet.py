"""`ric train-unet`."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from ric.config import (
    AlignTo,
    AlignWeight,
    Attention,
    NoiseReduction,
    RegionGradient,
    RegionText,
    TrainUnetConfig,
)
from ric_cli.completion import runs_of
from ric_cli.job import Job
from ric_cli.options import (
    CheckpointEvery,
    Data,
    Descriptions,
    ImageSize,
    SquareFit,
    Track,
    with_common_options,
)

LOSS = "The loss"
MEMORY = "Memory"


@with_common_options(TrainUnetConfig)
def train_unet(
    ctx: typer.Context,
    data: Data,
    base: Annotated[
        str,
        typer.Option(
            help="Pipeline to start from: hub id, folder, or a train-unet run.",
            autocompletion=runs_of("train-unet"),
        ),
    ] = TrainUnetConfig.base,
    descriptions: Descriptions = TrainUnetConfig.descriptions,
    region_clip: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="The fit-clip run that judges regions.", autocompletion=runs_of("fit-clip")
        ),
    ] = TrainUnetConfig.region_clip,
    scene_blip: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="The fit-blip run that judges scenes.", autocompletion=runs_of("fit-blip")
        ),
    ] = TrainUnetConfig.scene_blip,
    steps: Annotated[int, typer.Option(min=1)] = TrainUnetConfig.steps,
    lr: Annotated[float, typer.Option()] = TrainUnetConfig.lr,
    image_size: ImageSize = TrainUnetConfig.image_size,
    fit: SquareFit = TrainUnetConfig.fit,
    batch_size: Annotated[int, typer.Option(min=1)] = TrainUnetConfig.batch_size,
    accumulate: Annotated[
        int,
        typer.Option(
            min=1,
            help="Micro-batches per batch; the gradient is the same.",
            rich_help_panel=MEMORY,
        ),
    ] = TrainUnetConfig.accumulate,
    lora_rank: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Train and export a LoRA of this rank on the attention."),
    ] = TrainUnetConfig.lora_rank,
    region_loss: Annotated[
        bool, typer.Option(help="Eq. 8. Off: Table 3.", rich_help_panel=LOSS)
    ] = TrainUnetConfig.region_loss,
    global_loss: Annotated[
        bool, typer.Option(help="Eq. 9. Off: Table 3; both off: Table 2.", rich_help_panel=LOSS)
    ] = TrainUnetConfig.global_loss,
    gated_fusion: Annotated[
        bool, typer.Option(help="Eqs. 12 to 16. Off: Table 3.", rich_help_panel=LOSS)
    ] = TrainUnetConfig.gated_fusion,
    region_weight: Annotated[
        float, typer.Option(rich_help_panel=LOSS)
    ] = TrainUnetConfig.region_weight,
    global_weight: Annotated[
        float, typer.Option(rich_help_panel=LOSS)
    ] = TrainUnetConfig.global_weight,
    noise_weight: Annotated[
        float, typer.Option(rich_help_panel=LOSS)
    ] = TrainUnetConfig.noise_weight,
    align_below: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Region and scene losses only below this t.", rich_help_panel=LOSS),
    ] = TrainUnetConfig.align_below,
    align_weight: Annotated[
        AlignWeight,
        typer.Option(
            help="Weight both by alpha_bar_t, by 1 - alpha_bar_t, or against what Eq. 5 magnifies.",
            rich_help_panel=LOSS,
        ),
    ] = TrainUnetConfig.align_weight,
    align_to: Annotated[
        AlignTo,
        typer.Option(
            help="What both come near: the text, or the same judge's embedding of the target.",
            rich_help_panel=LOSS,
        ),
    ] = TrainUnetConfig.align_to,
    noise_reduction: Annotated[
        NoiseReduction,
        typer.Option(
            help="Of the squared error: over a sample's elements. The paper prints a sum.",
            rich_help_panel=LOSS,
        ),
    ] = TrainUnetConfig.noise_reduction,
    hinge: Annotated[
        bool,
        typer.Option(
            "--hinge",
            help="Region and scene losses end at the cosine that the target itself has.",
            rich_help_panel=LOSS,
        ),
    ] = TrainUnetConfig.hinge,
    balance: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            min=0,
            metavar="R",
            help="Scale each alignment loss so that its gradient norm is R times the noise term's.",
            rich_help_panel=LOSS,
        ),
    ] = TrainUnetConfig.balance,
    clip_alignments: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            min=0,
            metavar="R",
            help="As --balance, but only for an alignment loss whose gradient is longer.",
            rich_help_panel=LOSS,
        ),
    ] = TrainUnetConfig.clip_alignments,
    align_restore: Annotated[
        float,
        typer.Option(
            min=0, help="Share of the known noise put back into x0_hat.", rich_help_panel=LOSS
        ),
    ] = TrainUnetConfig.align_restore,
    flatten: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="RHO",
            help="Judge pixels after an adversarial step of this length, such as 0.02.",
            rich_help_panel=LOSS,
        ),
    ] = TrainUnetConfig.flatten,
    augment_judged: Annotated[
        bool,
        typer.Option(
            "--augment-judged",
            help="Judge pixels shifted and noised, differently each time.",
            rich_help_panel=LOSS,
        ),
    ] = TrainUnetConfig.augment_judged,
    align_agree: Annotated[
        bool,
        typer.Option(
            "--align-agree",
            help="Both pull only where the noise loss pulls in the same direction.",
            rich_help_panel=LOSS,
        ),
    ] = TrainUnetConfig.align_agree,
    region_gradient: Annotated[
        RegionGradient,
        typer.Option(help="Where the region loss may change pixels.", rich_help_panel=LOSS),
    ] = TrainUnetConfig.region_gradient,
    losses: Annotated[
        list[str],
        typer.Option(
            "--loss",
            help="A further term, NAME=WEIGHT: outside, or yours, my.py:Name=0.5. Repeatable.",
            rich_help_panel=LOSS,
            show_default=False,
        ),
    ] = TrainUnetConfig.losses,  # type: ignore[assignment]
    loss_decoder: Annotated[
        str,
        typer.Option(
            help="The decoder of the losses: vae, or an AutoencoderTiny, 17 times cheaper: "
            "madebyollin/taesd.",
            rich_help_panel=LOSS,
        ),
    ] = TrainUnetConfig.loss_decoder,
    region_text: Annotated[
        RegionText,
        typer.Option(help="The text that a region is matched with.", rich_help_panel=LOSS),
    ] = TrainUnetConfig.region_text,
    allow_missing_text: Annotated[
        bool,
        typer.Option(
            "--allow-missing-text",
            help="Train samples without a judge's text with the other losses only.",
            rich_help_panel=LOSS,
        ),
    ] = TrainUnetConfig.allow_missing_text,
    conditioning_dropout: Annotated[
        float, typer.Option(min=0, max=1 / 3, help="Probability for text, picture and both, each.")
    ] = TrainUnetConfig.conditioning_dropout,
    flip: Annotated[
        bool, typer.Option(help="Flip samples at random, unless a text says left or right.")
    ] = TrainUnetConfig.flip,
    cache: Annotated[
        bool, typer.Option(help="Encode pictures and texts once. Off: at every step.")
    ] = TrainUnetConfig.cache,
    ema: Annotated[bool, typer.Option(help="Export the weights' EMA.")] = TrainUnetConfig.ema,
    memory: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            metavar="GB",
            help="The GPU's memory: pick a plan that fits, and show it (also with --dry-run).",
            rich_help_panel=MEMORY,
        ),
    ] = TrainUnetConfig.memory,
    ema_on_cpu: Annotated[
        bool,
        typer.Option(
            "--ema-on-cpu", help="Keep the EMA in the host's memory.", rich_help_panel=MEMORY
        ),
    ] = TrainUnetConfig.ema_on_cpu,
    adam_8bit: Annotated[
        bool,
        typer.Option(
            "--adam-8bit",
            help="AdamW's moments in 8 bits, with bitsandbytes.",
            rich_help_panel=MEMORY,
        ),
    ] = TrainUnetConfig.adam_8bit,
    max_grad_norm: Annotated[float, typer.Option()] = TrainUnetConfig.max_grad_norm,
    gradient_checkpointing: Annotated[
        bool,
        typer.Option(
            "--gradient-checkpointing",
            help="Recompute activations of UNet and decoder; the gradient is the same.",
            rich_help_panel=MEMORY,
        ),
    ] = TrainUnetConfig.gradient_checkpointing,
    compile: Annotated[
        bool,
        typer.Option(
            "--compile", help="torch.compile UNet and loss decoder: slow start, faster steps."
        ),
    ] = TrainUnetConfig.compile,
    attention: Annotated[Attention, typer.Option()] = TrainUnetConfig.attention,
    log_every: Annotated[int, typer.Option(min=1)] = TrainUnetConfig.log_every,
    show_every: Annotated[
        int,
        typer.Option(min=0, help="Steps between previews of a few val edits, in val/; 0: never."),
    ] = TrainUnetConfig.show_every,
    checkpoint_every: CheckpointEvery = TrainUnetConfig.checkpoint_every,
    keep_checkpoints: Annotated[int, typer.Option(min=1)] = TrainUnetConfig.keep_checkpoints,
    track: Track = TrainUnetConfig.track,
    push_to_hub: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="ID", help="Upload the pipeline (or the LoRA) there, with the login HF_TOKEN."
        ),
    ] = TrainUnetConfig.push_to_hub,
) -> None:
    """Fine-tune an InstructPix2Pix UNet with region and scene losses (Sec. 3.2, Eq. 10)."""
    job = Job("train-unet", TrainUnetConfig, ctx)
    if job.is_dry():
        return
    from ric.recipes.train_unet import train_unet as recipe

    job.run(recipe)
