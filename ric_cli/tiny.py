"""`ric tiny`: training the embedded family; examples/make_tiny.sh runs all of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from ric.config import (
    TinyCaptionerConfig,
    TinyClassifierConfig,
    TinyClipConfig,
    TinyPriorConfig,
    TinyScoreConfig,
    TinyVaeConfig,
)
from ric.errors import RicError
from ric_cli.console import print_line
from ric_cli.job import Job
from ric_cli.options import CheckpointEvery, Data, with_common_options

app = typer.Typer(
    help="Retrain the embedded models of --preset tiny.",
    no_args_is_help=True,
    add_completion=False,
)

Base = Annotated[
    str, typer.Option(help="Starting weights: a folder, a run, or tiny, the embedded ones.")
]
Steps = Annotated[int, typer.Option(min=1, help="Steps; the rate falls along a cosine over them.")]
BatchSize = Annotated[int, typer.Option(min=1)]
Rate = Annotated[float, typer.Option(help="The highest learning rate.")]
Optimizer = Annotated[
    Literal["adamw", "muon"], typer.Option(help="muon: Muon for matrices and convolutions.")
]
ConstantShare = Annotated[float, typer.Option(help="Share of the steps before the rate falls.")]
Averages = Annotated[
    int,
    typer.Option(
        help="How many EMAs to keep, each four times as long as the last; the best is exported."
    ),
]
MeasureEvery = Annotated[int, typer.Option(min=1, help="Steps between measurements on val.")]


@app.command()
def begin(
    folder: Annotated[Path, typer.Argument(help="Gets a subfolder per member.")],
    seed: Annotated[int, typer.Option(min=0, help="Seeds every weight.")] = 0,
) -> None:
    """Write the untrained members, which the trainings start from."""
    folder.mkdir(parents=True, exist_ok=True)
    from ric.recipes.tiny.beginnings import write_beginnings

    print_line(str(write_beginnings(folder, seed=seed)))


@app.command()
@with_common_options(TinyVaeConfig)
def vae(
    ctx: typer.Context,
    data: Data,
    base: Base = TinyVaeConfig.base,
    steps: Steps = TinyVaeConfig.steps,
    batch_size: BatchSize = TinyVaeConfig.batch_size,
    lr: Rate = TinyVaeConfig.lr,
    optimizer: Optimizer = TinyVaeConfig.optimizer,
    kl_weight: Annotated[
        float, typer.Option(help="Weight of the divergence per latent value.")
    ] = TinyVaeConfig.kl_weight,
    decoder_only: Annotated[
        bool, typer.Option("--decoder-only", help="Leave the encoder, and so the latents, alone.")
    ] = TinyVaeConfig.decoder_only,
    measure_every: MeasureEvery = TinyVaeConfig.measure_every,
    checkpoint_every: CheckpointEvery = TinyVaeConfig.checkpoint_every,
) -> None:
    """Train the autoencoder of both pipelines."""
    job = Job("tiny-vae", TinyVaeConfig, ctx)
    if job.is_dry():
        return
    from ric.recipes.tiny.vae import train_vae as recipe

    job.run(recipe)


@app.command()
@with_common_options(TinyClipConfig)
def clip(
    ctx: typer.Context,
    data: Data,
    base: Base = TinyClipConfig.base,
    steps: Steps = TinyClipConfig.steps,
    batch_size: BatchSize = TinyClipConfig.batch_size,
    lr: Rate = TinyClipConfig.lr,
    measure_every: MeasureEvery = TinyClipConfig.measure_every,
    checkpoint_every: CheckpointEvery = TinyClipConfig.checkpoint_every,
) -> None:
    """Train a CLIP on whole pictures and their captions."""
    job = Job("tiny-clip", TinyClipConfig, ctx)
    if job.is_dry():
        return
    from ric.recipes.tiny.clip import train_clip as recipe

    job.run(recipe)


@app.command()
@with_common_options(TinyCaptionerConfig)
def captioner(
    ctx: typer.Context,
    data: Data,
    base: Base = TinyCaptionerConfig.base,
    vision: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="A fit-blip run whose vision tower it starts with."),
    ] = TinyCaptionerConfig.vision,
    colour_noise: Annotated[
        float,
        typer.Option(help="Share of the colour words it reads in training that are replaced."),
    ] = TinyCaptionerConfig.colour_noise,
    steps: Steps = TinyCaptionerConfig.steps,
    batch_size: BatchSize = TinyCaptionerConfig.batch_size,
    lr: Rate = TinyCaptionerConfig.lr,
    measure_every: MeasureEvery = TinyCaptionerConfig.measure_every,
    checkpoint_every: CheckpointEvery = TinyCaptionerConfig.checkpoint_every,
) -> None:
    """Train the captioner of ric describe."""
    job = Job("tiny-captioner", TinyCaptionerConfig, ctx)
    if job.is_dry():
        return
    from ric.recipes.tiny.captioner import train_captioner as recipe

    job.run(recipe)


@app.command()
@with_common_options(TinyClassifierConfig)
def classifier(
    ctx: typer.Context,
    data: Data,
    base: Base = TinyClassifierConfig.base,
    steps: Steps = TinyClassifierConfig.steps,
    batch_size: BatchSize = TinyClassifierConfig.batch_size,
    lr: Rate = TinyClassifierConfig.lr,
    measure_every: MeasureEvery = TinyClassifierConfig.measure_every,
    checkpoint_every: CheckpointEvery = TinyClassifierConfig.checkpoint_every,
) -> None:
    """Train the network behind the stand-in metrics and edit success."""
    job = Job("tiny-classifier", TinyClassifierConfig, ctx)
    if job.is_dry():
        return
    from ric.recipes.tiny.classifier import train_classifier as recipe

    job.run(recipe)


@app.command()
@with_common_options(TinyPriorConfig)
def prior(
    ctx: typer.Context,
    data: Data,
    base: Base = TinyPriorConfig.base,
    vae: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="A tiny-vae run with the VAE to use. Default: the base's own."),
    ] = TinyPriorConfig.vae,
    text_to_image: Annotated[
        bool,
        typer.Option("--text-to-image", help="Drop the source channels; draw from captions alone."),
    ] = TinyPriorConfig.text_to_image,
    layers: Annotated[
        int,
        typer.Option(help="Grow the UNet to this many ResNet blocks per level; 0: leave it."),
    ] = TinyPriorConfig.layers,
    width: Annotated[
        float,
        typer.Option(min=1, help="Grow the UNet to this many times its channels; 1: leave it."),
    ] = TinyPriorConfig.width,
    edit_weight: Annotated[
        float, typer.Option(help="Added to a position's weight of 1 where pixels change.")
    ] = TinyPriorConfig.edit_weight,
    context_weight: Annotated[
        float, typer.Option(help="Added where they change beside the edited thing.")
    ] = TinyPriorConfig.context_weight,
    noise_power: Annotated[
        float, typer.Option(help="t is 1000 u^this: below 1, more steps of high noise.")
    ] = TinyPriorConfig.noise_power,
    block: Annotated[
        int, typer.Option(help="Draw fresh scenes in blocks of this many; 0: all of DATA at once.")
    ] = TinyPriorConfig.block,
    passes: Annotated[int, typer.Option(help="Passes over each block of fresh scenes.")] = (
        TinyPriorConfig.passes
    ),
    steps: Steps = TinyPriorConfig.steps,
    batch_size: BatchSize = TinyPriorConfig.batch_size,
    lr: Rate = TinyPriorConfig.lr,
    optimizer: Optimizer = TinyPriorConfig.optimizer,
    constant_share: ConstantShare = TinyPriorConfig.constant_share,
    averages: Averages = TinyPriorConfig.averages,
    measure_every: MeasureEvery = TinyPriorConfig.measure_every,
    checkpoint_every: CheckpointEvery = TinyPriorConfig.checkpoint_every,
) -> None:
    """Train a UNet and its text encoder, from which ric train-unet starts."""
    job = Job("tiny-prior", TinyPriorConfig, ctx)
    if job.is_dry():
        return
    from ric.recipes.tiny.prior import train_prior as recipe

    job.run(recipe)


@app.command()
@with_common_options(TinyScoreConfig)
def score(
    ctx: typer.Context,
    data: Data,
) -> None:
    """Score the members of the family on scenes they have not seen."""
    job = Job("tiny-score", TinyScoreConfig, ctx)
    if job.is_dry():
        return
    from ric.recipes.tiny.score import score_family as recipe

    job.run(recipe)


@app.command()
def assemble(
    folder: Annotated[Path, typer.Argument(help="The family's folder, replaced as a whole.")],
    runs: Annotated[
        list[str],
        typer.Option("--member", help="A member and its run: clip=runs/00003-tiny-clip. Repeat."),
    ],
    family_scores: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="The family_scores.json of ric tiny score."),
    ] = None,
    editor_scores: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="The scores.json of ric eval of the editor."),
    ] = None,
) -> None:
    """Turn finished runs into a family: half precision, with model cards."""
    from ric.recipes.tiny.assemble import MEMBERS, assemble

    named = dict(text.partition("=")[::2] for text in runs)
    for name, run in named.items():
        if name not in MEMBERS or not run:
            raise RicError(
                f"--member {name}={run} is not a member and its run.",
                f"The members are: {', '.join(MEMBERS)}.",
            )
    paths = {name: Path(run) for name, run in named.items()}
    made = assemble(folder, paths, family_scores=family_scores, editor_scores=editor_scores)
    print_line(str(made))
