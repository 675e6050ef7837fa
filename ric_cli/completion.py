"""Complete runs and weights after TAB in a shell, without importing any library."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import typer

Completion = Callable[[typer.Context, str], list[tuple[str, str]]]


def runs_of(*commands: str) -> Completion:
    """Complete the runs of these commands; of all where none is named."""

    def complete(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
        # only a TAB needs it
        from ric.runs.record import list_runs, status_of

        # what a label of `ric eval LABEL=RUN` has before it stays
        label, equals, typed = incomplete.rpartition("=")
        found: dict[str, str] = {}
        latest: dict[str, str] = {}
        for path, record in list_runs(Path(ctx.params.get("runs_dir") or "runs")):
            command, status = record["command"], status_of(record, path)
            if commands and command not in commands:
                continue
            found[path.name] = f"{command}, {status}"
            if status == "done":
                latest[f"@{command}"] = "its latest finished run"
        offered = (found | latest).items()
        return [
            (f"{label}{equals}{name}", about) for name, about in offered if name.startswith(typed)
        ]

    return complete


def complete_weight(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Complete the ids of the table of weights that can be fetched."""
    from ric.weights import WEIGHTS

    return [
        (weight.id, weight.purpose)
        for weight in WEIGHTS
        if weight.kind != "embedded" and weight.id.startswith(incomplete)
    ]
