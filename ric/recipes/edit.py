"""`ric edit`: new pictures from instructions, over a dataset, a folder of photos, or one photo."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from ric.data.images import ImageError, open_image
from ric.data.sample import EditSample
from ric.device import pick_device
from ric.editors.editor import EditRequest, load_editor
from ric.errors import SampleError
from ric.interrupt import stop_between_steps
from ric.models import locate_model
from ric.progress import Progress, Silent
from ric.recipes.examples import read_samples
from ric.recipes.overlap import refuse_overlap, trained_groups
from ric.recipes.photos import find_photos
from ric.run_dir import parents_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ric.config import EditConfig
    from ric.run_dir import RunDir

def edit(config: EditConfig, run: RunDir, progress: Progress | None = None) -> Path:
    """Edit every sample of DATA and return the run's `images` folder.

    A sample whose picture is there already is passed over, so a repeated command goes on where it
    stopped, and several processes may share one run.

    Raises:
        RicError: no instruction for a photo, a model that cannot be had, or samples that the model
            was trained on.
        Interrupted: asked to stop; what is edited stays.
    """
    progress = progress or Silent()
    device = pick_device(config.device)
    photos = find_photos(config)
    model = locate_model(
        config.unet,
        run,
        tiny="pipeline",
        artifact="pipeline",
        weights_dir=config.weights,
        needs="edit",
    )
    samples = photo_requests(photos, config, run) if photos else _dataset_requests(config, run)
    editor = load_editor(config.editor, model, config, device)
    settings = {"editor": config.editor, "model": config.unet, **editor.describe()}
    images = run.path / "images"
    images.mkdir(exist_ok=True)
    done = {row["id"] for row in run.rows("edits")}
    total = len(photos) if photos else None
    with (
        stop_between_steps() as stop,
        progress.stage("editing", total=total, done=len(done), unit="images") as stage,
    ):
        waiting = (item for item in samples if item.id not in done and run.claims.take(item.id))
        while batch := list(islice(waiting, config.batch_size)):
            for request, edited in zip(batch, editor.edit(batch), strict=True):
                name = f"{request.id}.png"
                aside = images / f".{name}"
                edited.save(aside, format="PNG")
                aside.rename(images / name)
                row = {"id": request.id, "file_name": f"images/{name}"}
                run.append("edits", {**row, "instruction": request.instruction, **settings})
                stage.advance()
            stop.raise_if_set()
    return images


def photo_requests(
    photos: list[Path], config: EditConfig, run: RunDir
) -> Iterator[EditRequest]:
    """Open photos one by one, all with the same instruction; unreadable ones become failures."""
    stems: set[str] = set()
    for photo in photos:
        # two files of one stem (a.jpg, a.png) must not overwrite each other's result
        name = photo.stem if photo.stem not in stems else photo.name
        stems.add(photo.stem)
        try:
            image = open_image(photo, max_pixels=config.max_pixels)
        except ImageError as error:
            run.fail(SampleError(name, "source", error.message))
            continue
        yield EditRequest(name, image, config.instruction or "")


def _dataset_requests(config: EditConfig, run: RunDir) -> Iterator[EditRequest]:
    trained = set() if config.allow_overlap else _ancestors_groups(run)
    samples: Iterator[EditSample] = read_samples(config, run)
    if trained:
        listed = list(samples)
        refuse_overlap(trained, (sample.group() for sample in listed), "this model")
        samples = iter(listed)
    for sample in samples:
        try:
            image = sample.load_source()
        except SampleError as error:
            run.fail(error)
            continue
        yield EditRequest(sample.id, image, config.instruction or sample.instruction)


def _ancestors_groups(run: RunDir) -> set[str]:
    groups: set[str] = set()
    for parent in parents_of(run.path, run.record):
        groups |= trained_groups(parent)
    return groups
