"""`ric fit-clip`."""

from __future__ import annotations

from typing import Annotated

import typer

from ric.config import FitClipConfig, RegionText, Sees
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


@with_common_options(FitClipConfig)
def fit_clip(
    ctx: typer.Context,
    data: Data,
    clip: Annotated[
        str,
        typer.Option(
            help="A transformers CLIP (hub id or folder), or a fit-clip run.",
            autocompletion=runs_of("fit-clip"),
        ),
    ] = FitClipConfig.clip,
    descriptions: Descriptions = FitClipConfig.descriptions,
    image_size: ImageSize = FitClipConfig.image_size,
    fit: SquareFit = FitClipConfig.fit,
    batch_size: Annotated[int, typer.Option(min=2)] = FitClipConfig.batch_size,
    micro_batch: MicroBatch = FitClipConfig.micro_batch,
    fusion_epochs: Annotated[
        int, typer.Option(min=0, help="Epochs of phase 1: the fusion alone.")
    ] = FitClipConfig.fusion_epochs,
    fusion_lr: Annotated[float, typer.Option(help="Rate of phase 1.")] = FitClipConfig.fusion_lr,
    joint_epochs: Annotated[
        int, typer.Option(min=0, help="Epochs of phase 2: everything.")
    ] = FitClipConfig.joint_epochs,
    joint_lr: Annotated[float, typer.Option(help="Rate of phase 2.")] = FitClipConfig.joint_lr,
    temperature: Annotated[
        float, typer.Option(help="tau of Eq. 11 at the start; it is learned.")
    ] = FitClipConfig.temperature,
    num_heads: Annotated[int, typer.Option(min=1)] = FitClipConfig.num_heads,
    gated_fusion: Annotated[
        bool, typer.Option(help="Off: Table 3's 'without gated fusion'.")
    ] = FitClipConfig.gated_fusion,
    sees: Annotated[
        Sees, typer.Option(help="The fusion's input; the crop or the image alone is a control.")
    ] = FitClipConfig.sees,
    controls: Annotated[
        bool, typer.Option(help="Also fit the fusions of both controls, as in phase 1.")
    ] = FitClipConfig.controls,
    region_text: Annotated[
        RegionText, typer.Option(help="The text that a region is matched with.")
    ] = FitClipConfig.region_text,
    blur_to_t: BlurToT = FitClipConfig.blur_to_t,
    base: EstimatingBase = FitClipConfig.base,
    pasted_negatives: PastedNegatives = FitClipConfig.pasted_negatives,
    attribute_negatives: AttributeNegatives = FitClipConfig.attribute_negatives,
    flatten: FlattenedFit = FitClipConfig.flatten,
    measure_every: MeasureEvery = FitClipConfig.measure_every,
    keep: KeepWeights = FitClipConfig.keep,
    checkpoint_every: CheckpointEvery = FitClipConfig.checkpoint_every,
    track: Track = FitClipConfig.track,
) -> None:
    """Fit the region judge: CLIP with gated fusion (Sec. 3.2.2, Eqs. 11 to 16)."""
    job = Job("fit-clip", FitClipConfig, ctx)
    if job.is_dry():
        return
    from ric.recipes.fit_clip import fit_clip as recipe

    job.run(recipe)
