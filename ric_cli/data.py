"""`ric data`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Optional

import typer

from ric.config import CommandConfig, SplitName
from ric.errors import RicError, SampleError
from ric_cli.console import make_progress, print_json, print_line, say
from ric_cli.job import SOME_FAILED

Folder = Optional[Path]  # noqa: UP045


def data(
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    source: Annotated[
        Folder,
        typer.Option(help="A folder of photos; <name>_mask.* beside a photo is its mask."),
    ] = None,
    target: Annotated[Folder, typer.Option(help="A folder of their edits, by name.")] = None,
    mask: Annotated[Folder, typer.Option(help="A folder of masks, by name; white: edit.")] = None,
    texts: Annotated[
        Folder, typer.Option(help="A CSV with a column id or file, and instruction, region_text…")
    ] = None,
    convert: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--from", metavar="DATA", help="Write DATA of any kind instead of --source."),
    ] = None,
    split: Annotated[SplitName, typer.Option(help="With --from: which samples.")] = "all",
    columns: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="With --from: source=input_image,instruction=edit_prompt"),
    ] = None,
    limit: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="With --from: at most this many samples."),
    ] = None,
    max_pixels: Annotated[
        int, typer.Option(min=1, help="A larger picture is left out.")
    ] = CommandConfig.max_pixels,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Write loose pictures, or any DATA, as a folder that every command reads."""
    if (source is None) == (convert is None):
        raise typer.BadParameter(
            "Give either --source DIR or --from DATA, such as: "
            "ric data my-edits --source photos --target edited --texts texts.csv"
        )
    from ric.data.sample import load_samples
    from ric.recipes.data import from_data, make_folder

    progress = make_progress(quiet=quiet)
    lost: list[SampleError] = []
    if source is not None:
        report = make_folder(
            out, source=source, target=target, mask=mask, texts=texts, max_pixels=max_pixels,
            progress=progress,
        )  # fmt: skip
    else:
        whole = load_samples(convert or "", columns=columns, max_pixels=max_pixels)
        samples = whole.narrowed(split, limit, lost.append)
        try:
            report = from_data(out, samples, progress=progress)
        except RicError:
            for error in lost[:5]:
                say(f"  left out: {error.message}")
            raise
    failures = [*lost, *report.failures]
    if json:
        print_json(
            {
                "command": "data", "folder": str(out), "rows": report.rows,
                "targets": report.targets, "masks": report.masks,
                "failures": [error.message for error in failures],
                "unmatched": list(report.unmatched),
            }
        )  # fmt: skip
    else:
        print_line(str(out))
    if not quiet:
        say(f"{report.rows} samples, {report.targets} with a target, {report.masks} with a mask.")
        for line in (*(error.message for error in failures), *report.unmatched):
            say(f"  left out: {line}")
        if not json:
            # a scene is described after its edit
            what = "" if report.targets else " --what source-caption"
            say(f"Next: ric describe {shlex.quote(str(out))}{what}")
    if failures:
        raise typer.Exit(SOME_FAILED)
