"""`ric demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from ric_cli.console import make_progress, print_json, print_line, say
from ric_cli.evaluate import show_scores
from ric_cli.job import DRAWN_ONLY
from ric_cli.loading import LOADING
from ric_cli.surroundings import take_one_thread

OF_THE_CHAIN = "These few steps of each fit show the chain; they improve nothing."
OF_EDITORS = "Its one UNet for instructions serves as InstructPix2Pix and as MagicBrush."


def demo(
    folder: Annotated[Path, typer.Argument(help="Gets the data, runs and pictures.")] = Path(
        "demo"
    ),
    editors: Annotated[
        bool,
        typer.Option(
            "--editors", help="Instead: all five editors on the same test scenes, side by side."
        ),
    ] = False,
    limit: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(
            min=1,
            help="Test scenes to edit. Default: 100; with --editors 8.",
            show_default=False,
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Run the six commands as one chain on drawn scenes, offline and without a GPU."""
    # an unwritable folder is reported before the libraries are loaded
    folder.mkdir(parents=True, exist_ok=True)
    take_one_thread()
    if not quiet:
        say(LOADING)
    from ric.recipes import demo as recipes

    recipe = recipes.compare_editors if editors else recipes.demo
    made = recipe(
        folder,
        make_progress(quiet=quiet),
        limit=limit,
        say=lambda line: None if quiet else say(f"$ {line}"),
    )
    if json:
        paths = {"run": made.last.path, "picture": made.sheet, "page": made.page}
        print_json({"command": "demo", **{name: str(path) for name, path in paths.items()}})
        return
    show_scores(made.rows, made.last, quiet=quiet)
    if not quiet:
        say(f"{DRAWN_ONLY} {OF_EDITORS if editors else OF_THE_CHAIN}")
        say(f"Sources, edits and exact targets: {made.sheet}")
        say("Open this page in a browser to see every edit, its scores and the chain of runs:")
    print_line(str(made.page))
