"""`ric edit`."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from ric.config import EditConfig
from ric.registry import EDITORS
from ric_cli.job import Job
from ric_cli.options import with_common_options


@with_common_options(EditConfig)
def edit(
    ctx: typer.Context,
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA|IMAGE|FOLDER",
            help="A dataset (as everywhere), one photo, or a folder of photos.",
            show_default=False,
        ),
    ],
    instruction: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help="What to do; needed for photos, before a dataset's own."),
    ] = EditConfig.instruction,
    editor: Annotated[
        str, typer.Option(help=f"Who edits: {', '.join(EDITORS)}; or your own, my_file.py:Name.")
    ] = EditConfig.editor,
    unet: Annotated[
        str, typer.Option(help="A train-unet run, or any InstructPix2Pix pipeline.")
    ] = EditConfig.unet,
    steps: Annotated[int, typer.Option(min=1, help="Denoising steps.")] = EditConfig.steps,
    guidance: Annotated[
        float, typer.Option(help="s_T: how much the text counts.")
    ] = EditConfig.guidance,
    image_guidance: Annotated[
        float, typer.Option(help="s_I: how much the picture counts.")
    ] = EditConfig.image_guidance,
    image_size: Annotated[
        int, typer.Option(min=8, help="The longer side while editing, in pixels.")
    ] = EditConfig.image_size,
    batch_size: Annotated[int, typer.Option(min=1)] = EditConfig.batch_size,
    allow_overlap: Annotated[
        bool, typer.Option("--allow-overlap", help="Edit samples the model was trained on.")
    ] = EditConfig.allow_overlap,
) -> None:
    """Edit pictures by instructions; each result has its source's size."""
    job = Job("edit", EditConfig, ctx)
    if job.is_dry():
        return
    from ric.recipes.edit import edit as recipe

    job.run(recipe)
