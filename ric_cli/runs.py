"""`ric runs`: the runs, their parents, how they ended, and shards as one run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from ric.errors import RicError
from ric_cli.completion import runs_of
from ric_cli.console import print_json, print_line, say
from ric_cli.tables import print_table

app = typer.Typer(
    help="List runs, show one, join shards.", no_args_is_help=True, add_completion=False
)
RunsDir = Annotated[Path, typer.Option(help="The folder of numbered runs.", envvar="RIC_RUNS_DIR")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


@app.command("ls")
def ls(runs_dir: RunsDir = Path("runs"), json: AsJson = False) -> None:
    """List all runs, oldest first; unreadable ones are reported on stderr."""
    # imports of 20 ms that `ric --help` should not pay, here and below
    from rich.table import Table

    from ric.runs.record import list_runs

    unreadable: list[RicError] = []
    rows = [_row(path, record) for path, record in list_runs(runs_dir, unreadable.append)]
    for error in unreadable:
        say(error.message)
    if json:
        print_json({"runs": rows})
        return
    if not rows:
        say(f"No runs in {runs_dir}.")
        return
    table = Table("run", "status", "started", "data", "from")
    for row in rows:
        parents = ", ".join(Path(parent).name for parent in row["parents"])
        table.add_row(
            Path(row["run"]).name, row["status"], row["started"][:16], row["data"], parents
        )
    print_table(table, may_go=("started", "data"))


@app.command("show")
def show(
    run: Annotated[
        str,
        typer.Argument(
            help="A folder, a number, or @command (its latest finished run).",
            autocompletion=runs_of(),
        ),
    ],
    runs_dir: RunsDir = Path("runs"),
    json: AsJson = False,
) -> None:
    """Show one run: settings, parents, versions, status."""
    from rich.table import Table

    from ric.runs.record import find_run, read_record, status_of

    path = find_run(run, runs_dir)
    if path is None:
        raise RicError(f"No run at {run!r}.", "List the runs: ric runs ls")
    record = read_record(path)
    if json:
        print_json({"run": str(path), **record, "status": status_of(record, path)})
        return
    table = Table(show_header=False, box=None)
    for key, value in _row(path, record).items():
        table.add_row(key, ", ".join(value) if isinstance(value, list) else str(value))
    for key in ("argv", "error", "ended"):
        if key in record:
            value = record[key]
            table.add_row(key, " ".join(value) if isinstance(value, list) else str(value))
    for key, value in record["config"].items():
        table.add_row(f"config.{key}", str(value))
    print_table(table)


@app.command("join")
def join(
    shards: Annotated[
        list[str],
        typer.Argument(
            help="All shards of one command: folders or numbers.",
            autocompletion=runs_of("describe", "edit"),
        ),
    ],
    run: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="The new run's folder. Default: the next number."),
    ] = None,
    runs_dir: RunsDir = Path("runs"),
    json: AsJson = False,
) -> None:
    """Copy the shards of a describe or edit into the one run that they would have been."""
    from ric.recipes.runs import join_shards
    from ric.runs.record import find_run
    from ric_cli.console import make_progress

    paths = []
    for shard in shards:
        path = find_run(shard, runs_dir)
        if path is None:
            raise RicError(f"No run at {shard!r}.", "List the runs: ric runs ls")
        paths.append(path)
    joined = join_shards(paths, runs_dir=runs_dir, run=run, progress=make_progress(quiet=json))
    if json:
        print_json({"run": str(joined.path), "shards": [str(path) for path in paths]})
    else:
        print_line(str(joined.path))


def _row(path: Path, record: dict[str, Any]) -> dict[str, Any]:
    from ric.runs.record import parents_of, status_of

    return {
        "run": str(path),
        "command": record["command"],
        "status": status_of(record, path),
        "started": record["started"],
        "data": record.get("data", {}).get("name", ""),
        "parents": [str(parent) for parent in parents_of(path, record)],
    }
