"""`ric scenes`: drawn scenes written as ric's folder of edits, on all cores.

Each worker process draws a share of the samples and writes their pictures; this process writes the
metadata in the samples' order. Existing pictures are kept: they must be the same, since a sample's
pixels are a function of its seed and index, and a folder of another stream is refused.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from ric.data.drawn_scenes import MARK, SceneStream, as_png
from ric.data.folder import picture_path, write_folder
from ric.errors import RicError
from ric.progress import Silent
from ric.report.scene_sheet import contact_sheet
from ric.scenes.edits import TYPES, edit_of
from ric.scenes.held_out import sample_id
from ric.scenes.render import render_pair
from ric.scenes.words import texts_of
from ric.worker_processes import worker_processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from ric.data.columns import Row
    from ric.progress import Progress, Stage

_AT_ONCE = 16  # samples a worker takes at a time


def make_scenes(
    out: Path,
    stream: SceneStream,
    *,
    sheets: Path | None = None,
    workers: int | None = None,
    progress: Progress = Silent(),  # noqa: B008 - it holds no state
) -> dict[str, int]:
    """Write a stream of scenes as a folder; repeating the call finishes it or changes nothing.

    Args:
        out: The folder to write.
        stream: Which scenes.
        sheets: A folder that gets a contact sheet per edit type, `Add.png` and so on.
        workers: How many processes draw; one per core by default, 1 for this process alone.
        progress: Shows each sample.

    Returns:
        How many samples each split got.

    Raises:
        RicError: The folder holds other scenes or other data.
    """
    _claim(out, stream)
    counts = {"train": 0, "val": 0, "test": 0}

    def rows(stage: Stage) -> Iterator[Row]:
        with _mapped(workers or os.cpu_count() or 1) as in_order:
            for row in in_order(partial(_write_sample, out, stream), range(stream.count)):
                counts[row["split"]] += 1
                stage.advance()
                yield row

    with progress.stage("drawing scenes", total=stream.count, unit="samples") as stage:
        write_folder(out, rows(stage))
    if sheets:
        sheets.mkdir(parents=True, exist_ok=True)
        with progress.stage("contact sheets", total=len(TYPES), unit="sheets") as stage:
            for kind in TYPES:
                contact_sheet(stream, kind).save(sheets / f"{kind}.png")
                stage.advance()
    return counts


def _claim(out: Path, stream: SceneStream) -> None:
    """Mark the folder as this stream's, so that pictures found there later can be trusted."""
    out.mkdir(parents=True, exist_ok=True)
    mark, words = out / MARK, f"{stream.fingerprint}\n"
    if mark.is_file():
        if mark.read_text() == words:
            return
        raise RicError(f"'{out}' holds other scenes.", "Choose another folder, or remove it.")
    if any(out.iterdir()):
        raise RicError(f"'{out}' is not empty.", "Choose another folder for the scenes.")
    mark.write_text(words)


def _write_sample(out: Path, stream: SceneStream, index: int) -> Row:
    """Draw one sample unless its pictures exist, and return its row."""
    edit = edit_of(stream.seed, index, photos=stream.photos)
    name = sample_id(stream.seed, index)
    kinds = ("source", "target", "mask", "context_mask")
    places = {kind: picture_path(kind, name, stream.count) for kind in kinds}
    if not all((out / place).is_file() for place in places.values()):
        pair = render_pair(edit.source, edit.target, stream.size, shadows=stream.shadows)
        for kind, place in places.items():
            _place(out / place, as_png(getattr(pair, kind)))
    return {
        "id": name,
        **{f"{kind}_file_name": place for kind, place in places.items()},
        **vars(texts_of(edit, stream.seed, index, shadows=stream.shadows)),
        "editing_type": edit.type,
        "split": edit.split,
        "group_id": name,
    }


def _place(path: Path, data: bytes) -> None:
    """Write a file so that it appears complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_bytes(data)
    aside.replace(path)


@contextmanager
def _mapped(
    workers: int,
) -> Iterator[Callable[[Callable[[int], Row], Iterable[int]], Iterator[Row]]]:
    """Yield a `map` that keeps the order, in this process or over several."""
    if workers == 1:
        yield map
        return
    with worker_processes(workers) as pool:
        yield partial(pool.map, chunksize=_AT_ONCE)
