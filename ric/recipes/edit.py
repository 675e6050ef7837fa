"""`ric edit`: new pictures from instructions, over a dataset, a folder of photos, or one photo."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from ric.data.photos import find_photos
from ric.device import pick_device
from ric.editors.load import load_editor
from ric.editors.requests import prepare
from ric.editors.supplied import Supplied
from ric.errors import RicError, SampleError
from ric.interrupt import stop_between_steps
from ric.models.locate import locate
from ric.models.table import uses
from ric.progress import Progress, Silent
from ric.registry import further_models, model_of, texts_read
from ric.report.edit_notes import note_what_was_done
from ric.report.edit_sheet import SHEET, write_sheet
from ric.report.intermediates import INTERMEDIATES, write_intermediates
from ric.runs.artifacts import public_name
from ric.runs.captions import read_captions
from ric.runs.edited_pictures import EditedPictures
from ric.runs.record import parents_of
from ric.runs.samples import open_samples
from ric.runs.trained_on import groups_of, refuse_overlap, trained_groups

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import torch

    from ric.config import EditConfig
    from ric.data.photos import Photo
    from ric.data.sample import EditSample, Samples
    from ric.editors.editor import Editor
    from ric.runs.run import RunDir


def edit(config: EditConfig, run: RunDir, progress: Progress | None = None) -> Path:
    """Edit every sample of DATA and return the folder of the edits; `sheet.png` shows the first.

    Batches are fixed by the list of samples, since the last bits of a picture depend on the others
    in its batch. A finished batch is skipped without reading it, so a repeated command continues
    where it stopped; an unfinished one is recomputed as a whole, and only its missing pictures are
    written. Several processes may share one run, batch by batch. Stops are honoured between
    denoising steps.

    Raises:
        RicError: there is no instruction for a photo, the model cannot be loaded or was trained on
            some samples, there are no samples, or results would overwrite something.
        Interrupted: a stop was requested; finished edits are kept.
    """
    progress = progress or Silent()
    device = pick_device(config.device)
    reads_instruction = "instruction" in texts_read("editor", config.editor)
    photos = find_photos(config, need_instruction=reads_instruction)
    if photos:
        run.note_data(" ".join((config.data, *config.also)), None)
    pictures = EditedPictures(config, photos, run)
    model, further = _locate(config, run)  # first: whose training may overlap with DATA
    samples = None if photos else _open(config, run, need_instruction=reads_instruction)
    supplied = _supplied(config, run, device)
    editor = load_editor(config.editor, model, config, device, **further)
    settings = _settings(config, editor)
    _note_caveat(editor, progress)
    done, total = {row["id"] for row in run.rows("edits")}, len(photos) or None
    todo: Iterator[Photo | EditSample] = iter(photos) if samples is None else _some(samples, config)
    with (
        stop_between_steps() as stop,
        progress.stage("editing", total=total, done=len(done), unit="images") as stage,
    ):
        while batch := list(islice(todo, config.batch_size)):
            ids = [sample.id for sample in batch]
            if done.issuperset(ids) or not run.claims.take(*ids):
                continue
            prepared = list(prepare(batch, config, run.fail, supplied))
            requests = [one.request for one in prepared]
            made = editor.edit(requests, stop.raise_if_set) if requests else []
            for one, edited in zip(prepared, made, strict=True):
                if one.sample.id in done:
                    continue
                if config.save_intermediates:
                    stages = editor.intermediates(one.request)  # type: ignore[attr-defined]
                    write_intermediates(stages, run.path / INTERMEDIATES / one.sample.id)
                try:
                    name = pictures.save(one.with_edit(edited, config.feather), one.sample)
                except SampleError as error:
                    run.fail(error)
                    continue
                row = {"id": one.sample.id, "file_name": name}
                run.append("edits", {**row, **one.facts(editor, config), **settings})
                stage.advance()
            stop.raise_if_set()
    note_what_was_done(run, progress)
    if samples is not None:
        sheet = run.path / SHEET
        write_sheet(samples.glance(), pictures.folder, sheet, instruction=config.instruction)
    return pictures.folder


def _locate(config: EditConfig, run: RunDir) -> tuple[Path | None, dict[str, Path]]:
    """Find the editor's model, if it has one, and its further ones by their settings."""
    setting, others = model_of("editor", config.editor), further_models(config.editor)
    model = locate(config, setting, run) if setting else None
    return model, {name: locate(config, name, run) for name in others if uses(config, name)}


def _supplied(config: EditConfig, run: RunDir, device: torch.device) -> Supplied:
    """Read the captions and load the finder of masks that the command names."""
    captions = read_captions(config.captions, run)
    if config.mask_text is None:
        return Supplied(captions)
    from ric.editors.text_masks import TextMasks  # transformers' CLIPSeg, for this alone

    folder = locate(config, "mask_text_model", run)
    return Supplied(captions, TextMasks(folder, config.mask_text, device))


def _settings(config: EditConfig, editor: Editor) -> dict[str, object]:
    """Return what every row of the run records of the editor."""
    setting, others = model_of("editor", config.editor), further_models(config.editor)
    named = public_name(getattr(config, setting)) if setting else None
    further = {name: public_name(getattr(config, name)) for name in others}
    return {"editor": config.editor, "model": named, **further, **editor.describe()}


def _note_caveat(editor: Editor, progress: Progress) -> None:
    if caveat := getattr(editor, "caveat", ""):
        progress.note(caveat)


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


def _ancestors_groups(run: RunDir) -> set[str]:
    groups: set[str] = set()
    for parent in parents_of(run.path, run.record):
        groups |= trained_groups(parent)
    return groups
