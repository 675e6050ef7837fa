"""`ric describe`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from ric.config import AnyWhat, DescribeConfig, Reference
from ric_cli.console import print_line, print_picture
from ric_cli.job import Job
from ric_cli.options import MANY, Data, Engine, RayAddress, Workers, with_common_options

if TYPE_CHECKING:
    from ric.runs.run import RunDir


@with_common_options(DescribeConfig, part="describer")
def describe(
    ctx: typer.Context,
    data: Data,
    describer: Annotated[
        str,
        typer.Option(
            help="chat: a vision-language model of this machine; openai: a server's (--base-url);"
            " dataset: the data's own texts; or yours, my_file.py:Name."
        ),
    ] = DescribeConfig.describer,
    what: Annotated[
        AnyWhat, typer.Option(help="Which text; all: each of them, with its own prompt.")
    ] = DescribeConfig.what,
    image: Annotated[
        Reference,
        typer.Option(help="The picture that scene and region are about; the others: the source."),
    ] = DescribeConfig.image,
    quality_gates: Annotated[
        bool,
        typer.Option(help="Ask again for what is no single paragraph, or take it as it is."),
    ] = DescribeConfig.quality_gates,
    attempts: Annotated[
        int, typer.Option(min=1, help="Answers to one question before it fails.")
    ] = DescribeConfig.attempts,
    shard: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="I/N", help="Only the I-th of N shares of the samples.", rich_help_panel=MANY
        ),
    ] = DescribeConfig.shard,
    engine: Engine = "local",
    ray_address: RayAddress = None,
    workers: Workers = None,
    retry_failed: Annotated[
        bool,
        typer.Option("--retry-failed", help="With --run: also what failed in a finished run."),
    ] = DescribeConfig.retry_failed,
    show: Annotated[
        int, typer.Option(min=0, help="Print so many pictures with their texts at the end.")
    ] = 0,
) -> None:
    """Write a paragraph about every target (Sec. 3.2.3, Table 4), or other texts.

    With --describer openai, and only then, pictures leave this machine: they go to --base-url.
    """
    job = Job("describe", DescribeConfig, ctx)
    if job.is_dry():
        return
    from ric.recipes.describe import describe as recipe
    from ric.report.described import first_described

    def show_texts(result: Path | None, run: RunDir) -> None:
        for one in first_described(job.config, run, show):
            print_line(one.place or one.id)
            if one.picture is not None:
                print_picture(one.picture)
            for kind, text in one.texts.items():
                print_line(f"  {kind}: {text}")
        print_line(str(run.path / "descriptions.jsonl"))

    job.run(recipe, show=show_texts if show else None)
