"""`ric scenes`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from ric_cli.console import make_progress, print_json, print_line, say

Backgrounds = Literal["drawn", "photos"]


def scenes(
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    count: Annotated[int, typer.Option(help="Samples in all splits together.")] = 1000,
    size: Annotated[int, typer.Option(help="Width and height in pixels, 64 to 512.")] = 64,
    seed: Annotated[int, typer.Option(help="The stream; a larger --count continues it.")] = 0,
    backgrounds: Annotated[
        Backgrounds, typer.Option(help="Drawn backgrounds, or scikit-image's photographs.")
    ] = "drawn",
    shadows: Annotated[
        bool, typer.Option("--shadows/--no-shadows", help="Cast shadows and mirror images.")
    ] = True,
    sheets: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Also write contact sheets there, one per edit type."),
    ] = None,
    workers: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Processes that draw. Default: one per core."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Draw scenes with exact targets, as a folder that every command reads."""
    from ric.data.drawn_scenes import SceneStream
    from ric.recipes.scenes import make_scenes

    stream = SceneStream(
        count=count, size=size, seed=seed, shadows=shadows, photos=backgrounds == "photos"
    )
    progress = make_progress(quiet=quiet)
    counts = make_scenes(out, stream, sheets=sheets, workers=workers, progress=progress)
    if json:
        print_json({"command": "scenes", "folder": str(out), "rows": count, **counts})
        return
    print_line(str(out))
    if not quiet:
        say(", ".join(f"{number} {split}" for split, number in counts.items()) + ".")
        say(f"Next: ric fit-clip {out} --preset tiny")
