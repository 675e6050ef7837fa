"""`ric eval`."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from ric.config import (
    Decode,
    EvalConfig,
    EvalProtocol,
    EvalText,
    FidKind,
    GroupBy,
    Layout,
    LpipsNet,
    Match,
    OutputFit,
    Reference,
    Turns,
)
from ric.protocols import OF_FEW_SCORES
from ric_cli.completion import runs_of
from ric_cli.console import explain, say, styled
from ric_cli.job import Job
from ric_cli.options import (
    DATA_HELP,
    Engine,
    RayAddress,
    Workers,
    with_common_options,
)
from ric_cli.tables import print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType
    from rich.table import Table

    from ric.runs.run import RunDir
    from ric.scoring.scores import Difference, Score, Scores

LOOSE = "Pictures without a dataset"


@with_common_options(EvalConfig, part="judge")
def evaluate(
    ctx: typer.Context,
    edits: Annotated[
        list[str],
        typer.Argument(
            metavar='"LABEL=RUN or DIR"...',
            help="The editors' outputs: edit runs, or folders of images (see --match). Of two "
            "folders without --data or --source, the first is compared with the second.",
            show_default=False,
            autocompletion=runs_of("edit"),
        ),
    ],
    data: Annotated[
        str, typer.Option(metavar="DATA", help=DATA_HELP, show_default=False)
    ] = EvalConfig.data,
    source: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="DIR", help="In place of --data: photos before the edit.", rich_help_panel=LOOSE
        ),
    ] = EvalConfig.source,
    target: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="DIR", help="Ground truths, named like the photos.", rich_help_panel=LOOSE
        ),
    ] = EvalConfig.target,
    mask: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="DIR", help="Masks, named like the photos; white: edit.", rich_help_panel=LOOSE
        ),
    ] = EvalConfig.mask,
    texts: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="FILE",
            help="Texts in place of DATA's own: a CSV with columns id (or file) and region_text,"
            " instruction, …; or MagicBrush's JSON of captions.",
        ),
    ] = EvalConfig.texts,
    turns: Annotated[
        Turns, typer.Option(help="All samples, or the last turn of each photo alone.")
    ] = EvalConfig.turns,
    match: Annotated[
        Match,
        typer.Option(
            help="An output's file name: the sample's id, its source's file name, or that name's"
            " stem."
        ),
    ] = EvalConfig.match,
    fit: Annotated[
        Optional[OutputFit],  # noqa: UP045
        typer.Option(help="Squash, crop or pad outputs of another shape. Else they are failures."),
    ] = EvalConfig.fit,
    decode: Annotated[
        Decode,
        typer.Option(
            help="ric: as sRGB, upright, on white; plain: as Pillow alone, which benchmarks use."
        ),
    ] = EvalConfig.decode,
    register: Annotated[
        bool,
        typer.Option(
            "--register", help="Undo each output's shift and scale against its source first."
        ),
    ] = EvalConfig.register,
    group_by: Annotated[
        Optional[GroupBy],  # noqa: UP045
        typer.Option(help="Also make a table for each type of edit, or size of its region."),
    ] = EvalConfig.group_by,
    fid_set: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="DIR",
            help="Reference pictures for FID, KID and their like, in place of targets.",
        ),
    ] = EvalConfig.fid_set,
    layout: Annotated[
        Layout,
        typer.Option(
            help="As in the paper's tables: 1 has a row per editor; 2 a column per editor, the best"
            " of each two in bold; 3 a column per editor, the best of all in bold."
        ),
    ] = EvalConfig.layout,
    partial: Annotated[
        bool, typer.Option("--partial", help="Score even if over 5 % of the outputs are missing.")
    ] = EvalConfig.partial,
    protocol: Annotated[
        EvalProtocol,
        typer.Option(help="Whose definitions; it fixes --reference, --text, --clip and more."),
    ] = EvalConfig.protocol,
    metrics: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="NAME,…",
            help="Only these, such as l1,fid,my.py:Name; all: ric's. Default: those of --protocol."
            " By name alone: dinov2, dists, pick_score, clip_fid and more (docs/scoring.md).",
        ),
    ] = EvalConfig.metrics,
    reference: Annotated[
        Reference, typer.Option(help="What the outputs are compared with.")
    ] = EvalConfig.reference,
    text: Annotated[
        EvalText, typer.Option(help="The text that CLIP-T compares them with.")
    ] = EvalConfig.text,
    fid: Annotated[FidKind, typer.Option(help="Whose definition of FID.")] = EvalConfig.fid,
    lpips_net: Annotated[LpipsNet, typer.Option()] = EvalConfig.lpips_net,
    clip: Annotated[str, typer.Option(help="The CLIP of CLIP-I and CLIP-T.")] = EvalConfig.clip,
    dino: Annotated[str, typer.Option(help="The vision transformer of DINO.")] = EvalConfig.dino,
    judge: Annotated[
        str,
        typer.Option(
            help="A vision-language model that gives scores: chat, one of this machine; openai, a"
            " server's (--base-url); or yours, my_file.py:Name. With --metrics vie, gedit, imgedit."
        ),
    ] = EvalConfig.judge,
    region_clip: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="RUN",
            help="A fit-clip run, the judge of --metrics context_consistency.",
            autocompletion=runs_of("fit-clip"),
        ),
    ] = EvalConfig.region_clip,
    agree_with: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="RUN",
            help="An eval run of another judge on these edits: how far both agree.",
            autocompletion=runs_of("eval"),
        ),
    ] = EvalConfig.agree_with,
    batch_size: Annotated[int, typer.Option(min=1)] = EvalConfig.batch_size,
    engine: Engine = "local",
    ray_address: RayAddress = None,
    workers: Workers = None,
    allow_overlap: Annotated[
        bool, typer.Option("--allow-overlap", help="Score samples the model was trained on.")
    ] = EvalConfig.allow_overlap,
) -> None:
    """Score edits by CLIP-I, DINO, CLIP-T, LPIPS, FID and IS (Sec. 4).

    With --judge openai, and only then, pictures leave this machine: they go to --base-url.
    """
    job = Job("eval", EvalConfig, ctx)
    if job.is_dry():
        return
    from ric.recipes.evaluate import evaluate as recipe

    job.run(recipe, show=functools.partial(show_scores, quiet=job.quiet), report=report_scores)


def report_scores(run: RunDir) -> dict[str, Any]:
    """Return the path of scores.json, each row's values and intervals, and each difference's p."""
    from ric.scoring.read_scores import read_differences, read_scores

    scores = {row.label: _in_short(row.scores) for row in read_scores(run.path)}
    differences = [
        {"label": row.label, "against": row.against, "scores": _in_short(row.scores)}
        for row in read_differences(run.path)
    ]
    told = {"result": str(run.path / "scores.json"), "scores": scores, "differences": differences}
    if judge := run.record.get("judge"):
        told["judge"] = {key: value for key, value in judge.items() if key != "prompts"}
    return told


def _in_short(scores: Sequence[Score]) -> dict[str, dict[str, float | int | None]]:
    kept = ("value", "low", "high", "p", "n")
    return {
        score.name: {key: told for key, told in score.as_dict().items() if key in kept}
        for score in scores
    }


def show_scores(rows: list[Scores] | None, run: RunDir, *, quiet: bool = False) -> None:
    """Print the six metrics and KID, the best editor in bold, then what each metric means.

    Metrics of scenes come first; the tables of groups and the differences of later editors from the
    first follow.

    Args:
        rows: The scores; None to read them from the run.
        run: The eval run.
        quiet: Print only the tables.
    """
    from ric.scoring.judge_words import judge_in_words
    from ric.scoring.read_scores import read_differences, read_groups, read_scores
    from ric.scoring.score_table import (
        meaning,
        not_available,
        shown_columns,
        which_samples,
        with_numbers,
    )

    # the recipe has already said which samples a row covers
    again = rows is None
    rows = read_scores(run.path) if rows is None else rows
    config = run.record["config"]
    whole = config.get("protocol") in OF_FEW_SCORES or bool(config.get("metrics"))
    of_scenes, names, _ = shown_columns(rows, whole=whole)
    title = f"{run.record['data']['name']}, split {config['split']}"
    tables = {title: rows, **(read_groups(run.path) if config.get("group_by") else {})}
    for heading, some in tables.items():
        for columns in filter(None, (with_numbers(some, of_scenes), with_numbers(some, names))):
            _show_table(some, columns, heading, config.get("layout", "table-1"))
    if sum(row.role == "editor" for row in rows) > 1:
        first = next(row.label for row in rows if row.role == "editor")
        apart = read_differences(run.path)
        _show_differences([row for row in apart if row.against == first])
    if quiet:
        return
    for name in with_numbers(rows, [*of_scenes, *names]):
        explain(meaning(rows, name))
    for line in not_available(rows, [*of_scenes, *names]):  # may name a command
        say(line)
    for line in which_samples(rows) if again else ():
        explain(line)
    for line in judge_in_words(run.record["judge"]) if "judge" in run.record else ():
        explain(line)
    say(f"All scores with their intervals: {run.path / 'table.md'}")


def _show_table(rows: list[Scores], columns: list[str], title: str, layout: Layout) -> None:
    from ric.scoring.ranking import best
    from ric.scoring.score_table import NOT_AVAILABLE, first_score, laid_out
    from ric.scoring.scores import find_score

    winners = best(rows, layout)
    grid: list[list[RenderableType]] = [
        ["", *(first_score(rows, name).heading for name in columns)]
    ]
    for row in rows:
        cells: list[RenderableType] = [row.marked_label]
        for name in columns:
            style = "bold" if row.label in winners.get(name, ()) else ""
            score = find_score(row, name)
            cells.append(styled((score and score.number) or NOT_AVAILABLE, style))
        grid.append(cells)
    other: Layout = "table-2" if layout == "table-1" else "table-1"
    print_table(*(_table(laid_out(grid, one), title) for one in (layout, other)))


def _table(grid: list[list[RenderableType]], title: str) -> Table:
    from rich.table import Table

    table = Table(title=title)
    first, *others = grid
    for place, heading in enumerate(first):
        table.add_column(heading, justify="right" if place else "left")
    for cells in others:
        table.add_row(*cells)
    return table


def _show_differences(differences: list[Difference]) -> None:
    """Print each later editor's differences from the first."""
    from rich.table import Table

    from ric.scoring.score_table import BOLD_DIFFERENCES, difference_rows

    # of metrics that are not in the first table, all
    first = [
        replace(row, scores=tuple(s for s in row.scores if s.is_shown_first) or row.scores)
        for row in differences
    ]
    if not any(row.scores for row in first):
        return
    table = Table(title="Differences on the same samples, with 95 % intervals")
    table.add_column("")
    for row in first:
        table.add_column(row.heading, justify="right")
    for heading, cells in difference_rows(first):
        shown = [styled(text, "bold" if sure else "") for text, sure in cells]
        table.add_row(heading, *shown)
    print_table(table)
    explain(BOLD_DIFFERENCES)
