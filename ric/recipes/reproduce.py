"""`ric reproduce`: Tables 1, 2 and 3 of the paper, from DATA to one report.

A repeated command skips finished stages and resumes the one that was interrupted, as that command
itself would.
"""

from __future__ import annotations

import gc
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ric.config import (
    CommandConfig,
    DescribeConfig,
    EditConfig,
    EvalConfig,
    FitBlipConfig,
    FitClipConfig,
    TrainUnetConfig,
    as_dict,
    command_of,
)
from ric.preflight.checks import check
from ric.preflight.reproduction import with_tiny_judges
from ric.progress import Progress, Silent
from ric.recipes.describe import describe
from ric.recipes.edit import edit
from ric.recipes.evaluate import evaluate
from ric.recipes.fit_blip import fit_blip
from ric.recipes.fit_clip import fit_clip
from ric.recipes.report import report
from ric.recipes.train_unet import train_unet
from ric.report.paper_numbers import beside_the_paper
from ric.reproduction import ROWS, Reproduction, Stage, is_done
from ric.runs.open_run import open_run
from ric.runs.record import read_record
from ric.runs.rows import read_rows, write_atomically
from ric.scoring.read_scores import read_scores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TABLES_FILE = "tables.md"
RECIPES: dict[type[CommandConfig], Callable[..., object]] = {
    DescribeConfig: describe,
    FitClipConfig: fit_clip,
    FitBlipConfig: fit_blip,
    TrainUnetConfig: train_unet,
    EditConfig: edit,
    EvalConfig: evaluate,
}


class Made(NamedTuple):
    """The result of a reproduction.

    Attributes:
        page: The report.
        tables: The tables with the paper's numbers, in Markdown.
        failures: How many samples of all stages failed.
        unavailable: Networks of metrics that were not available.
    """

    page: Path
    tables: Path
    failures: int
    unavailable: list[str]


def reproduce(
    asked: Reproduction,
    progress: Progress | None = None,
    *,
    say: Callable[[str], None] = lambda line: None,
) -> Made:
    """Run the stages that are not done, write `tables.md` and the report.

    Args:
        asked: The tables.
        progress: Shows each stage.
        say: Called with a line for each stage: that it is done, or its command before it runs.

    Raises:
        RicError: as the commands'; before the first stage runs, everything that can be checked is.
        Interrupted: a stop was requested; a repeated call continues.
    """
    progress = progress or Silent()
    stages = asked.stages()
    for stage in stages:
        if not is_done(asked, stage):
            check(with_tiny_judges(asked.config_alone(stage)), asked.folder, progress)
    for number, stage in enumerate(stages, 1):
        _run(asked, stage, progress, partial(_say_of, f"[{number}/{len(stages)}]", say))
    runs = [asked.folder / stage.name for stage in stages if stage.kind is EvalConfig]
    out = asked.folder / "report"
    page = report([str(run) for run in runs], out, runs_dir=asked.folder, progress=progress)
    write_atomically(asked.folder / TABLES_FILE, _tables(asked, runs))
    records = [read_record(asked.folder / stage.name) for stage in stages]
    lacking = {name for record in records for name in record.get("unavailable", ())}
    failed = sum(1 for stage in stages for _ in read_rows(asked.folder / stage.name, "failures"))
    return Made(page, asked.folder / TABLES_FILE, failed, sorted(lacking))


def _say_of(place: str, say: Callable[[str], None], line: str) -> None:
    say(f"{place} {line}")


def _run(asked: Reproduction, stage: Stage, progress: Progress, say: Callable[[str], None]) -> None:
    """Run a stage, or resume it, unless it is done."""
    config = asked.config(stage)
    if isinstance(config, EvalConfig):
        config = replace(config, edits=tuple(_with_pictures(config.edits)))
    folder = asked.folder
    run = open_run(
        command_of(stage.kind), as_dict(config), runs_dir=folder, run=folder / stage.name
    )
    if run.finished_before:
        say(f"{stage.name} is done")
        return
    say(f"$ {asked.command_line(stage)}")
    with run:
        run.opened = check(config, folder, progress)
        RECIPES[stage.kind](config, run, progress)
    _free_memory()


def _with_pictures(edits: tuple[str, ...]) -> Iterator[str]:
    """Leave out an editor that failed on every sample, which has no row in the table."""
    for text in edits:
        run = Path(text.partition("=")[2])
        if any((run / "images").glob("*")):
            yield text


def _free_memory() -> None:
    """Give back the networks of a stage before the next one loads its own."""
    gc.collect()
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _tables(asked: Reproduction, runs: list[Path]) -> str:
    """Write every table with the paper's numbers beside it."""
    parts = ["# The paper's tables\n"]
    if not asked.is_of_the_paper:
        parts.append(
            "The paper's numbers are of HumanEdit, with full-size models and 9,000 steps. Those"
            " here are not, and the two cannot be compared.\n"
        )
    for run in runs:
        title = f"## Table {run.name.removeprefix('table')}\n"
        parts += [title, beside_the_paper(read_scores(run), ROWS[run.name])]
    return "\n".join(parts)
