"""`ric edit`: new pictures from instructions, over a dataset, a folder of photos, or one photo."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cached_property, partial
from itertools import chain, islice
from typing import TYPE_CHECKING, TypeVar

from ric.data.sample import PicturesNeededError
from ric.device import pick_device
from ric.editors.asking import ask
from ric.editors.candidates import Candidate, Judges, Medoid, choose
from ric.editors.load import load_editor
from ric.editors.requests import digest_of, inputs_of, prepare, texts_needed
from ric.editors.supplied import Supplied
from ric.errors import RicError, SampleError
from ric.interrupt import stop_between_steps
from ric.method.region_encoder import RegionEncoder
from ric.method.scene_encoder import SceneEncoder
from ric.models.locate import locate
from ric.models.table import CHOOSING_JUDGES, judges_choose, uses
from ric.preflight.data import needs_instruction
from ric.progress import Progress, Silent
from ric.registry import further_models, model_of, texts_read
from ric.report.edit_notes import note_outcome
from ric.report.edit_sheet import SHEET, SHOWN, write_photo_sheet, write_sheet
from ric.report.intermediates import INTERMEDIATES, write_intermediates
from ric.runs.artifacts import public_name
from ric.runs.captions import read_captions
from ric.runs.edited_pictures import EditedPictures
from ric.runs.judged_folder import export_edits, refuse_existing_results
from ric.runs.kept_edits import KeptEdits, asks_again, refusal_to_join
from ric.runs.record import parents_of
from ric.runs.samples import is_in_shard, open_samples, opened_data, some_samples
from ric.runs.trained_on import groups_of, refuse_overlap, trained_groups

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import torch

    from ric.config import EditConfig
    from ric.data.photos import Photo
    from ric.data.sample import EditSample, Samples
    from ric.editors.asking import Answer
    from ric.editors.candidates import Chooser
    from ric.editors.editor import Editor, EditRequest
    from ric.editors.requests import Prepared
    from ric.progress import Stage
    from ric.runs.run import RunDir


J = TypeVar("J", RegionEncoder, SceneEncoder)
S = TypeVar("S", bound="Photo | EditSample")

MASK_FINDERS = ("mask_text_model", "mask_text_sam")


def edit(config: EditConfig, run: RunDir, progress: Progress | None = None) -> Path:
    """Edit every sample of DATA and return the folder of the edits; `sheet.png` shows the first.

    A repeated command first looks at what it has made: see `ric.runs.kept_edits`. Batches are fixed
    by the list of samples, since the last bits of a picture depend on the others in its batch. A
    batch of which all is done is skipped without decoding it; any other is computed as a whole, and
    only its missing pictures are written, so that an edit is the same to the bit whenever it is
    made. Several processes may share one run, batch by batch, and `--shard` takes a share of the
    batches. Stops are honoured between denoising steps.

    Raises:
        RicError: there is no instruction for a photo, the model cannot be loaded or was trained on
            some samples, there are no samples, or results would overwrite something.
        Interrupted: a stop was requested; finished edits are kept.
    """
    progress = progress or Silent()
    device = pick_device(config.device)
    data = opened_data(config, run, need_instruction=needs_instruction(config))
    photos = list(chain.from_iterable(_batches(data.photos, config)))
    if data.photos:
        run.note_data(" ".join((config.data, *config.also)), None)
    refuse_existing_results(config, run)
    pictures = EditedPictures(config, photos, run)
    model, further = locate_models(config, run)  # first: whose training may overlap with DATA
    captions = Supplied(read_captions(config.captions, run, texts_needed(config)))
    supply = _supplier(config, run, device, captions)
    samples = None if data.photos else _open(config, run)

    def glanced() -> Iterable[Photo | EditSample]:
        return chain.from_iterable(_batches(samples.glance(), config)) if samples else photos

    pictures.begin(glanced())
    _look_again(glanced(), pictures, captions, progress)
    for failure in data.odd.failures:  # now that those of an earlier attempt are dropped
        run.fail(failure)
    for note in data.odd.notes:
        progress.note(note)
    load = partial(load_editor, config.editor, model, config, device, **further)
    todo: Iterator[Photo | EditSample]
    todo = iter(photos) if samples is None else some_samples(samples, config, run)
    editing = Editing(pictures, supply, load, progress)
    editing.edit_all(todo, *_counts(photos if samples is None else samples, config, editing.done))
    pictures.remove_replaced()
    if pictures.uploads is not None:
        pictures.uploads.send_missing(progress)
        progress.note(pictures.uploads.close(pictures.remade))
    if editing.made and (others := pictures.beside()):
        progress.note(
            f"Earlier runs' edits of the same photos stay beside these ({len(others)}, such as"
            f" {others[0]})"
        )
    note_outcome(run, progress)
    export_edits(config, run, progress)
    # of a run that another process left unfinished the sheet may lack edits
    if not editing.made and run.was_done and (run.path / SHEET).is_file():
        return pictures.folder
    _write_sheet(photos, samples, pictures)
    return pictures.folder


class Editing:
    """The work on a run: batches of samples to pictures and rows.

    Args:
        pictures: Where the pictures go.
        supply: Loads the finder of masks and what chooses; called where there is something to do.
        load: Loads the editor; called likewise.
        progress: Hears of it.

    Attributes:
        made: How many pictures were made.
        removed: The earlier pictures of edits that have failed now.
    """

    def __init__(
        self,
        pictures: EditedPictures,
        supply: Callable[[], Supplied],
        load: Callable[[], Editor],
        progress: Progress,
    ) -> None:
        """Read what is done; see the class."""
        self.pictures, self.config, self.run = pictures, pictures.config, pictures.run
        self._supply, self._load = supply, load
        self.progress, self.made = progress, 0
        self.removed: list[str] = []
        self.done = {row["id"] for kind in ("edits", "failures") for row in self.run.rows(kind)}

    @cached_property
    def editor(self) -> Editor:
        """The editor, loaded on first use."""
        editor = self._load()
        if caveat := getattr(editor, "caveat", ""):
            self.progress.note(caveat)
        return editor

    @cached_property
    def supplied(self) -> Supplied:
        """Captions of other runs, the finder of masks and what chooses, loaded on first use."""
        return self._supply()

    def edit_all(self, todo: Iterator[Photo | EditSample], total: int | None, done: int) -> None:
        """Edit what is not done.

        Args:
            todo: All samples, in the order of their batches.
            total: How many there are; None where that is not known beforehand.
            done: How many of them are done.
        """
        with (
            stop_between_steps() as stop,
            self.progress.stage("editing", total=total, done=done, unit="images") as stage,
        ):
            for batch in _batches(todo, self.config):
                ids = [sample.id for sample in batch]
                if self.done.issuperset(ids) or not self.run.claims.take(*ids):
                    continue
                self._edit(batch, stage, stop.raise_if_set)
                stop.raise_if_set()
        if self.removed:
            self.progress.note(
                f"{len(self.removed)} edits failed that had been made before; their earlier"
                f" pictures were removed (such as {self.removed[0]})"
            )

    def _edit(
        self, batch: list[Photo | EditSample], stage: Stage, between_steps: Callable[[], None]
    ) -> None:
        config, editor = self.config, self.editor
        prepared = list(prepare(batch, config, self._fail, self.supplied))
        together = {"batch": [one.request.id for one in prepared]}
        made = self._answers(prepared, between_steps)
        for one, (edited, told) in zip(prepared, made, strict=True):
            if one.sample.id in self.done:
                continue
            if config.save_intermediates:
                stages = editor.intermediates(one.request)  # type: ignore[attr-defined]
                write_intermediates(stages, self.run.path / INTERMEDIATES / one.sample.id)
            try:
                name = self.pictures.save(one.with_edit(edited, config.feather), one.sample)
            except SampleError as error:
                self._fail(one.sample, error, digest_of(one.inputs))
                continue
            row = {"id": one.sample.id, "file_name": name, **_settings(config, editor)}
            self.run.append("edits", {**row, **one.facts(editor, config), **told, **together})
            if self.pictures.uploads is not None:
                self.pictures.uploads.send(one.sample.id, name)
            self.made += 1
            stage.advance()

    def _answers(
        self, prepared: Sequence[Prepared], between_steps: Callable[[], None]
    ) -> list[tuple[Answer, Mapping[str, object]]]:
        """Return the edit of each, and what its row tells of it; of candidates the chosen one."""
        config, chooser = self.config, self.supplied.chooser
        facts_of: Callable[[EditRequest], Mapping[str, object]]
        facts_of = getattr(self.editor, "facts", lambda request: {})
        of_each: list[list[Candidate]] = [[] for _ in prepared]
        for seed in range(config.seed, config.seed + config.candidates):
            requests = [one.request for one in prepared]
            if chooser:
                requests = [replace(request, seed=seed) for request in requests]
            made = ask(self.editor, config.editor, requests, between_steps)
            for mine, request, answer in zip(of_each, requests, made, strict=True):
                mine.append(Candidate(seed, answer, facts_of(request)))
        return [
            choose(mine, chooser, one.criteria, partial(one.finished, feather=config.feather))
            if chooser and one.criteria
            else (mine[0].answer, mine[0].facts)
            for one, mine in zip(prepared, of_each, strict=True)
        ]

    def _fail(self, sample: Photo | EditSample, error: SampleError, inputs: str) -> None:
        if sample.id not in self.done:
            about = {"inputs": inputs}
            if earlier := self.pictures.forget(sample):
                self.removed.append(earlier)
                about["removed"] = earlier
            self.run.fail(error, **about)


def _counts(
    samples: Samples | list[Photo], config: EditConfig, finished: set[str]
) -> tuple[int | None, int]:
    """Count what is edited of this shard, photos or samples, and what of it is done, for the bar.

    Ids are read in a stream, without those of bad rows, which are done as failures. Where that
    needs reading pictures, a count of all rows counts, if there is one.
    """
    if isinstance(samples, list):
        return len(samples), sum(photo.id in finished for photo in samples)
    total = done = 0
    try:
        ids = samples.known_ids()
        while batch := list(islice(ids, config.batch_size)):
            if is_in_shard(batch[0], config.shard):
                total, done = total + len(batch), done + sum(name in finished for name in batch)
    except PicturesNeededError:
        return None if config.shard else samples.known_count, len(finished)
    return total, done


def _batches(samples: Iterable[S], config: EditConfig) -> Iterator[list[S]]:
    """Yield the batches of this shard; their first sample decides whose they are.

    Batches are those of all samples, so that a shard's edits are the same to the bit as without it.
    """
    todo = iter(samples)
    while batch := list(islice(todo, config.batch_size)):
        if is_in_shard(batch[0].id, config.shard):
            yield batch


def _write_sheet(
    photos: Sequence[Photo], samples: Samples | None, pictures: EditedPictures
) -> None:
    """Show the first edits; again where another process has added to them meanwhile."""
    images, file = pictures.folder, pictures.run.path / SHEET
    text = pictures.config.instruction
    now: list[str] | None = None
    is_new = True
    while is_new:
        before = now
        if samples is None:
            now = _write_photo_sheet(photos, pictures, known=before)
        else:
            now = write_sheet(samples.glance(), images, file, instruction=text, known=before)
        is_new = now != before


def _write_photo_sheet(
    photos: Iterable[Photo], pictures: EditedPictures, *, known: Sequence[str] | None
) -> list[str]:
    """Show the first edits of photos, with the instruction, or the edit's caption, under each.

    Nothing is done where these are the `known` ones; returns their ids.
    """
    run, texts = pictures.run, texts_read("editor", pictures.config.editor)
    made = {row["id"] for row in run.rows("edits")}
    first = {photo.id: photo for photo in islice((one for one in photos if one.id in made), SHOWN)}
    if list(first) == known:
        return list(first)
    rows = {row["id"]: row for row in run.rows("edits") if row["id"] in first}
    shown = [
        (photo.path, pictures.path_of(row["file_name"]), str(row[texts[-1]]) if texts else "")
        for photo, row in ((photo, rows[name]) for name, photo in first.items())
    ]
    write_photo_sheet(shown, run.path / SHEET)
    return list(first)


def _look_again(
    samples: Iterable[Photo | EditSample],
    pictures: EditedPictures,
    supplied: Supplied,
    progress: Progress,
) -> None:
    """Compare a run that began before with its inputs; say what is kept and what is made.

    `pictures.remade` gets what is to be made anew; what another process finds is left to it.

    Raises:
        RicError: as `KeptEdits.drop_stale_rows`; `--redo` is given with a new run, or this process
            joins others and asks for other edits again than they do.
    """
    config, run = pictures.config, pictures.run

    def digest(sample: Photo | EditSample) -> str:
        return digest_of(inputs_of(sample, config, supplied))

    def look() -> None:
        kept = KeptEdits(config, run, pictures, digest)
        if told := kept.drop_stale_rows(samples):
            progress.note(told)
        pictures.remade.update(kept.remade)

    again = json.dumps([sorted(config.redo), config.retry_failed, config.overwrite])
    if run.resumed:
        if run.claims.led("look", look, again) != again and asks_again(config):
            raise refusal_to_join(run)
    elif config.redo:
        raise RicError("--redo goes with a run that began before.", "Name it: --run DIR")


def locate_models(config: EditConfig, run: RunDir) -> tuple[Path | None, dict[str, Path]]:
    """Find the editor's model, if it has one, and its further ones by their settings."""
    setting, others = model_of("editor", config.editor), further_models(config.editor)
    model = locate(config, setting, run) if setting else None
    return model, {name: locate(config, name, run) for name in others if uses(config, name)}


def _supplier(
    config: EditConfig, run: RunDir, device: torch.device, captions: Supplied
) -> Callable[[], Supplied]:
    """Find the finder of masks and the judges that the command names; return what loads them."""
    named = [name for name in MASK_FINDERS if uses(config, name)]
    if judges_choose(config):
        named += [name for name in CHOOSING_JUDGES if getattr(config, name)]
    paths = {name: locate(config, name, run) for name in named}

    def load(setting: str, kind: type[J]) -> J | None:
        return kind.from_pretrained(paths[setting]).to(device) if setting in paths else None

    def supply() -> Supplied:
        find_mask = None
        chooser: Chooser | None = None
        if config.mask_text is not None:
            from ric.editors.text_masks import load_finder  # transformers' networks, for this alone

            model, sam = paths["mask_text_model"], paths.get("mask_text_sam")
            find_mask = load_finder(model, sam, config.mask_text, device)
        if judges_choose(config):
            region, scene = load("region_clip", RegionEncoder), load("scene_blip", SceneEncoder)
            chooser = Judges(region, scene, config.image_size)
        elif config.candidates > 1:
            chooser = Medoid(config.image_size)
        return replace(captions, find_mask=find_mask, chooser=chooser)

    return supply


def _settings(config: EditConfig, editor: Editor) -> dict[str, object]:
    """Return what every row of the run records of the editor."""
    setting, others = model_of("editor", config.editor), list(further_models(config.editor))
    others += [name for name in MASK_FINDERS if uses(config, name)]
    named = public_name(getattr(config, setting)) if setting else None
    further = {name: public_name(getattr(config, name)) for name in others}
    return {"editor": config.editor, "model": named, **further, **editor.describe()}


def _open(config: EditConfig, run: RunDir) -> Samples:
    """Return a dataset (raises RicError if the model was trained on some of it)."""
    samples = open_samples(config, run, may_change=True)
    if not config.allow_overlap:
        whose = "this model or its judges" if judges_choose(config) else "this model"
        refuse_overlap(_ancestors_groups(run), lambda: groups_of(samples), whose)
    return samples


def _ancestors_groups(run: RunDir) -> set[str]:
    groups: set[str] = set()
    for parent in parents_of(run.path, run.record):
        groups |= trained_groups(parent)
    return groups
