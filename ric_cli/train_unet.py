"""`ric train-unet`."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from ric.config import AlignWeight, Attention, RegionText, TrainUnetConfig
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

LOSS = "What it is trained on"
MEMORY = "What it fits in"


@with_common_options(TrainUnetConfig)
def train_unet(
    ctx: typer.Context,
    data: Data,
    base: Annotated[
        str, typer.Option(help="Pipeline to start from: hub id, folder, or a train-unet run.")
    ] = TrainUnetConfig.base,
    descriptions: Descriptions = TrainUnetConfig.descriptions,
    region_clip: Annotated[
        Optional[str], typer.Option(help="The fit-clip run that judges regions.")  # noqa: UP045
    ] = TrainUnetConfig.region_clip,
    scene_blip: Annotated[
        Optional[str], typer.Option(help="The fit-blip run that judges scenes.")  # noqa: UP045
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
            help="Pieces a batch is computed in; the gradient is the same.",
            rich_help_panel=MEMORY,
        ),
    ] = TrainUnetConfig.accumulate,
    lora_rank: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Train a LoRA of this rank beside the attention, and export it."),
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
        typer.Option(help="alpha-bar: weigh them by alpha_bar_t.", rich_help_panel=LOSS),
    ] = TrainUnetConfig.align_weight,
    losses: Annotated[
        list[str],
        typer.Option(
            "--loss",
            help="Another term, NAME=WEIGHT: outside, or your own, my.py:Name=0.5. Repeatable.",
            rich_help_panel=LOSS,
            show_default=False,
        ),
    ] = TrainUnetConfig.losses,  # type: ignore[assignment]
    loss_decoder: Annotated[
        str,
        typer.Option(
            help="What decodes for the judges: vae, or an AutoencoderTiny, 17 times cheaper: "
            "madebyollin/taesd.",
            rich_help_panel=LOSS,
        ),
    ] = TrainUnetConfig.loss_decoder,
    region_text: Annotated[
        RegionText, typer.Option(help="What a region is matched with.", rich_help_panel=LOSS)
    ] = TrainUnetConfig.region_text,
    allow_missing_text: Annotated[
        bool,
        typer.Option(
            "--allow-missing-text",
            help="Train samples without a judge's text by the other losses alone.",
            rich_help_panel=LOSS,
        ),
    ] = TrainUnetConfig.allow_missing_text,
    conditioning_dropout: Annotated[
        float, typer.Option(min=0, max=1 / 3, help="p for text, for picture and for both.")
    ] = TrainUnetConfig.conditioning_dropout,
    flip: Annotated[
        bool, typer.Option(help="Mirror samples that do not say left or right.")
    ] = TrainUnetConfig.flip,
    cache: Annotated[
        bool, typer.Option(help="Encode pictures and texts once. Off: in every step.")
    ] = TrainUnetConfig.cache,
    ema: Annotated[bool, typer.Option(help="Export the weights' EMA.")] = TrainUnetConfig.ema,
    memory: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            metavar="GB",
            help="Of the GPU: pick what makes a step fit, and say so (--dry-run too).",
            rich_help_panel=MEMORY,
        ),
    ] = TrainUnetConfig.memory,
    ema_on_cpu: Annotated[
        bool,
        typer.Option(
            "--ema-on-cpu", help="Keep the average in the host's memory.", rich_help_panel=MEMORY
        ),
    ] = TrainUnetConfig.ema_on_cpu,
    adam_8bit: Annotated[
        bool,
        typer.Option(
            "--adam-8bit",
            help="AdamW's moments in 8 bits, by bitsandbytes.",
            rich_help_panel=MEMORY,
        ),
    ] = TrainUnetConfig.adam_8bit,
    max_grad_norm: Annotated[float, typer.Option()] = TrainUnetConfig.max_grad_norm,
    gradient_checkpointing: Annotated[
        bool,
        typer.Option(
            "--gradient-checkpointing",
            help="Compute UNet and decoder twice and keep less; same gradient.",
            rich_help_panel=MEMORY,
        ),
    ] = TrainUnetConfig.gradient_checkpointing,
    compile: Annotated[
        bool,
        typer.Option(
            "--compile", help="torch.compile UNet and loss decoder: slow start, fast steps."
        ),
    ] = TrainUnetConfig.compile,
    attention: Annotated[Attention, typer.Option()] = TrainUnetConfig.attention,
    log_every: Annotated[int, typer.Option(min=1)] = TrainUnetConfig.log_every,
    show_every: Annotated[
        int,
        typer.Option(min=0, help="Steps between two sheets of a few val edits, in val/; 0: never."),
    ] = TrainUnetConfig.show_every,
    checkpoint_every: CheckpointEvery = TrainUnetConfig.checkpoint_every,
    keep_checkpoints: Annotated[int, typer.Option(min=1)] = TrainUnetConfig.keep_checkpoints,
    track: Track = TrainUnetConfig.track,
    push_to_hub: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="ID", help="Upload the pipeline (or the LoRA) there; HF_TOKEN is the login."
        ),
    ] = TrainUnetConfig.push_to_hub,
) -> None:
    """Fine-tune an InstructPix2Pix UNet with region and scene losses (Sec. 3.2, Eq. 10)."""
    job = Job("train-unet", TrainUnetConfig, ctx)
    if job.is_dry():
        return
    from ric.recipes.train_unet import train_unet as recipe

    job.run(recipe)
