"""`ric edit`."""

from __future__ import annotations

import os
from typing import Annotated, Optional

import typer

from ric.config import Choosing, EditConfig, PhotoFormat
from ric.registry import EDITORS
from ric_cli.completion import runs_of
from ric_cli.job import Job
from ric_cli.options import MANY, Engine, RayAddress, Workers, with_common_options

CHOICE = "Candidates"
MASKS, PHOTOS, AGAIN = "Masks", "Photos", "A repeated command"


@with_common_options(EditConfig, part="editor")
def edit(
    ctx: typer.Context,
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA|IMAGE|FOLDER",
            help="A dataset, as in the other commands; a photo; or a folder of photos.",
            show_default=False,
        ),
    ],
    instruction: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help="What to do, after all photos; for a dataset in place of its own."),
    ] = EditConfig.instruction,
    more_instructions: Annotated[
        list[str],
        typer.Option(
            "--instruction",
            metavar="TEXT",
            help="An edit of every photo by this, too; repeat it for several.",
            rich_help_panel=PHOTOS,
            show_default=False,
        ),
    ] = EditConfig.more_instructions,  # type: ignore[assignment]
    instructions: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="FILE",
            help="A txt with an instruction a line, for every photo; or a csv of file,instruction.",
            rich_help_panel=PHOTOS,
            show_default=False,
        ),
    ] = EditConfig.instructions,
    seeds: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="0,1,2",
            help="An edit of every photo with each of these seeds.",
            rich_help_panel=PHOTOS,
            show_default=False,
        ),
    ] = EditConfig.seeds,
    also: Annotated[
        list[str],
        typer.Argument(
            metavar="MORE",
            help="Further photos and folders come before the instruction.",
            show_default=False,
        ),
    ] = EditConfig.also,  # type: ignore[assignment]
    recursive: Annotated[
        bool,
        typer.Option("--recursive", help="Photos in subfolders, too.", rich_help_panel=PHOTOS),
    ] = EditConfig.recursive,
    mask: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="data|FILE|DIR|none",
            help="Edit only inside masks, white on black: the dataset's own, one for all photos, a "
            "folder of them. Default: NAME_mask.png beside a photo; none for a dataset.",
            rich_help_panel=MASKS,
            show_default=False,
        ),
    ] = EditConfig.mask,
    mask_text: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help='What to edit, such as "the dress": found in each picture.',
            rich_help_panel=MASKS,
            show_default=False,
        ),
    ] = EditConfig.mask_text,
    mask_text_model: Annotated[
        str,
        typer.Option(
            help="What finds it: any CLIPSeg, SAM 3, or (MM) GroundingDINO.",
            rich_help_panel=MASKS,
        ),
    ] = EditConfig.mask_text_model,
    mask_text_sam: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="MODEL",
            help="Makes masks of a GroundingDINO's boxes: any SAM or SAM 2, such as "
            "facebook/sam-vit-base.",
            rich_help_panel=MASKS,
            show_default=False,
        ),
    ] = EditConfig.mask_text_sam,
    feather: Annotated[
        int,
        typer.Option(
            min=0,
            help="Pixels outside the mask over which the edit fades.",
            rich_help_panel=MASKS,
        ),
    ] = EditConfig.feather,
    crop_to_mask: Annotated[
        bool,
        typer.Option(
            "--crop-to-mask",
            help="Edit a window round the mask at native resolution.",
            rich_help_panel=MASKS,
        ),
    ] = EditConfig.crop_to_mask,
    margin: Annotated[
        int,
        typer.Option(
            min=0, help="That window's pixels round the mask, at least.", rich_help_panel=MASKS
        ),
    ] = EditConfig.margin,
    out: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="DIR|ADDRESS",
            help="Where photos' edits go, named and nested like them. Default: the run's images; "
            "an address (s3://bucket/edited) gets a copy of them, of a dataset's edits too.",
            rich_help_panel=PHOTOS,
            show_default=False,
        ),
    ] = EditConfig.out,
    format: Annotated[
        Optional[PhotoFormat],  # noqa: UP045
        typer.Option(help="Default: the photo's own.", rich_help_panel=PHOTOS, show_default=False),
    ] = EditConfig.format,
    quality: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(
            min=1,
            max=100,
            help="Of JPEG and WebP. Default: as the photo's own JPEG; WebP without loss.",
            rich_help_panel=PHOTOS,
            show_default=False,
        ),
    ] = EditConfig.quality,
    export: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="DIR",
            help="Of a benchmark, such as gedit:DIR: put the edits also where its own judge looks.",
            show_default=False,
        ),
    ] = EditConfig.export,
    candidates: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Edit each picture with N seeds, and keep the edit that --choose-by says.",
            rich_help_panel=CHOICE,
        ),
    ] = EditConfig.candidates,
    choose_by: Annotated[
        Choosing,
        typer.Option(
            help="Keep the one that the judges like best, or the one most like the others.",
            rich_help_panel=CHOICE,
        ),
    ] = EditConfig.choose_by,
    region_clip: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="A fit-clip run: its judge chooses by the mask and the region_text.",
            rich_help_panel=CHOICE,
            autocompletion=runs_of("fit-clip"),
        ),
    ] = EditConfig.region_clip,
    scene_blip: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="A fit-blip run: its judge chooses by the scene_text.",
            rich_help_panel=CHOICE,
            autocompletion=runs_of("fit-blip"),
        ),
    ] = EditConfig.scene_blip,
    redo: Annotated[
        list[str],
        typer.Option(
            metavar="ID",
            help="Make this edit anew, in a run that began before; repeat it for several.",
            rich_help_panel=AGAIN,
            show_default=False,
        ),
    ] = EditConfig.redo,  # type: ignore[assignment]
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed",
            help="Try what failed again, also where its inputs have not changed.",
            rich_help_panel=AGAIN,
        ),
    ] = EditConfig.retry_failed,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Make every edit anew, also over other files of --out or --export.",
            rich_help_panel=AGAIN,
        ),
    ] = EditConfig.overwrite,
    editor: Annotated[
        str, typer.Option(help=f"The editor: {', '.join(EDITORS)}; or yours, my_file.py:Name.")
    ] = EditConfig.editor,
    batch_size: Annotated[int, typer.Option(min=1)] = EditConfig.batch_size,
    shard: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="I/N", help="Only the I-th of N shares of the batches.", rich_help_panel=MANY
        ),
    ] = EditConfig.shard,
    engine: Engine = "local",
    ray_address: RayAddress = None,
    workers: Workers = None,
    allow_overlap: Annotated[
        bool, typer.Option("--allow-overlap", help="Edit samples the model was trained on.")
    ] = EditConfig.allow_overlap,
) -> None:
    """Edit pictures by instructions; each result has its source's size."""
    _tell_photos_from_instruction(ctx)
    job = Job("edit", EditConfig, ctx)
    if job.is_dry():
        return
    from ric.recipes.edit import edit as recipe
    from ric.runs.edited_pictures import run_into

    job.run_folder = job.run_folder or run_into(job.config, job.runs_dir)
    job.run(recipe)


def _tell_photos_from_instruction(ctx: typer.Context) -> None:
    """Sort what follows DATA: the last word is the instruction, unless it is a file or folder."""
    words = [word for word in (ctx.params["instruction"], *ctx.params["also"]) if word is not None]
    told = words.pop() if words and not os.path.exists(words[-1]) else None
    ctx.params.update(instruction=told, also=words)
    for name, is_typed in (("instruction", told is not None), ("also", bool(words))):
        source = ctx.get_parameter_source(name)
        assert source is not None  # it is declared above
        ctx.set_parameter_source(name, source.COMMANDLINE if is_typed else source.DEFAULT)
