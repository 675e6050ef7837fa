"""`ric verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from ric.config import Preset
from ric_cli.console import make_progress, print_json, print_line, say
from ric_cli.job import SOME_FAILED
from ric_cli.loading import LOADING
from ric_cli.surroundings import take_one_thread

if TYPE_CHECKING:
    from ric.recipes.verify import Verified


def verify(
    only: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="CHECK", help="Only this check; again for another one."),
    ] = None,
    preset: Annotated[
        Preset, typer.Option(help="tiny: edit with the embedded pipeline, which needs no download.")
    ] = "paper",
    weights: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="A folder searched before the hub's cache."),
    ] = None,
    magicbrush: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="The folder of MagicBrush's test set, for magicbrush-oracle."),
    ] = None,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda or cuda:N; a GPU's own rounding may differ more.")
    ] = "cpu",
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Compare edits and scores with the libraries', on your own weights."""
    if preset == "tiny":
        take_one_thread()
    if not (quiet or json):
        say(LOADING)
    from ric.recipes import verify as recipe

    asked = recipe.Asked(
        preset=preset,
        weights=str(weights) if weights else None,
        device=device,
        magicbrush=str(magicbrush) if magicbrush else None,
    )
    outcomes = recipe.verify(asked, tuple(only or ()), make_progress(quiet=quiet or json))
    packages = tuple(dict.fromkeys(name for one in outcomes for name in one.check.against))
    versions = recipe.versions(packages)
    if json:
        print_json({"command": "verify", "checks": _as_json(outcomes), "versions": versions})
    else:
        for line in _lines(outcomes, versions):
            print_line(line)
    if any(one.failed for one in outcomes):
        raise typer.Exit(1)
    if all(one.skipped for one in outcomes):
        raise typer.Exit(SOME_FAILED)


def _lines(outcomes: list[Verified], versions: dict[str, str]) -> list[str]:
    """Format the outcomes in Markdown."""
    lines = ["| check | ric | library | difference | tolerance | result |", "|---" * 6 + "|"]
    for one in outcomes:
        name = f"{one.check.what} against {', '.join(one.check.against)}"
        if one.skipped:
            lines.append(f"| {name} | | | | | skipped: {one.skipped} |")
        if one.problem:
            lines.append(f"| {name} | | | | | FAILED: {one.problem} |")
        for part in one.compared:
            result = "equal" if part.difference <= part.tolerance else "DIFFERS"
            numbers = f"{part.ours} | {part.theirs} | {part.difference:.2g} | {part.tolerance:g}"
            lines.append(f"| {name} | {numbers} | {result} |")
    return [*lines, "", ", ".join(f"{name} {version}" for name, version in versions.items())]


def _as_json(outcomes: list[Verified]) -> list[dict[str, object]]:
    return [
        {
            "name": one.check.name,
            "result": one.result,
            "skipped": one.skipped or None,
            "problem": one.problem or None,
            "compared": [part._asdict() for part in one.compared],
        }
        for one in outcomes
    ]
