"""`ric report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from ric_cli.console import make_progress, print_json, print_line
from ric_cli.options import DATA_HELP


def report(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Eval runs (scores, and the edits that they scored), edit runs, or any others: a"
            " folder, a number, or @command.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="The folder of the page; an earlier report there is replaced.")
    ] = Path("report"),
    single_file: Annotated[
        bool,
        typer.Option("--single-file", help="Put the pictures into the page: up to 200 samples."),
    ] = False,
    data: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="DATA", help=f"If the runs' DATA has moved. {DATA_HELP}"),
    ] = None,
    limit: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="At most this many samples."),
    ] = None,
    side: Annotated[
        int, typer.Option(min=64, help="The longest side of the page's pictures, in pixels.")
    ] = 384,
    runs_dir: Annotated[
        Path, typer.Option(help="The folder of numbered runs.", envvar="RIC_RUNS_DIR")
    ] = Path("runs"),
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Write a page of scores, edits side by side, curves and the chain of runs."""
    from ric.recipes.report import report as recipe

    page = recipe(
        runs,
        out,
        runs_dir=runs_dir,
        data=data,
        limit=limit,
        side=side,
        single_file=single_file,
        progress=make_progress(quiet=quiet),
    )
    if json:
        print_json({"command": "report", "result": str(page)})
    else:
        print_line(str(page))
