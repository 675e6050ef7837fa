"""`ric report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from ric.errors import RicError
from ric_cli.completion import runs_of
from ric_cli.console import make_progress, print_json, print_line, say
from ric_cli.loading import has_ended, say_if_slow
from ric_cli.options import DATA_HELP

STUDY = "A human study"


def report(
    ctx: typer.Context,
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Eval runs (scores, and the edits that they scored), edit runs, or any others: a"
            " folder, a number, or @command.",
            show_default=False,
            autocompletion=runs_of(),
        ),
    ],
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            help="The folder of the page; an earlier report there is replaced. Default: report, or"
            " study with --study.",
            show_default=False,
        ),
    ] = None,
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
    study: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(
            min=1,
            metavar="N",
            help="In place of the report write a page that asks for votes on N blind pairs of"
            " edits, study.html, and beside it study.key.json, which says whose they are.",
            rich_help_panel=STUDY,
        ),
    ] = None,
    votes: Annotated[
        list[Path],
        typer.Option(
            metavar="FILE|DIR",
            help="Show win rates by the answers that a study's page saved; repeat it for several"
            " files, or name their folder.",
            rich_help_panel=STUDY,
            show_default=False,
        ),
    ] = [],  # noqa: B006
    key: Annotated[
        Path, typer.Option(help="The key of the study of --votes.", rich_help_panel=STUDY)
    ] = Path("study/study.key.json"),
    seed: Annotated[
        int,
        typer.Option(
            help="Chooses pairs, sides and order of --study, and the draws of --votes's intervals.",
            rich_help_panel=STUDY,
        ),
    ] = 0,
    runs_dir: Annotated[
        Path, typer.Option(help="The folder of numbered runs.", envvar="RIC_RUNS_DIR")
    ] = Path("runs"),
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Write a page of scores, edits side by side, curves and the chain of runs."""
    ctx.call_on_close(has_ended)
    if not quiet:
        say_if_slow()
    from ric.recipes.report import read_win_rates
    from ric.recipes.report import report as recipe
    from ric.recipes.report import study as study_recipe
    from ric.report.study import Asked

    progress = make_progress(quiet=quiet)
    if study is not None:
        if votes:
            raise RicError(
                "--study asks for votes, and --votes counts them: one at a time.",
                "Omit --study to count them.",
            )
        page = study_recipe(
            runs,
            out or Path("study"),
            runs_dir=runs_dir,
            asked=Asked(study, seed, limit),
            data=data,
            side=side,
            progress=progress,
        )
        _tell({"command": "report", "result": str(page)}, json=json)
        return
    told = read_win_rates(votes, key, seed=seed) if votes else None
    page = recipe(
        runs,
        out or Path("report"),
        runs_dir=runs_dir,
        data=data,
        limit=limit,
        side=side,
        single_file=single_file,
        votes=told,
        progress=progress,
    )
    for line in told.in_words if told and not quiet else ():
        say(line)
    counted = {"votes": told.as_dict()} if told else {}
    _tell({"command": "report", "result": str(page), **counted}, json=json)


def _tell(about: dict[str, Any], *, json: bool) -> None:
    """Print the page's path, or everything as JSON."""
    if json:
        print_json(about)
    else:
        print_line(about["result"])
