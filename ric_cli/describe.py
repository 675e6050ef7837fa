"""`ric describe`."""

from __future__ import annotations

from typing import Annotated

import typer

from ric.config import DescribeConfig
from ric_cli.job import Job
from ric_cli.options import Data, with_common_options


@with_common_options(DescribeConfig)
def describe(
    ctx: typer.Context,
    data: Data,
    describer: Annotated[
        str,
        typer.Option(
            help="chat: a vision-language model; dataset: the data's own captions; or yours,"
            " my_file.py:Name."
        ),
    ] = DescribeConfig.describer,
    model: Annotated[
        str,
        typer.Option(help="DeepSeek-VL2-Tiny, or any of transformers' image-text-to-text models."),
    ] = DescribeConfig.model,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="Longest paragraph in tokens.")
    ] = DescribeConfig.max_new_tokens,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Pictures that DeepSeek-VL2-Tiny reads at once.")
    ] = DescribeConfig.batch_size,
) -> None:
    """Write a scene paragraph for every edited picture (Sec. 3.2.3, Table 4)."""
    job = Job("describe", DescribeConfig, ctx)
    if job.is_dry():
        return
    from ric.recipes.describe import describe as recipe

    job.run(recipe)
