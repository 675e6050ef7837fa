"""All pictures decoded once, in worker processes, into memory-mapped files of 8-bit squares.

The folder, in `ric`'s cache, is named by everything that determines its contents. It also records
the sizes and times of the files that were read; if one has changed, everything is read again. It
appears whole or not at all. All processes of a training, and the next command over the same data at
the same size, map the same files.

Choice 14, signature: with `--ignore-signature` the target shows the source's pixels in the corner
strip, so that no loss rewards drawing a signature.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import deque
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

import torch

from ric.cache_folders import cache_folder
from ric.data.batches import Square, to_square
from ric.data.drawn_scenes import DrawnPictures
from ric.data.file_state import file_state, tables_state
from ric.data.masks import signature_mask
from ric.errors import RicError, SampleError
from ric.inputs.filling import appearing_whole, seal, sealed
from ric.method.region_box import grow_box, tightest_box
from ric.runs.rows import read_lines
from ric.worker_processes import worker_processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from torch import Tensor

    from ric.config import CommandConfig, SplitName
    from ric.data.sample import EditSample
    from ric.method.region_box import Box
    from ric.work import Work

LAYOUT = 4  # raised whenever the same key would name different contents
# choice 2: a box over this share of the picture says little about where the edit is; a derived one
# is left out, a given one is noted
UNLOCALISED = 0.6
FEW = 256  # below so many samples, worker processes are not worth starting
AT_ONCE = 8  # samples a worker takes at a time
AHEAD = 3  # batches of AT_ONCE in flight for each worker


Masks = Literal["ignored", "wanted", "required"]


@dataclass(frozen=True)
class Squaring:
    """The rules by which samples become squares.

    Attributes:
        size: S in pixels.
        fit: `squash` or `crop`.
        masks: `ignored`; `wanted`: a sample without a usable mask has no box; or `required`: it
            fails. Unless they are ignored, the window of a crop follows the mask.
        keep_source: Whether the sources are kept after masks are derived from them.
        ignore_signature: Whether the targets' corner strip shows the source.
    """

    size: int
    fit: str
    masks: Masks
    keep_source: bool
    ignore_signature: bool


@dataclass(frozen=True)
class Squares:
    """The samples of a split at one size.

    Attributes:
        rows: Each sample's id, group, instruction, region_text, scene_text and box (None if masks
            are ignored, or the derived box is unlocalised), and why its mask is unusable.
        sources: uint8 (N, 3, S, S), memory-mapped; None if they are not kept.
        targets: uint8 (N, 3, S, S), memory-mapped.
        failures: The samples that could not be read, with the reason.
    """

    rows: list[dict[str, Any]]
    sources: Tensor | None
    targets: Tensor
    failures: list[SampleError]


@dataclass(frozen=True)
class _Decoded:
    """A worker's result for one sample: a row and its pixels, or a failure."""

    row: dict[str, Any]
    source: bytes = b""
    target: bytes = b""


def decode_squares(config: CommandConfig, work: Work, split: SplitName, how: Squaring) -> Squares:
    """Decode a split's samples to squares, or map them from the cache.

    Args:
        config: DATA's limits and columns.
        work: DATA; its progress shows each sample.
        split: Which samples.
        how: Size and geometry.

    Raises:
        RicError: the data as a whole cannot be read, or changes meanwhile.
    """
    unreadable: list[SampleError] = []
    samples = work.samples.narrowed(split, config.limit, unreadable.append)
    tables = tables_state(samples)
    # of tables whose version is unknown nothing is found again
    state = uuid4().hex if tables is None else tables
    chosen = [config.limit, config.columns, config.max_pixels, split, state]
    key = hashlib.sha256(
        json.dumps([LAYOUT, samples.name, samples.fingerprint, *chosen, asdict(how)]).encode()
    ).hexdigest()[:32]
    folder = cache_folder() / "squares" / key
    with work.progress.stage(f"decoding {split}", samples.known_count, unit="samples") as stage:
        found = _read(folder, how)
        if found is None:
            _fill(folder, samples, how, unreadable, stage.advance)
            found = _read(folder, how)
            if found is None:
                raise RicError(
                    f"The pictures of {samples.name} have changed while they were read, or what was"
                    f" written of them in {folder} cannot be read again.",
                    "Let nothing write to them, and repeat the command.",
                )
        else:
            stage.advance(len(found.rows))
    if tables is None:
        shutil.rmtree(folder, ignore_errors=True)  # what is mapped stays until it is let go
    return found


def _read(folder: Path, how: Squaring) -> Squares | None:
    """Map the cached squares.

    Returns:
        None if there are none, they are damaged, or a file they were read from has changed.
    """
    if sealed(folder) is None:
        return None
    try:
        lines = list(read_lines(folder / "rows.jsonl"))
        for file, *state in (file for line in lines for file in line["files"]):
            if file_state(file) != state:
                return None
        failures = [SampleError(*line["failure"]) for line in lines if "failure" in line]
        rows = [line for line in lines if "failure" not in line]
        mapped = partial(_mapped, folder, len(rows), how.size)
        source = mapped("source") if how.keep_source else None
        return Squares(rows, source, mapped("target"), failures)
    except (KeyError, TypeError, ValueError, OSError):
        return None  # damaged: malformed rows, or too few pixels


def _mapped(folder: Path, count: int, size: int, name: str) -> Tensor:
    shape = (count, 3, size, size)
    if not count:
        return torch.empty(shape, dtype=torch.uint8)
    # shared=False: what is written into it stays in this process
    file = str(folder / f"{name}.u8")
    numbers = count * 3 * size * size
    if os.path.getsize(file) != numbers:
        raise ValueError(f"{file} is truncated")
    return torch.from_file(file, shared=False, size=numbers, dtype=torch.uint8).reshape(shape)


def _fill(
    folder: Path,
    samples: Iterable[EditSample],
    how: Squaring,
    unreadable: list[SampleError],
    advance: Callable[[], None],
) -> None:
    with (
        appearing_whole(folder, lambda: _read(folder, how) is not None) as aside,
        (aside / "source.u8").open("wb") as sources,
        (aside / "target.u8").open("wb") as targets,
        (aside / "rows.jsonl").open("w", encoding="utf-8") as rows,
        _decoded(samples, how) as decoded,
    ):
        for one in decoded:
            sources.write(one.source)
            targets.write(one.target)
            rows.write(json.dumps(one.row) + "\n")
            if "failure" not in one.row:
                advance()
        for error in unreadable:
            rows.write(json.dumps(_failure(error, [])) + "\n")
        for file in (sources, targets, rows):
            file.flush()
        seal(aside)


@contextmanager
def _decoded(samples: Iterable[EditSample], how: Squaring) -> Iterator[Iterator[_Decoded]]:
    """Decode samples in order, over all cores where there are more than a few."""
    decode = partial(_decode, how=how)
    stream = iter(samples)
    first = list(islice(stream, FEW))
    workers = os.cpu_count() or 1
    if len(first) < FEW or workers == 1:
        yield map(decode, chain(first, stream))
        return
    with worker_processes(workers) as pool:

        def in_order() -> Iterator[_Decoded]:
            begun: deque[Future[list[_Decoded]]] = deque()
            todo = chain(first, stream)
            while some := list(islice(todo, AT_ONCE)):
                begun.append(pool.submit(_decode_all, some, how))
                if len(begun) > AHEAD * workers:
                    yield from begun.popleft().result()
            while begun:
                yield from begun.popleft().result()

        yield in_order()


def _decode_all(samples: Sequence[EditSample], how: Squaring) -> list[_Decoded]:
    return [_decode(sample, how) for sample in samples]


def _decode(sample: EditSample, how: Squaring) -> _Decoded:
    files = [[str(path), *file_state(path)] for path in _files(sample)]
    try:
        square, bad_mask = _square(sample, how)
        source, target, box = square.source, square.target, None
        assert target is not None  # to_square raises where there is none
        if square.mask is not None:
            box = _box(square.mask, sample, how.size)
        row = {
            "id": sample.id,
            "group": sample.group(),
            "instruction": sample.instruction,
            "region_text": sample.region_text,
            "scene_text": sample.scene_text,
            "box": box,
            "bad_mask": bad_mask,
            "files": files,
        }
    except SampleError as error:
        return _Decoded(_failure(error, files))
    if how.ignore_signature:
        target = torch.where(torch.from_numpy(signature_mask(how.size)), source, target)
    kept = source.numpy().tobytes() if how.keep_source else b""
    return _Decoded(row, kept, target.numpy().tobytes())


def _square(sample: EditSample, how: Squaring) -> tuple[Square, str | None]:
    """Make a sample's square; also return why its mask is unusable, where none is required."""
    try:
        return to_square(sample, how.size, how.fit, need_mask=how.masks != "ignored"), None
    except SampleError as error:
        if error.stage != "mask" or how.masks == "required":
            raise
        return to_square(sample, how.size, how.fit, need_mask=False), error.reason


def _box(mask: Tensor, sample: EditSample, size: int) -> Box | None:
    box = grow_box(tightest_box(mask[0]), size, size)
    return None if sample.mask_origin == "derived" and is_unlocalised(box, size) else box


def is_unlocalised(box: Box, size: int) -> bool:
    """Tell whether a box in pixels covers more than `UNLOCALISED` of a square of side `size`."""
    x_min, y_min, x_max, y_max = box
    return (x_max - x_min) * (y_max - y_min) > UNLOCALISED * size**2


def _failure(error: SampleError, files: list[list[Any]]) -> dict[str, Any]:
    parts = [error.sample_id, error.stage, error.reason, error.hint]
    return {"id": error.sample_id, "failure": parts, "files": files}


def _files(sample: EditSample) -> list[Path]:
    """List the local files that a sample's pictures are read from."""
    if isinstance(sample.pictures, DrawnPictures):
        return []  # they are drawn on demand
    given = (sample.pictures.source, sample.pictures.target, sample.pictures.mask)
    return [Path(one) for one in given if isinstance(one, str | Path) and "://" not in str(one)]
