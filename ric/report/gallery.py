"""Samples as the page's script reads them: columns of texts, addresses of pictures, and scores."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from ric.config import TEXT_COLUMNS
from ric.data.images import ImageError, open_image
from ric.device import usable_cores
from ric.errors import SampleError
from ric.report.arms import Side, output_of
from ric.report.thumbs import overlay
from ric.scoring.region_sizes import region_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from PIL import Image

    from ric.data.edit_sample import EditSample
    from ric.data.masks import Mask
    from ric.progress import Progress
    from ric.report.thumbs import Thumbs

AT_ONCE = 64  # samples whose pictures are being copied
DIGITS = 5  # significant ones of a score


@dataclass
class _Row:
    """One sample, its pictures copied."""

    sample: EditSample
    size: tuple[int, int] = (1, 1)
    pictures: dict[str, str] = field(default_factory=dict)
    share: float | None = None  # of the picture that the mask covers
    failures: list[str] = field(default_factory=list)


def build_gallery(
    side: Side,
    thumbs: Thumbs,
    progress: Progress,
    *,
    limit: int | None = None,
    texts: Mapping[str, Mapping[str, str]] | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Copy the pictures of all samples and collect what is shown of them.

    Args:
        side: The arms and their samples.
        thumbs: Gets the pictures.
        progress: Counts the samples.
        limit: At most this many.
        texts: Texts by sample and column, of which DATA has none.

    Returns:
        A JSON-ready object, whose columns are lists with an entry a sample; and a line for each
        picture that cannot be read.

    Raises:
        RicError: DATA cannot be read.
    """
    failures: list[str] = []

    def fail(error: SampleError) -> None:
        failures.append(f"{error.sample_id}: {error.reason}")

    numbered = enumerate(islice(side.samples(fail), limit))
    rows: list[_Row] = []
    with (
        progress.stage("copying pictures", unit="samples") as stage,
        ThreadPoolExecutor(usable_cores()) as pool,
    ):
        for row in _mapped(pool, lambda one: _copied(side, thumbs, *one), numbered):
            rows.append(row)
            failures += row.failures
            stage.advance()
    return _as_columns(side, rows, texts or {}), failures


def _mapped(
    pool: ThreadPoolExecutor,
    call: Callable[[tuple[int, EditSample]], _Row],
    items: Iterable[tuple[int, EditSample]],
) -> Iterator[_Row]:
    """Map in order, holding few samples at once: those of tables hold their pictures' bytes."""
    items = iter(items)
    while some := list(islice(items, AT_ONCE)):
        yield from pool.map(call, some)


def _copied(side: Side, thumbs: Thumbs, number: int, sample: EditSample) -> _Row:
    row = _Row(sample)

    def add(kind: str, read: Callable[[], Image.Image]) -> Image.Image | None:
        try:
            picture = read()
        except (SampleError, ImageError) as error:
            row.failures.append(f"{sample.id}, {kind}: {_reason(error)}")
            return None
        row.pictures[kind] = thumbs.add(picture, kind, number)
        return picture

    target = add("target", sample.load_target) if sample.has_target else None
    source = None if side.compares_two else add("source", sample.load_source)
    shown = source or target
    if shown is not None:
        row.size = thumbs.size_of(shown)
    limit = sample.pictures.max_pixels
    for place, arm in enumerate(side.arms):
        if (file := output_of(arm, sample)) is not None:
            add(f"arm{place}", partial(open_image, file, max_pixels=limit))
    if source is not None:
        mask, context = _masks(sample, source, target)
        if mask is not None:
            row.share = float(mask.mean())
        if mask is not None or context is not None:
            drawn = overlay(mask, context, row.size)
            row.pictures["masks"] = thumbs.add(drawn, "masks", number)
    return row


def _reason(error: SampleError | ImageError) -> str:
    return error.reason if isinstance(error, SampleError) else error.message


def _masks(
    sample: EditSample, source: Image.Image, target: Image.Image | None
) -> tuple[Mask | None, Mask | None]:
    """Return mask and context mask; None for what is not there or of no use."""
    pair = (source, target) if target is not None else None

    def read(load: Callable[[], Mask | None]) -> Mask | None:
        try:
            return load()
        except SampleError:
            return None  # eval has listed it, and edits without a mask need none

    return read(lambda: sample.load_mask(pair=pair)), read(sample.load_context_mask)


def _as_columns(
    side: Side, rows: list[_Row], texts: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    samples = [row.sample for row in rows]

    def text(column: str) -> list[str | None]:
        return [
            getattr(sample, column, None) or texts.get(sample.id, {}).get(column)
            for sample in samples
        ]

    kinds = ["source", *(f"arm{place}" for place in range(len(side.arms))), "target", "masks"]
    pictures = {kind: [row.pictures.get(kind) for row in rows] for kind in kinds}
    return {
        "arms": [arm.label for arm in side.arms],
        "target": "Reference" if side.compares_two else "Target",
        "metrics": [_metric(key, side) for key in side.metrics],
        "ids": [sample.id for sample in samples],
        "instructions": [sample.instruction for sample in samples],
        "types": [sample.editing_type for sample in samples],
        "groups": [_group(side, row) for row in rows],
        "sizes": [row.size for row in rows],
        "texts": {key: told for key in TEXT_COLUMNS if any(told := text(key))},
        "pictures": {kind: places for kind, places in pictures.items() if any(places)},
        "scores": [
            {
                key: [_rounded(arm.rows.get(sample.id, {}).get(key)) for sample in samples]
                for key in side.metrics
            }
            for arm in side.arms
        ],
    }


def _metric(key: str, side: Side) -> dict[str, Any]:
    score = side.metrics[key]
    heading = score.heading.rpartition(" ")[0]  # without its arrow
    return {
        "key": key,
        "heading": heading,
        "up": score.direction == "up",
        "digits": score.metric.digits,
    }


def _group(side: Side, row: _Row) -> str | None:
    """Return the group of `ric eval --group-by`, else that of the region's size."""
    for arm in side.arms:
        if group := arm.rows.get(row.sample.id, {}).get("group"):
            return str(group)
    return None if row.share is None else region_size(row.share)


def _rounded(value: object) -> float | None:
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(f"{value:.{DIGITS}g}")
