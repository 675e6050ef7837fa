"""Tables on stdout in which no id and no number is cut, however narrow the terminal is."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from ric_cli.console import plain_console, say, styled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Column, Table

NO_LIMIT = 10_000  # letters


def print_table(table: Table, *layouts: Table, may_go: Sequence[str] = ()) -> None:
    """Print a table on stdout: as wide as the terminal or COLUMNS, in a pipe as wide as it needs.

    Its cells are texts, broken between words alone; make one with a style by `styled`. Where there
    is no room for that, other layouts are tried, then fewer columns, of which a line tells. At
    last, each row is a block of lines, one for each column.

    Args:
        table: It gets widths for its columns.
        layouts: The same in other layouts.
        may_go: Headings of columns that may be left out, the first one first.
    """
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else NO_LIMIT
    console = plain_console()(width=width)
    shorter = [_without(table, may_go[: count + 1]) for count in range(len(may_go))]
    for gone, one in enumerate((table, *layouts, *shorter), start=-len(layouts)):
        if _fit(one, console):
            console.print(one)
            if gone > 0:
                say(f"No room for {' and '.join(may_go[:gone])}: --json shows all.")
            return
    _print_blocks(table, console)


def _fit(table: Table, console: Console) -> bool:
    """Share the console's width among a table's columns; False where some word would be cut."""
    count = len(table.columns)
    borders = 2 * count if table.box is None else 3 * count + 1
    spans = [_span(column, console) for column in table.columns]
    spare = console.width - borders - sum(span.minimum for span in spans)
    if spare < 0:
        return False
    wanted = [span.maximum - span.minimum for span in spans]
    if sum(wanted) > spare:
        # those that want least get it all
        for done, place in enumerate(sorted(range(count), key=lambda place: wanted[place])):
            more = min(wanted[place], spare // (count - done))
            table.columns[place].width = spans[place].minimum + more
            spare -= more
    return True


def _span(column: Column, console: Console) -> Measurement:
    """Measure a column: its longest word, and its longest line."""
    from rich.measure import measure_renderables

    options = console.options.update_width(NO_LIMIT)
    return measure_renderables(console, options, [column.header, *column.cells])


def _without(table: Table, headings: Sequence[str]) -> Table:
    """Make a table without some of its columns."""
    from rich.table import Table

    shorter = Table(title=table.title)
    kept = [column for column in table.columns if column.header not in headings]
    for column in kept:
        shorter.add_column(column.header, justify=column.justify)
    for cells in zip(*(column.cells for column in kept), strict=True):
        shorter.add_row(*cells)
    return shorter


def _print_blocks(table: Table, console: Console) -> None:
    """Print each row's first cell, and under it a line for each other one that is not empty."""
    if table.title:
        console.print(table.title, style="italic", soft_wrap=True)
    headings = [str(column.header) for column in table.columns]
    for first, *cells in zip(*(column.cells for column in table.columns), strict=True):
        if not table.show_header:
            console.print(first, *cells, soft_wrap=True)
            continue
        console.print(styled(str(first), "bold"), soft_wrap=True)
        for heading, cell in zip(headings[1:], cells, strict=True):
            if str(cell):
                console.print(f"  {heading}:", cell, soft_wrap=True)
