"""`ric fit-blip`."""

from __future__ import annotations

from typing import Annotated

import typer

from ric.config import FitBlipConfig
from ric_cli.completion import runs_of
from ric_cli.job import Job
from ric_cli.options import (
    AttributeNegatives,
    BlurToT,
    CheckpointEvery,
    Data,
    Descriptions,
    EstimatingBase,
    FlattenedFit,
    ImageSize,
    KeepWeights,
    MeasureEvery,
    MicroBatch,
    PastedNegatives,
    SquareFit,
    Track,
    with_common_options,
)


@with_common_options(FitBlipConfig)
def fit_blip(
    ctx: typer.Context,
    data: Data,
    blip: Annotated[
        str,
        typer.Option(
            help="A transformers BLIP for retrieval (hub id, folder), or a fit-blip run.",
            autocompletion=runs_of("fit-blip"),
        ),
    ] = FitBlipConfig.blip,
    descriptions: Descriptions = FitBlipConfig.descriptions,
    image_size: ImageSize = FitBlipConfig.image_size,
    fit: SquareFit = FitBlipConfig.fit,
    batch_size: Annotated[int, typer.Option(min=2)] = FitBlipConfig.batch_size,
    micro_batch: MicroBatch = FitBlipConfig.micro_batch,
    epochs: Annotated[int, typer.Option(min=1)] = FitBlipConfig.epochs,
    lr: Annotated[float, typer.Option()] = FitBlipConfig.lr,
    source_negatives: Annotated[
        bool, typer.Option(help="Use each source picture as a negative of its target's text.")
    ] = FitBlipConfig.source_negatives,
    max_text_tokens: Annotated[
        int, typer.Option(min=3, help="Longer paragraphs are cut before their end token.")
    ] = FitBlipConfig.max_text_tokens,
    temperature: Annotated[
        float, typer.Option(help="tau of Eq. 11 at the start; it is learned.")
    ] = FitBlipConfig.temperature,
    blur_to_t: BlurToT = FitBlipConfig.blur_to_t,
    base: EstimatingBase = FitBlipConfig.base,
    pasted_negatives: PastedNegatives = FitBlipConfig.pasted_negatives,
    attribute_negatives: AttributeNegatives = FitBlipConfig.attribute_negatives,
    flatten: FlattenedFit = FitBlipConfig.flatten,
    measure_every: MeasureEvery = FitBlipConfig.measure_every,
    keep: KeepWeights = FitBlipConfig.keep,
    checkpoint_every: CheckpointEvery = FitBlipConfig.checkpoint_every,
    track: Track = FitBlipConfig.track,
) -> None:
    """Fit the scene judge: BLIP on whole pictures and their paragraphs (Sec. 3.2.1, Eq. 11)."""
    job = Job("fit-blip", FitBlipConfig, ctx)
    if job.is_dry():
        return
    from ric.recipes.fit_blip import fit_blip as recipe

    job.run(recipe)
