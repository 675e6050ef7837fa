"""`ric data`: loose pictures, or any DATA, written as ric's folder of edits.

PNG, JPEG and WEBP pictures are copied byte for byte, with the extension of their real format;
others become PNG. An existing file with other contents is never overwritten.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from ric.data.columns import TEXTS, refuse_unsafe
from ric.data.edit_sample import EditSample, Pictures
from ric.data.folder import picture_path, write_folder
from ric.data.images import (
    MAX_PIXELS,
    ImageError,
    PictureSource,
    open_image,
    open_raw,
    read_bytes,
    web_suffix,
)
from ric.data.loose import Loose, pair_loose, read_texts
from ric.data.masks import mask_from_image
from ric.errors import RicError, SampleError, printable
from ric.progress import Silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ric.data.columns import Row
    from ric.data.sample import Samples
    from ric.progress import Progress, Stage


@dataclass(frozen=True, kw_only=True)
class FolderReport:
    """Counts of what was written, and lists of what was left out.

    Attributes:
        out: The folder.
        rows: Rows of its metadata.jsonl.
        targets: Rows with a target.
        masks: Rows with a mask.
        without_instruction: Rows that still need an instruction before training.
        failures: Samples that were left out, and why.
        unmatched: Files, or rows of the texts, without a matching photo.
    """

    out: Path
    rows: int = 0
    targets: int = 0
    masks: int = 0
    without_instruction: int = 0
    failures: tuple[SampleError, ...] = ()
    unmatched: tuple[str, ...] = ()


def make_folder(
    out: Path,
    *,
    source: Path,
    target: Path | None = None,
    mask: Path | None = None,
    texts: Path | None = None,
    max_pixels: int = MAX_PIXELS,
    progress: Progress = Silent(),  # noqa: B008 - it holds no state
) -> FolderReport:
    """Write loose pictures, paired by name, as ric's folder.

    Args:
        out: The folder to write.
        source: A folder of photos; `<name>_mask.*` beside a photo is its mask.
        target: A folder of their edits; a photo without one is then a failure.
        mask: A folder of their masks, white = edit.
        texts: A CSV file with a column `id` or `file` and any of ric's text columns.
        max_pixels: A larger picture is a failure.
        progress: Shows each photo.

    Raises:
        RicError: A folder or the CSV cannot be read, `out` holds other files of the same names, or
            `out` cannot be written.
    """
    pairs, unmatched = pair_loose(source, target, mask)
    words = read_texts(texts, progress.note) if texts else {}

    def make_row(pair: Loose) -> Row:
        refuse_unsafe(pair.name, pair.source.name)
        pair.refuse_doubles()
        if target and pair.target is None:
            raise SampleError(pair.name, "target", f"No picture of that name in '{target}'.")
        pictures: dict[str, PictureSource | None] = {
            "source": pair.source, "target": pair.target, "mask": pair.mask,
        }  # fmt: skip
        _refuse_useless_mask(pair, max_pixels)
        placed = _place_all(out, pair.name, pictures, len(pairs), max_pixels)
        return {"id": pair.name, **placed, **words.pop(pair.name, {})}

    report = _write(out, iter(pairs), len(pairs), make_row, progress)
    unknown = [f"{texts}: {name}" for name in words]
    lost = (printable(name) for name in (*map(str, unmatched), *unknown))
    report = replace(report, unmatched=tuple(lost))
    if report.without_instruction:
        progress.note(
            f"{report.without_instruction} rows have no instruction: add them to"
            f" {out / 'metadata.jsonl'} before training."
        )
    return report


def from_data(
    out: Path,
    samples: Samples,
    *,
    progress: Progress = Silent(),  # noqa: B008 - it holds no state
) -> FolderReport:
    """Write any DATA as ric's folder, its given masks as white on black.

    Groups and splits are kept, so every sample stays in its split.

    Raises:
        RicError: `out` holds other files of the same names, or it cannot be written.
    """
    count = samples.row_count

    def make_row(sample: EditSample) -> Row:
        about = sample.pictures
        context = sample.load_context_mask()
        pictures: dict[str, PictureSource | None] = {
            "source": about.source, "target": about.target,
            "mask": Image.fromarray(sample.load_mask()) if sample.has_mask else None,
            "context_mask": Image.fromarray(context) if context is not None else None,
        }  # fmt: skip
        placed = _place_all(out, sample.id, pictures, count, about.max_pixels)
        return {"id": sample.id, **placed, **{name: getattr(sample, name) for name in TEXTS}}

    return _write(out, iter(samples), count, make_row, progress)


def _write(
    out: Path,
    items: Iterator[Loose] | Iterator[EditSample],
    count: int | None,
    make_row: Callable,
    progress: Progress,
) -> FolderReport:
    """Stream a row per item; unusable items are left out and reported."""
    failures: list[SampleError] = []
    totals = {"target_file_name": 0, "mask_file_name": 0, "instruction": 0}

    def rows(stage: Stage) -> Iterator[Row]:
        for item in items:
            try:
                row = make_row(item)
            except SampleError as error:
                failures.append(error)
            else:
                for name in totals:
                    totals[name] += bool(row.get(name))
                yield row
            stage.advance()

    def at_least_one(rows: Iterator[Row]) -> Iterator[Row]:
        first = next(rows, None)
        if first is None:
            reasons = " ".join(error.message for error in failures[:3])
            raise RicError(f"No sample can be used: nothing is written to '{out}'. {reasons}")
        yield first
        yield from rows

    with progress.stage("copying", total=count, unit="samples") as stage:
        written = write_folder(out, at_least_one(rows(stage)))
    return FolderReport(
        out=out,
        rows=written,
        targets=totals["target_file_name"],
        masks=totals["mask_file_name"],
        without_instruction=written - totals["instruction"],
        failures=tuple(failures),
    )


def _refuse_useless_mask(pair: Loose, max_pixels: int) -> None:
    """Raise SampleError if the mask is empty or covers nearly everything, as training would."""
    if pair.mask is None:
        return
    pictures = Pictures(source=pair.source, mask=pair.mask, max_pixels=max_pixels)
    EditSample(id=pair.name, instruction="", pictures=pictures).load_mask()


def _place_all(
    out: Path,
    name: str,
    pictures: dict[str, PictureSource | None],
    count: int | None,
    max_pixels: int,
) -> Row:
    """Check all of a sample's pictures, then write them; return their columns of the row."""
    ready: dict[str, tuple[bytes, str]] = {}
    for kind, picture in pictures.items():
        if picture is None:
            continue
        try:
            ready[kind] = _encode(kind, picture, max_pixels)
        except ImageError as error:
            raise SampleError(name, kind, error.message, error.hint) from None
    row: Row = {}
    for kind, (data, suffix) in ready.items():
        row[f"{kind}_file_name"] = picture_path(kind, name, count, suffix)
        _place(out / row[f"{kind}_file_name"], data)
    return row


def _encode(kind: str, picture: PictureSource, max_pixels: int) -> tuple[bytes, str]:
    """Return a picture's bytes and extension, after decoding it once to check that it is intact."""
    if not isinstance(picture, Image.Image):
        data = read_bytes(picture)
        suffix = web_suffix(picture, max_pixels=max_pixels)
    else:
        data, suffix = b"", None
    if kind in ("mask", "context_mask"):
        image = Image.fromarray(mask_from_image(open_raw(picture, max_pixels=max_pixels)))
    else:
        image = open_image(picture, max_pixels=max_pixels)
    if suffix:
        return data, suffix
    encoded = io.BytesIO()
    image.save(encoded, "PNG")
    return encoded.getvalue(), ".png"


def _place(path: Path, data: bytes) -> None:
    if path.exists():
        if path.read_bytes() != data:
            raise RicError(
                f"'{path}' is already there and differs.", "Choose another folder, or remove it."
            )
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_bytes(data)
    aside.replace(path)
