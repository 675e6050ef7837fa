"""The bar of one stage: count, rate, time left, and the latest values beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from ric_cli.console import pace

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Task


class Rate(ProgressColumn):
    """The pace since this stage was opened, without the units of an earlier attempt."""

    def render(self, task: Task) -> Text:
        """Format the rate with its unit."""
        elapsed = task.finished_time or task.elapsed or 0
        done = task.completed - task.fields["before"]
        unit = task.fields["unit"]
        return Text(pace(done, elapsed, unit, fast=f" {unit}/s"), style="dim")


def make_bars(console: Console) -> Progress:
    """Make a bar's columns; its task has the fields `before`, `unit` and `values`."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[values]}", style="dim", markup=False),
        console=console,
    )
