"""`ric weights`: every pretrained weight, where it lies, how it gets here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich.table import Table

from ric.errors import RicError
from ric_cli.console import make_progress, print_json, print_line, print_table, say

app = typer.Typer(help="List, get, check and convert pretrained weights.", no_args_is_help=True)
Command = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--for", metavar="COMMAND", help="Only what this command may need."),
]
Folder = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--weights", help="A folder looked in before the hub's cache."),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


@app.command("ls")
def ls(command: Command = None, weights: Folder = None, json: AsJson = False) -> None:
    """List all weights: id, revision, size, licence, who needs them, whether they are here."""
    rows = weight_rows(command, weights)
    if json:
        print_json({"weights": rows})
        return
    print_table(weight_table(rows))


@app.command("get")
def get(
    name: Annotated[Optional[str], typer.Argument(help="An id of `ric weights ls`.")] = None,  # noqa: UP045
    command: Command = None,
    weights: Folder = None,
) -> None:
    """Download a weight, or all that a command may need."""
    from ric.weights import find_weight, get_weights, weights_for

    chosen = [find_weight(name)] if name else weights_for(command or "")
    if not chosen or chosen == [None]:
        raise RicError(
            f"No weight {name or command!r} in the table.", "See which there are: ric weights ls"
        )
    progress = make_progress(quiet=False)
    for weight in chosen:
        if weight is not None and weight.kind != "embedded":
            print_line(str(get_weights(weight, progress, weights_dir=weights)))


@app.command("check")
def check(command: Command = None, weights: Folder = None) -> None:
    """Check that the weights on this machine are whole."""
    from ric.weights import WEIGHTS, check_weights, is_present, weights_for

    broken = 0
    for weight in weights_for(command) if command else WEIGHTS:
        path = None if weight.kind == "embedded" else is_present(weight, weights)
        if path is None:
            continue
        problems = check_weights(path)
        broken += bool(problems)
        print_line(f"{weight.id}: {'; '.join(problems) or 'whole'}")
    if broken:
        raise RicError(f"{broken} weights are broken.", "Get them again: ric weights get ID")


@app.command("convert")
def convert(
    file: Annotated[Path, typer.Argument(help="A .ckpt, .bin, .pt or .pth file.")],
    out: Annotated[Path, typer.Argument(help="The .safetensors file to write.")],
) -> None:
    """Keep only the tensors of a pickle checkpoint; nothing in it is run."""
    from ric.convert import convert_to_safetensors

    report = convert_to_safetensors(file, out)
    dropped = len(report.dropped_globals) + len(report.dropped_values)
    say(f"{report.tensors} tensors kept, {dropped} other things dropped.")
    print_line(str(out))


def weight_rows(command: str | None, weights: Path | None) -> list[dict[str, Any]]:
    """Give the table of weights as JSON-ready rows."""
    from ric.weights import WEIGHTS, is_present, weights_for

    rows = []
    for weight in weights_for(command) if command else WEIGHTS:
        place = is_present(weight, weights)
        rows.append(
            {
                "id": weight.id,
                "revision": weight.revision,
                "size": weight.size,
                "licence": weight.licence,
                "conditions": weight.conditions,
                "commands": list(weight.commands),
                "purpose": weight.purpose,
                "place": str(place) if place else None,
                "present": place is not None or weight.kind == "embedded",
            }
        )
    return rows


def weight_table(rows: list[dict[str, Any]]) -> Table:
    """Lay the rows out for people."""
    table = Table("id", "revision", "size", "licence and conditions", "needed by", "here")
    for row in rows:
        here = "[green]present[/]" if row["present"] else "missing"
        table.add_row(
            row["id"], row["revision"][:8], row["size"], f"{row['licence']}. {row['conditions']}",
            ", ".join(row["commands"]), here,
        )  # fmt: skip
    return table
