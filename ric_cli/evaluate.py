"""`ric eval`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ric.config import EvalConfig, EvalText, FidKind, LpipsNet, Reference
from ric_cli.console import print_table, say
from ric_cli.job import Job
from ric_cli.options import DATA_HELP, with_common_options

if TYPE_CHECKING:
    from ric.metrics.scores import Scores
    from ric.run_dir import RunDir


@with_common_options(EvalConfig)
def evaluate(
    ctx: typer.Context,
    edits: Annotated[
        list[str],
        typer.Argument(
            metavar='"LABEL=RUN or DIR"...',
            help="What editors made: edit runs, or folders of images named by sample id.",
            show_default=False,
        ),
    ],
    data: Annotated[str, typer.Option(metavar="DATA", help=DATA_HELP, show_default=False)],
    reference: Annotated[
        Reference, typer.Option(help="What the outputs are held against.")
    ] = EvalConfig.reference,
    text: Annotated[
        EvalText, typer.Option(help="What CLIP-T compares them with.")
    ] = EvalConfig.text,
    fid: Annotated[FidKind, typer.Option(help="Whose FID.")] = EvalConfig.fid,
    lpips_net: Annotated[LpipsNet, typer.Option()] = EvalConfig.lpips_net,
    clip: Annotated[str, typer.Option(help="CLIP of CLIP-I and CLIP-T.")] = EvalConfig.clip,
    dino: Annotated[str, typer.Option(help="Transformer of DINO.")] = EvalConfig.dino,
    batch_size: Annotated[int, typer.Option(min=1)] = EvalConfig.batch_size,
    allow_overlap: Annotated[
        bool, typer.Option("--allow-overlap", help="Score samples the model was trained on.")
    ] = EvalConfig.allow_overlap,
) -> None:
    """Score edits by CLIP-I, DINO, CLIP-T, LPIPS, FID and IS (Sec. 4)."""
    job = Job("eval", EvalConfig, ctx)
    if job.is_dry():
        return
    from ric.recipes.evaluate import evaluate as recipe

    job.run(recipe, show=show_scores)


def show_scores(rows: list[Scores], run: RunDir) -> None:
    """Print the six metrics as a table, the best editor in bold, then what each one means."""
    from rich.table import Table
    from rich.text import Text

    from ric.metrics.score_table import best, column_names
    from ric.metrics.scores import THE_SIX

    winners = best(rows)
    table = Table(title=f"{run.record['data']['name']}, split {run.record['config']['split']}")
    table.add_column("")
    names = [name for name in column_names(rows) if rows[0][name].key in THE_SIX]
    for name in names:
        # as Text: "[scene-net]" would be taken for markup
        table.add_column(Text(rows[0][name].heading), justify="right")
    for row in rows:
        cells = []
        for name in names:
            score = row[name]
            style = "bold" if row.label in winners.get(name, ()) else ""
            cells.append(Text(score.number or "not available", style=style))
        table.add_row(row.label, *cells)
    print_table(table)
    for name in names:
        score = rows[0][name]
        note = f" {score.note}" if score.note else ""
        say(f"{name}: N = {score.n}; {score.unavailable or score.definition}.{note}")
    say(f"All scores with their intervals: {run.path / 'table.md'}")
