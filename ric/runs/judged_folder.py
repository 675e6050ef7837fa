"""Lay the edits of a benchmark out as its own judge looks for them: `ric edit --export DIR`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ric.data.benchmarks.samples import columns_of, read_benchmark
from ric.data.benchmarks.table import find_benchmark
from ric.data.columns import ReadOptions, Row, parse_columns
from ric.errors import RicError, SampleError
from ric.runs.rows import save_picture, write_atomically

if TYPE_CHECKING:
    from ric.config import EditConfig
    from ric.data.benchmarks.layout import Result
    from ric.data.benchmarks.table import Benchmark
    from ric.progress import Progress
    from ric.runs.run import RunDir


class _Judged(NamedTuple):
    """The files that the judge reads of one sample, made or not; `results` begin with the edit."""

    id: str
    row: Row
    results: list[Result]


def refuse_existing_results(config: EditConfig, run: RunDir) -> None:
    """Refuse to write over files of `--export` that this run did not put there.

    Raises:
        RicError: There are some, and `--overwrite` is not given.
    """
    if config.export is None:
        return
    out, ours = Path(config.export), os.path.abspath(config.export)
    if run.record.get("export") != ours and not config.overwrite and out.is_dir():
        for one in _judged(config, run):
            there = [result.place for result in one.results if (out / result.place).exists()]
            if there:
                raise RicError(
                    f"'{out / there[0]}' is already there.",
                    "Name another folder, or write over it: --overwrite",
                )
    run.note(export=ours)


def export_edits(config: EditConfig, run: RunDir, progress: Progress) -> None:
    """Write what the benchmark's judge reads of every edit that the run holds.

    Edits keep their bytes, whatever ending the benchmark gives them: a judge that opens pictures
    with Pillow goes by content. That of a sample which now fails is removed.

    Raises:
        RicError: The folder cannot be written.
    """
    if config.export is None:
        return
    out, benchmark = Path(config.export), _benchmark_of(config)
    edits = {row["id"] for row in run.rows("edits")}
    made: list[tuple[Row, str]] = []
    try:
        for one in _judged(config, run):
            edit = out / one.results[0].place
            if one.id not in edits:
                edit.unlink(missing_ok=True)
                continue
            for result in one.results:
                save_picture(result.read(), out / result.place)
            made.append((one.row, one.results[0].place))
        if benchmark.layout.listing is not None:
            name, text = benchmark.layout.listing(made)
            write_atomically(out / name, text)
    except SampleError as error:
        raise RicError(f"{error.sample_id}: {error.reason}", error.hint) from None
    except OSError as error:
        raise RicError(
            f"'{error.filename or out}' cannot be written: {error.strerror}.",
            "Name another folder: --export DIR",
        ) from None
    progress.note(f"{len(made)} edits are in {out}, as {benchmark.name}'s judge looks for them")


def _benchmark_of(config: EditConfig) -> Benchmark:
    benchmark = find_benchmark(config.data)
    assert benchmark is not None  # `open_data` has seen to it
    return benchmark


def _judged(config: EditConfig, run: RunDir) -> Iterator[_Judged]:
    """Yield what is read of each sample (raises RicError where two have one place)."""
    benchmark = _benchmark_of(config)
    results_of = benchmark.layout.results
    assert results_of is not None  # `open_data` has seen to it
    mapping = parse_columns(config.columns) if config.columns else None
    columns = columns_of(benchmark, mapping)
    options = ReadOptions(max_pixels=config.max_pixels, need_instruction=False, seed=config.seed)
    taken: dict[str, str] = {}
    for sample, row in read_benchmark(benchmark, columns, options):
        if isinstance(sample, SampleError):
            continue
        results = results_of(row, sample, run.path / "images" / f"{sample.id}.png")
        for result in results:
            _refuse_outside(result.place, sample.id)
        first = taken.setdefault(results[0].place, sample.id)
        if first != sample.id:
            raise RicError(
                f"The edits of {first!r} and {sample.id!r} have one place, '{results[0].place}'."
            )
        yield _Judged(sample.id, row, results)


def _refuse_outside(place: str, name: str) -> None:
    """Refuse a place that leaves the folder (raises RicError): rows may come from strangers."""
    parts = os.path.normpath(place).split(os.sep)
    if os.path.isabs(place) or ".." in parts or "\0" in place:
        raise RicError(f"The edit of {name!r} would go to {place!r}, outside the folder.")
