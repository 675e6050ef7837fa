"""`ric demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ric_cli.console import make_progress, print_json, print_line, say
from ric_cli.evaluate import show_scores
from ric_cli.job import DRAWN_ONLY
from ric_cli.surroundings import take_one_thread


def demo(
    folder: Annotated[Path, typer.Argument(help="Gets the data, runs and pictures.")] = Path(
        "demo"
    ),
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Run the six commands as one chain on drawn scenes, offline and without a GPU."""
    # an unwritable folder is reported before the libraries are loaded
    folder.mkdir(parents=True, exist_ok=True)
    take_one_thread()
    if not quiet:
        say("Loading the libraries takes about ten seconds.")
    from ric.recipes.demo import demo as recipe

    made = recipe(
        folder,
        make_progress(quiet=quiet),
        say=lambda line: None if quiet else say(f"$ {line}"),
    )
    if json:
        print_json({"command": "demo", "run": str(made.last.path), "picture": str(made.sheet)})
        return
    show_scores(made.rows, made.last, quiet=quiet)
    if not quiet:
        say(f"{DRAWN_ONLY} These few steps of each fit show the chain; they improve nothing.")
        say(f"Source, edit and exact target of the first test scenes: {made.sheet}")
    print_line(str(made.last.path))
