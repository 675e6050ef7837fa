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

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Task


class Rate(ProgressColumn):
    """Units per second since this stage was opened, without those of an earlier attempt."""

    def render(self, task: Task) -> Text:
        """Format the rate with its unit."""
        elapsed = task.finished_time or task.elapsed or 0
        done = task.completed - task.fields["before"]
        rate = done / elapsed if elapsed else 0
        return Text(f"{rate:.1f} {task.fields['unit']}/s", style="dim")


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
