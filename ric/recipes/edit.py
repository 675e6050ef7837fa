"""`ric edit`: new pictures from instructions, over a dataset, a folder of photos, or one photo."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from ric.data.columns import refuse_not_plain
from ric.data.images import ImageError, open_image
from ric.data.photos import Photo, find_photos
from ric.device import pick_device
from ric.editors.editor import EditRequest
from ric.editors.load import load_editor
from ric.errors import RicError, SampleError
from ric.interrupt import stop_between_steps
from ric.models.locate import locate
from ric.models.table import uses
from ric.progress import Progress, Silent
from ric.registry import further_models, model_of, texts_read
from ric.report.edit_sheet import SHEET, write_sheet
from ric.report.intermediates import INTERMEDIATES, write_intermediates
from ric.runs.artifacts import public_name
from ric.runs.record import parents_of
from ric.runs.rows import save_png
from ric.runs.samples import open_samples
from ric.runs.trained_on import groups_of, refuse_overlap, trained_groups

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ric.config import EditConfig
    from ric.data.sample import EditSample, Samples
    from ric.runs.rows import Row
    from ric.runs.run import RunDir

NOT_FINITE = "The model's output is not finite: there is no picture (--dtype fp32 may help)."


def edit(config: EditConfig, run: RunDir, progress: Progress | None = None) -> Path:
    """Edit every sample of DATA and return the run's `images` folder; `sheet.png` shows the first.

    Batches are fixed by the list of samples, since the last bits of a picture depend on the others
    in its batch. A finished batch is skipped without reading it, so a repeated command continues
    where it stopped; an unfinished one is recomputed as a whole, and only its missing pictures are
    written. Several processes may share one run, batch by batch. Stops are honoured between
    denoising steps.

    Raises:
        RicError: there is no instruction for a photo, the model cannot be loaded or was trained on
            some samples, or there are no samples.
        Interrupted: a stop was requested; finished edits are kept.
    """
    progress = progress or Silent()
    device = pick_device(config.device)
    reads_instruction = "instruction" in texts_read("editor", config.editor)
    photos = find_photos(config, need_instruction=reads_instruction)
    if photos:
        run.note_data(config.data, None)
    setting = model_of("editor", config.editor)
    model = locate(config, setting, run) if setting else None
    samples = None if photos else _open(config, run, need_instruction=reads_instruction)
    others = further_models(config.editor)
    further = {name: locate(config, name, run) for name in others if uses(config, name)}
    editor = load_editor(config.editor, model, config, device, **further)
    if caveat := getattr(editor, "caveat", ""):
        progress.note(caveat)
    named = public_name(getattr(config, setting)) if setting else None
    named_further = {name: public_name(getattr(config, name)) for name in others}
    settings = {"editor": config.editor, "model": named, **named_further, **editor.describe()}
    cuts = getattr(editor, "cuts", lambda request: False)
    facts: Callable[[EditRequest], Row] = getattr(editor, "facts", lambda request: {})
    images = run.path / "images"
    images.mkdir(exist_ok=True)
    done = {row["id"] for row in run.rows("edits")}

    total = len(photos) or None
    todo: Iterator[Photo | EditSample] = iter(photos) if samples is None else _some(samples, config)
    with (
        stop_between_steps() as stop,
        progress.stage("editing", total=total, done=len(done), unit="images") as stage,
    ):
        while batch := list(islice(todo, config.batch_size)):
            ids = [sample.id for sample in batch]
            if done.issuperset(ids) or not run.claims.take(*ids):
                continue
            requests = list(_requests(batch, config, run))
            made = editor.edit(requests, stop.raise_if_set) if requests else []
            for request, edited in zip(requests, made, strict=True):
                if request.id in done:
                    continue
                if config.save_intermediates:
                    pictures = editor.intermediates(request)  # type: ignore[attr-defined]
                    write_intermediates(pictures, run.path / INTERMEDIATES / request.id)
                if edited is None:
                    edited = SampleError(request.id, "edited", NOT_FINITE)
                if isinstance(edited, SampleError):
                    run.fail(edited)
                    continue
                save_png(edited, images / f"{request.id}.png")
                row: dict[str, object] = {"id": request.id, "file_name": f"images/{request.id}.png"}
                row |= {"text_cut": True} if cuts(request) else {}
                row |= facts(request)
                run.append("edits", {**row, **_texts_of(request, config.editor), **settings})
                stage.advance()
            stop.raise_if_set()
    _note_cut_texts(run, progress)
    if samples is not None:
        write_sheet(samples.glance(), images, run.path / SHEET, instruction=config.instruction)
    return images


def _open(config: EditConfig, run: RunDir, *, need_instruction: bool) -> Samples:
    """Open a dataset (raises RicError if the model was trained on some of it)."""
    needed = need_instruction and config.instruction is None
    samples = open_samples(config, run, need_instruction=needed)
    if not config.allow_overlap:
        refuse_overlap(_ancestors_groups(run), lambda: groups_of(samples), "this model")
    return samples


def _some(samples: Samples, config: EditConfig) -> Iterator[EditSample]:
    """Yield a dataset's samples (raises RicError if there are none)."""
    sample = None
    for sample in samples:
        yield sample
    if sample is None:
        raise RicError(
            f"No sample of {config.data} (split {config.split}) can be edited.",
            "See failures.jsonl in the run, or choose another split: --split all",
        )


def _requests(
    batch: Sequence[Photo | EditSample], config: EditConfig, run: RunDir
) -> Iterator[EditRequest]:
    """Open the sources of a batch; unreadable ones become failures."""
    for sample in batch:
        try:
            if isinstance(sample, Photo):
                refuse_not_plain(sample.id, sample.path.name)
                image = open_image(sample.path, max_pixels=config.max_pixels)
            else:
                image = sample.load_source()
            texts = _texts_for(sample, config)
        except ImageError as error:
            run.fail(SampleError(sample.id, "source", error.message))
            continue
        except SampleError as error:
            run.fail(error)
            continue
        yield EditRequest(sample.id, image, **texts)


# the settings that replace the data's own texts
TYPED = {
    "instruction": "instruction",
    "source_text": "source_caption",
    "target_text": "target_caption",
}


def _texts_for(sample: Photo | EditSample, config: EditConfig) -> dict[str, str]:
    """Return the texts that the editor reads: those that were typed, else the sample's own.

    Raises:
        SampleError: it reads captions, and one is missing.
    """
    texts = {"instruction": ""}
    lacking = []
    for name in texts_read("editor", config.editor):
        typed = getattr(config, TYPED[name])
        text = getattr(sample, name, None) if typed is None else typed
        if text is None:
            lacking.append(name)
        else:
            texts[name] = text
    if lacking:
        flags = " ".join(f'--{TYPED[name].replace("_", "-")} "…"' for name in lacking)
        raise SampleError(
            sample.id,
            "captions",
            f"--editor {config.editor} goes from one caption to another, and there is no"
            f" {' and no '.join(lacking)}. Add the columns source_text and target_text, or type"
            f" {flags}",
        )
    return texts


def _texts_of(request: EditRequest, editor: str) -> dict[str, str]:
    """Return the texts of an edit, as its row records them."""
    return {name: getattr(request, name) for name in texts_read("editor", editor)}


def _note_cut_texts(run: RunDir, progress: Progress) -> None:
    """Note how many edits have a text that the editor did not read to its end."""
    rows = list(run.rows("edits"))
    if count := sum("text_cut" in row for row in rows):
        run.note(truncated_texts={"edits": count})
        progress.note(
            f"{count} of {len(rows)} edits have a text longer than the editor reads: its end is cut"
            " off"
        )


def _ancestors_groups(run: RunDir) -> set[str]:
    groups: set[str] = set()
    for parent in parents_of(run.path, run.record):
        groups |= trained_groups(parent)
    return groups
