"""Match editors' outputs with their samples by name, then decode both."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from PIL import Image

from ric.data.colour_profiles import has_other_profile
from ric.data.drawn_scenes import edit_of_sample
from ric.data.images import ImageError, open_image
from ric.data.loose import read_texts
from ric.data.masks import signature_box
from ric.data.names import told_apart
from ric.data.open_file import is_url
from ric.data.sample import loose_folders
from ric.errors import RicError, SampleError, printable
from ric.metrics.pairs import Pair, fit_shape, fit_to, has_shape_of
from ric.metrics.registration import drift_of, put_back
from ric.protocols import PROTOCOLS
from ric.runs.rows import write_atomically
from ric.scoring.picture_files import files_of, shown_file
from ric.scoring.pie_bench import last_panel
from ric.scoring.region_sizes import region_size
from ric.scoring.scored_batches import stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from ric.config import EvalConfig
    from ric.data.images import PictureSource
    from ric.data.sample import EditSample, Samples
    from ric.progress import Progress
    from ric.scoring.outputs import Outputs
    from ric.work import Work

Given = TypeVar("Given")
Made = TypeVar("Made")
AHEAD = 2  # samples decoded ahead, per thread
ENOUGH = 0.95  # share of the samples that an editor must have, unless --partial


class Matched(NamedTuple):
    """The result of a pass over all samples.

    Attributes:
        any_target: Whether any sample has a target; True if there are no samples.
        content: A hash that changes with the files of their pictures.
        ids: The samples' ids.
    """

    any_target: bool
    content: str
    ids: Sequence[str]


def match_outputs(
    config: EvalConfig,
    samples: Samples,
    edited: Sequence[Outputs],
    work: Work,
) -> Matched:
    """Match outputs with samples by their names, before any network is loaded.

    Unmatched files and samples are listed in `unmatched.jsonl`.

    Raises:
        RicError: an editor has pictures of too few samples, two samples would share an output, or
            the protocol needs targets and there are none.
    """
    strangers = {item.label: _all_files(item) for item in edited}
    lacking: dict[str, list[str]] = {item.label: [] for item in edited}
    named: dict[str, dict[str, str]] = {item.label: {} for item in edited}
    count, targets, seen = 0, 0, list[str]()
    content = hashlib.sha256()
    refused: set[str] = set()
    for sample in samples.glance(lambda error: refused.add(error.sample_id)):
        count += 1
        seen.append(sample.id)
        content.update(_stamp_of_pictures(sample).encode())
        targets += sample.has_target
        for item in edited:
            name = item.name_of(sample)
            _refuse_shared_name(item, name, named[item.label].setdefault(name, sample.id), sample)
            strangers[item.label].difference_update(item.found(name))
            if not item.found(name):
                lacking[item.label].append(sample.id)
    if config.texts is not None:
        words = read_texts(Path(config.texts), work.progress.note)
        _refuse_foreign_texts(config, count, words.keys().isdisjoint(seen))
    loose = loose_folders(config)
    without_photo = loose.unmatched() if loose else []
    for item in edited:
        for name in refused:  # such a sample is a failure already: its output is no stray
            strangers[item.label].difference_update(item.found(name))
    rows = [
        *({"label": item.label, "file": printable(item.told(file))}
          for item in edited for file in sorted(strangers[item.label])),
        *({"label": label, "sample": name} for label, names in lacking.items() for name in names),
        *({"file": name} for name in without_photo),
    ]  # fmt: skip
    if work.ranks.is_main:
        listed = work.run.path / "unmatched.jsonl"
        listed.unlink(missing_ok=True)  # of an earlier attempt
        if rows:
            write_atomically(listed, "".join(json.dumps(row) + "\n" for row in rows))
    if without_photo:
        lost = f"{len(without_photo)} files or texts match no photo"
        work.progress.note(f"{lost}: see unmatched.jsonl")
    for item in edited:
        _tell_of_strangers(item, strangers[item.label], config, work.progress)
        _refuse_unmatched(config, item, count, len(lacking[item.label]))
    _refuse_without_reference(config, count, targets)
    return Matched(targets > 0 or not count, content.hexdigest(), seen)


def _all_files(item: Outputs) -> set[Path]:
    doubled = (file for files in item.doubles.values() for file in files)
    return {*item.files.values(), *doubled}


def _stamp_of_pictures(sample: EditSample) -> str:
    """Return a text that changes with a sample's files; pictures inside a table have none."""
    about = sample.pictures
    pictures = (about.source, about.target, about.mask, about.context_mask)
    return repr([stamp(one) for one in pictures if isinstance(one, (str, Path))])


def _refuse_shared_name(item: Outputs, name: str, first: str, sample: EditSample) -> None:
    """Refuse two samples whose outputs would be one file (Raises RicError)."""
    if first != sample.id:
        raise RicError(
            f"The samples {first!r} and {sample.id!r} have sources of the same name: --match"
            f" {item.match} cannot tell which of them {name!r} belongs to.",
            "Name the outputs by the samples' ids: --match id",
        )


def _refuse_foreign_texts(config: EvalConfig, count: int, foreign: bool) -> None:
    """Refuse texts of which none belongs to a sample (Raises RicError)."""
    if count and foreign:
        raise RicError(
            f"Nothing in '{config.texts}' belongs to a sample of {config.data} (split"
            f" {config.split}).",
            "Its column id holds the samples' ids.",
        )


def _refuse_without_reference(config: EvalConfig, count: int, targets: int) -> None:
    """Refuse a protocol that compares with targets if there are none (Raises RicError)."""
    fixed = PROTOCOLS.get(config.protocol, {}).get("reference")
    if count and not targets and fixed == "target":
        raise RicError(
            f"--protocol {config.protocol} compares with targets, and no sample of {config.data}"
            " has one.",
            "Add --target, or omit --protocol.",
        )


def _refuse_unmatched(config: EvalConfig, item: Outputs, count: int, lacking: int) -> None:
    matched = count - lacking
    where = f"{config.data} (split {config.split})"
    if count and not matched:
        raise RicError(
            f"No picture of {item.label!r} ({item.folder}) belongs to {where}.",
            "Files are matched to samples by their name without extension, which is the id, unless"
            " --match file or --match stem says otherwise.",
        )
    if matched < ENOUGH * count and not config.partial:
        raise RicError(
            f"{item.label!r} has pictures of {matched} of {count} samples of {where}, under"
            f" {ENOUGH:.0%}.".replace("%", " %"),
            "The missing samples are listed in unmatched.jsonl in the run. To score the others:"
            " --partial",
        )


def _tell_of_strangers(
    item: Outputs, files: set[Path], config: EvalConfig, progress: Progress
) -> None:
    """Log in one line which pictures of a folder match no sample."""
    if files:
        first = ", ".join(printable(item.told(file)) for file in sorted(files)[:3])
        progress.note(
            f"{len(files)} pictures in {item.folder} match no scored sample of "
            f"{config.data} (split {config.split}): {first}{', …' if len(files) > 3 else ''}"
        )


class _Reference(NamedTuple):
    """The picture that a sample's outputs are compared with, and its place."""

    picture: Image.Image
    place: PictureSource | None


class Output(NamedTuple):
    """An editor's picture of a sample.

    Attributes:
        picture: Decoded.
        shown: Its file, as a row shows it.
        profile_apart: Whether only one of it and its reference has a profile that is not sRGB's.
    """

    picture: Image.Image
    shown: str | None
    profile_apart: bool


class Decoded(NamedTuple):
    """A sample's pictures.

    Attributes:
        pair: The sample, with its source in place of an output; None where it cannot be read.
        outputs: Each editor's picture of it, by label.
        failures: What is missing or cannot be read.
    """

    pair: Pair | None
    outputs: dict[str, Output]
    failures: list[SampleError]


def decoded_ahead(
    samples: Iterable[Given], decode: Callable[[Given], Made], workers: int
) -> Generator[Made]:
    """Decode samples in threads, a few ahead of the consumer, and yield them in order.

    Pillow releases the interpreter lock while it decodes, so that threads are as fast as processes
    and pass pictures on without a copy.
    """
    with ThreadPoolExecutor(workers) as pool:
        ahead: deque[Future[Made]] = deque()
        for sample in samples:
            ahead.append(pool.submit(decode, sample))
            if len(ahead) > AHEAD * workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def decode_outputs(
    sample: EditSample, *, edited: Sequence[Outputs], config: EvalConfig, of_scenes: bool
) -> Decoded:
    """Decode a sample and every editor's picture of it; errors become `failures`."""
    try:
        return _decode_outputs(sample, edited, config, of_scenes=of_scenes)
    except SampleError as error:
        return Decoded(None, {}, [error])


def _decode_outputs(
    sample: EditSample, edited: Sequence[Outputs], config: EvalConfig, *, of_scenes: bool
) -> Decoded:
    sample = sample.decoded(config.decode)
    # the reference keeps its own size
    at_own_size = sample.load_source(own_size=True)
    source = at_own_size
    if config.reference == "target":
        source = sample.at_target_size(at_own_size)
    target = sample.load_target() if sample.has_target else None
    reference = _Reference(source, sample.pictures.source)
    if target and config.reference == "target":
        reference = _Reference(target, sample.pictures.target)
    failures = []
    mask = None
    # MagicBrush's scores need no mask
    if config.protocol != "magicbrush" or config.group_by == "region-size":
        try:
            mask = _load_mask(sample, source, target, config)
        except SampleError as error:
            # scores that need a mask report their N
            failures += [error] if sample.has_mask else []
    outputs, lacking = _open_outputs(edited, sample, reference, config)
    if lacking:  # a run lists one failure per sample
        known = [(error.stage, error.reason) for error in failures]
        stages, reasons = zip(*known, ("edited", "; ".join(lacking)), strict=True)
        failures = [SampleError(sample.id, ", ".join(stages), "; ".join(reasons))]
    outputs = {
        label: _changed(made, reference.picture.size, source, mask, config)
        for label, made in outputs.items()
    }
    if config.ignore_signature:
        target = target and _cover_signature(target, source)
    text, kind = getattr(sample, config.text), config.text
    if not text and config.text == "region_text":
        text, kind = sample.instruction, "instruction"
    pair = Pair(
        sample.id,
        source,
        source,
        target,
        text,
        mask,
        kind,
        source_text=sample.source_text,
        target_text=sample.target_text,
        instruction=sample.instruction or None,
        editing_type=sample.editing_type,
        group=_group_of(sample, mask, config),
        photo=sample.group(at_own_size),
        mask_is_derived=sample.mask_origin == "derived",
        files=files_of(sample, config),
    )
    if of_scenes:
        context = sample.load_context_mask()
        if context is not None:
            edit = edit_of_sample(sample.id)
            context_mask = Image.fromarray(context).convert("L")
            pair = replace(pair, context_mask=context_mask, edit=edit)
    return Decoded(pair, outputs, failures)


def _changed(
    made: Output,
    size: tuple[int, int],
    source: Image.Image,
    mask: Image.Image | None,
    config: EvalConfig,
) -> Output:
    """Return an output without the signature and the drift that the settings leave out."""
    picture = made.picture
    if config.ignore_signature:
        picture = _cover_signature(fit_to(picture, size), source)
    if config.register:
        fitted = fit_to(picture, source.size)
        drift = drift_of(fitted, source, mask)
        picture = picture if drift is None else put_back(fitted, source, drift)
    return made._replace(picture=picture)


def _load_mask(
    sample: EditSample, source: Image.Image, target: Image.Image | None, config: EvalConfig
) -> Image.Image | None:
    """Return the mask, white where the edit belongs; PIE-Bench's own may be empty or full.

    Raises:
        SampleError: it cannot be read, is empty or full, or there is none.
    """
    if config.protocol == "pie-bench":
        array = sample.load_given_mask()
    else:
        pair = (source, target) if target and target.size == source.size else None
        array = sample.load_mask(pair=pair)
    if array is None:
        return None
    mask = Image.fromarray(array).convert("L")
    return mask if mask.size == source.size else mask.resize(source.size, Image.Resampling.NEAREST)


def _group_of(sample: EditSample, mask: Image.Image | None, config: EvalConfig) -> str | None:
    """Return the group of a sample under `--group-by`; None without it."""
    if config.group_by is None:
        return None
    if config.group_by == "editing-type":
        return sample.editing_type or "no type"
    if mask is None:
        return "no mask"
    share = mask.histogram()[255] / (mask.width * mask.height)
    return region_size(share)


def _open_outputs(
    edited: Sequence[Outputs], sample: EditSample, reference: _Reference, config: EvalConfig
) -> tuple[dict[str, Output], list[str]]:
    """Decode every editor's picture of a sample; return also what is wrong with the others."""
    is_other = _has_other_profile(reference.place, config)
    outputs, lacking = {}, []
    for item in edited:
        try:
            picture = _open_output(item, sample, reference.picture.size, config)
            file = item.files[item.name_of(sample)]
            apart = _has_other_profile(file, config) != is_other
            outputs[item.label] = Output(picture, shown_file(file, item.folder), apart)
        except ImageError as error:
            lacking.append(error.message)
    return outputs, lacking


def _open_output(
    item: Outputs, sample: EditSample, size: tuple[int, int], config: EvalConfig
) -> Image.Image:
    """Decode an editor's picture of a sample, fitted by `--fit` if its shape is not `size`'s.

    Raises:
        ImageError: there is none, or several, it cannot be read, or has another shape.
    """
    name = item.name_of(sample)
    if name in item.doubles:
        names = " and ".join(told_apart([item.told(file) for file in item.doubles[name]]))
        raise ImageError(f"{item.label!r} has several pictures of it: {names}")
    if name not in item.files:
        raise ImageError(f"{item.label!r} has no picture of it in {item.folder}")
    picture = open_image(item.files[name], max_pixels=config.max_pixels, decode=config.decode)
    if config.protocol == "pie-bench":
        picture = last_panel(picture, size)
    if config.fit == "squash" or has_shape_of(picture.size, size):
        return picture  # scores that need the reference's size squash it to that
    if config.fit is None:
        shapes = [f"{width}x{height}" for width, height in (picture.size, size)]
        raise ImageError(
            f"{item.label!r} made it {shapes[0]}, which is not the shape of {shapes[1]}: squash,"
            " crop or pad such pictures with --fit"
        )
    return fit_shape(picture, size, config.fit)


def _has_other_profile(place: PictureSource | None, config: EvalConfig) -> bool:
    """Tell whether a picture's colours are not sRGB's; one behind an address is not read twice."""
    if place is None or (isinstance(place, str) and is_url(place)):
        return False
    return has_other_profile(place, max_pixels=config.max_pixels)


def _cover_signature(picture: Image.Image, source: Image.Image) -> Image.Image:
    """Paste the source over DALL-E's signature (choice 14), so that it affects no score."""
    covered = picture.copy()
    box = signature_box(*picture.size)
    covered.paste(source.resize(picture.size).crop(box), box[:2])
    return covered
