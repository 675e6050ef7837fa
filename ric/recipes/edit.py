"""`ric edit`: new pictures from instructions, over a dataset, a folder of photos, or one photo."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from ric.data.columns import refuse_not_utf8
from ric.data.images import ImageError, open_image
from ric.data.photos import find_photos
from ric.device import pick_device
from ric.editors.editor import EditRequest
from ric.editors.load import load_editor
from ric.errors import RicError, SampleError
from ric.interrupt import stop_between_steps
from ric.models.locate import locate
from ric.models.table import uses
from ric.progress import Progress, Silent
from ric.report.edit_sheet import SHEET, write_sheet
from ric.runs.record import parents_of
from ric.runs.rows import save_png
from ric.runs.samples import read_samples
from ric.runs.trained_on import groups_of, refuse_overlap, trained_groups

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ric.config import EditConfig
    from ric.data.photos import Photo
    from ric.runs.run import RunDir

NOT_FINITE = "The model's numbers are not finite: there is no picture (--dtype fp32 may help)."


def edit(config: EditConfig, run: RunDir, progress: Progress | None = None) -> Path:
    """Edit every sample of DATA and return the run's `images` folder; `sheet.png` shows the first.

    A sample that is done already is passed over, unread, so a repeated command goes on where it
    stopped, and several processes may share one run. A stop is heeded between denoising steps: the
    pictures of that batch are made anew when the run goes on.

    Raises:
        RicError: no instruction for a photo, a model that cannot be had, samples that the model
            was trained on, or none at all.
        Interrupted: asked to stop; what is edited stays.
    """
    progress = progress or Silent()
    device = pick_device(config.device)
    photos = find_photos(config)
    model = locate(config, "unet", run) if uses(config, "unet") else None
    if not photos and not config.allow_overlap:
        refuse_overlap(_ancestors_groups(run), lambda: groups_of(config), "this model")
    editor = load_editor(config.editor, model, config, device)
    named = config.unet if model else None
    settings = {"editor": config.editor, "model": named, **editor.describe()}
    images = run.path / "images"
    images.mkdir(exist_ok=True)
    done = {row["id"] for row in run.rows("edits")}

    def is_ours(sample_id: str) -> bool:
        return sample_id not in done and run.claims.take(sample_id)

    requests = (
        _photo_requests(photos, config, run, is_ours)
        if photos
        else _dataset_requests(config, run, is_ours)
    )
    total = len(photos) if photos else None
    if photos:
        run.note_data(config.data, None)
    with (
        stop_between_steps() as stop,
        progress.stage("editing", total=total, done=len(done), unit="images") as stage,
    ):
        while batch := list(islice(requests, config.batch_size)):
            made = editor.edit(batch, stop.raise_if_set)
            for request, edited in zip(batch, made, strict=True):
                if edited is None:
                    run.fail(SampleError(request.id, "edited", NOT_FINITE))
                    continue
                save_png(edited, images / f"{request.id}.png")
                row = {"id": request.id, "file_name": f"images/{request.id}.png"}
                run.append("edits", {**row, "instruction": request.instruction, **settings})
                stage.advance()
            stop.raise_if_set()
    if not photos:
        write_sheet(config, images, run.path / SHEET)
    return images


def _photo_requests(
    photos: Sequence[Photo], config: EditConfig, run: RunDir, is_ours: Callable[[str], bool]
) -> Iterator[EditRequest]:
    """Open photos one by one, all with the same instruction; unreadable ones become failures."""
    for photo in photos:
        try:
            refuse_not_utf8(photo.id, photo.path.name)
            if not is_ours(photo.id):
                continue
            image = open_image(photo.path, max_pixels=config.max_pixels)
        except SampleError as error:
            run.fail(error)
            continue
        except ImageError as error:
            run.fail(SampleError(photo.id, "source", error.message))
            continue
        yield EditRequest(photo.id, image, config.instruction or "")


def _dataset_requests(
    config: EditConfig, run: RunDir, is_ours: Callable[[str], bool]
) -> Iterator[EditRequest]:
    """Open a dataset's sources one by one; unreadable ones become failures."""
    sample = None
    for sample in read_samples(config, run, need_instruction=config.instruction is None):
        if not is_ours(sample.id):
            continue
        try:
            image = sample.load_source()
        except SampleError as error:
            run.fail(error)
            continue
        yield EditRequest(sample.id, image, config.instruction or sample.instruction)
    if sample is None:
        raise RicError(
            f"No sample of {config.data} (split {config.split}) can be edited.",
            "See failures.jsonl in the run, or choose another split: --split all",
        )


def _ancestors_groups(run: RunDir) -> set[str]:
    groups: set[str] = set()
    for parent in parents_of(run.path, run.record):
        groups |= trained_groups(parent)
    return groups
