"""`ric weights`: the pretrained weights: listing, downloading, checking, converting."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from ric.errors import RicError
from ric_cli.completion import complete_weight
from ric_cli.console import make_progress, print_json, print_line, say, styled
from ric_cli.tables import print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from ric.weights import Weight

app = typer.Typer(
    help="List, get, check and convert pretrained weights.",
    no_args_is_help=True,
    add_completion=False,
)
Command = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--for", metavar="COMMAND", help="Only what this command, or reproduce, may need."
    ),
]
Folder = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--weights", help="A folder searched before the hub's cache."),
]
NOT_RUN = "not run by this version"
WEIGHTS_MAY_GO = ("licence and conditions", "revision")  # columns, where there is no room
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


@app.command("ls")
def ls(command: Command = None, weights: Folder = None, json: AsJson = False) -> None:
    """List all weights: id, revision, size, licence, commands that need them, whether present."""
    rows = weight_rows(command, weights)
    if json:
        print_json({"weights": rows})
        return
    print_table(weight_table(rows), may_go=WEIGHTS_MAY_GO)
    print_line(sum_in_words(rows))
    print_line(datasets_in_words())
    if branches := [row["id"] for row in rows if row["runs"] and _is_branch(row["revision"])]:
        print_line(
            f"Fetched from a branch, whose commit is not known: {', '.join(branches)}."
            " A run records the commit that it used."
        )


@app.command("get")
def get(
    name: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help="An id of `ric weights ls`.", autocompletion=complete_weight),
    ] = None,
    command: Command = None,
    weights: Folder = None,
    json: AsJson = False,
) -> None:
    """Download a weight, or all that a command may need."""
    from ric.describers.deepseek_vl2.architecture import refuse_other_sizes
    from ric.weights import find_weight, get_weights

    if (name is None) == (command is None):
        raise typer.BadParameter("Name one weight, or the command that needs them: --for COMMAND.")
    weight = find_weight(name) if name else None
    if name and weight is None:
        refuse_other_sizes(name)
        raise RicError(
            f"No weight {name!r} in the table.",
            f"List the weights: ric weights ls; get any other by: hf download {name}",
        )
    progress = make_progress(quiet=json)
    places = {}
    for chosen in [weight] if weight else _weights_of(command):
        if chosen.kind == "embedded":
            say(f"{chosen.id} comes with ric: there is nothing to get.")
            continue
        places[chosen.id] = str(get_weights(chosen, progress, weights_dir=weights))
        if not json:
            print_line(places[chosen.id])
    if json:
        print_json({"places": places})


@app.command("check")
def check(command: Command = None, weights: Folder = None, json: AsJson = False) -> None:
    """Check that the weights on this machine are complete."""
    from ric.weights import check_weights, is_present

    found = {}
    for weight in _weights_of(command):
        path = None if weight.kind == "embedded" else is_present(weight, weights)
        if path is not None:
            found[weight.id] = check_weights(path)
            if not json:
                print_line(f"{weight.id}: {'; '.join(found[weight.id]) or 'whole'}")
    if json:
        print_json({"problems": found})
    elif not found:
        say("None of these weights is on this machine.")
    broken = [name for name, problems in found.items() if problems]
    if broken:
        raise RicError(
            f"{len(broken)} of {len(found)} weights are broken: {', '.join(broken)}.",
            "Get them again: ric weights get ID",
        )


@app.command("convert")
def convert(
    file: Annotated[
        Path, typer.Argument(help="A .ckpt, .bin, .pt or .pth file, or a model's folder of them.")
    ],
    out: Annotated[Path, typer.Argument(help="The .safetensors file, or the folder, to write.")],
    json: AsJson = False,
) -> None:
    """Convert a pickle checkpoint to safetensors: only its tensors; nothing in it is run."""
    from ric.weights.convert import convert_model, convert_to_safetensors

    if file.is_dir():
        count = convert_model(file, out, make_progress(quiet=json))
        if json:
            print_json({"folder": str(out), "converted": count})
        else:
            print_line(str(out))
        return
    report = convert_to_safetensors(file, out)
    dropped = len(report.dropped_globals) + len(report.dropped_values)
    if json:
        print_json({"file": str(out), "tensors": report.tensors, "dropped": dropped})
        return
    say(f"{report.tensors} tensors kept, {dropped} other things dropped.")
    print_line(str(out))


def _weights_of(command: str | None) -> Sequence[Weight]:
    """List the weights that a command may need; None: all of them."""
    from ric.models.table import commands_for
    from ric.weights import WEIGHTS

    if command is None:
        return WEIGHTS
    if command == "reproduce":
        from ric.preflight.reproduction import weights_read
        from ric.reproduction import HUMANEDIT, Reproduction

        return weights_read(Reproduction(data=HUMANEDIT, folder=Path()))
    chosen = [weight for weight in WEIGHTS if command in commands_for(weight.id)]
    if not chosen:
        known = sorted({name for weight in WEIGHTS for name in commands_for(weight.id)})
        raise RicError(
            f"No weight is needed by {command!r}.",
            f"Try one of: {', '.join([*known, 'reproduce'])}.",
        )
    return chosen


def weight_rows(command: str | None, weights: Path | None) -> list[dict[str, Any]]:
    """Return the table of weights as JSON-ready rows, and those that this version cannot run."""
    from ric.describers.deepseek_vl2.architecture import OTHER_SIZES, TINY
    from ric.models.table import commands_for
    from ric.weights import is_present

    rows = []
    for weight in _weights_of(command):
        place = is_present(weight, weights)
        rows.append(
            {
                "id": weight.id,
                "revision": weight.revision,
                "size": weight.size,
                "licence": weight.licence,
                "conditions": weight.conditions,
                "commands": list(commands_for(weight.id)),
                "purpose": weight.purpose,
                "place": str(place) if place else None,
                "present": place is not None,
                "runs": True,
            }
        )
    if command in (None, "describe"):
        tiny = next(row for row in rows if row["id"] == TINY)
        not_run: dict[str, Any] = dict.fromkeys(("revision", "size", "purpose"), "")
        not_run |= {"commands": [], "place": None, "present": False, "runs": False}
        rows += [{**tiny, "id": name, **not_run} for name in OTHER_SIZES]
    return rows


def sum_in_words(rows: list[dict[str, Any]]) -> str:
    """Sum the sizes of the rows' weights, and of those that are not on this machine."""
    from ric.weights import find_weight, size_in_words

    found = ((find_weight(row["id"]), row["present"]) for row in rows if row["runs"])
    sizes = [(weight.size_bytes, here) for weight, here in found if weight]
    whole = sum(size for size, _ in sizes)
    missing = sum(size for size, here in sizes if not here)
    told = f"{size_in_words(missing)} of them missing" if missing else "all here"
    return f"{len(sizes)} weights, {size_in_words(whole)}: {told}."


def datasets_in_words() -> str:
    """Say how large HumanEdit is, and whether it is here."""
    from ric.data import humanedit
    from ric.data.hub import cached_files
    from ric.weights import size_in_words

    here = "here" if cached_files(humanedit.HUB_ID)[0] else "downloaded by the first command"
    size = size_in_words(humanedit.BYTES)
    return f"Beside them the data, such as {humanedit.HUB_ID}: {size}, {here}."


def _shortened(revision: str) -> str:
    """Shorten a commit's hash; a branch keeps its name."""
    return revision[:8] if re.fullmatch("[0-9a-f]{40}", revision) else revision


def _is_branch(revision: str) -> bool:
    return revision == "main" or revision.startswith("refs/")


def weight_table(rows: list[dict[str, Any]]) -> Table:
    """Format the rows as a table."""
    from rich.table import Table

    table = Table("id", "revision", "size", "licence and conditions", "needed by", "here")
    for row in rows:
        here = styled("present", "green") if row["present"] else "missing"
        here = here if row["runs"] else NOT_RUN
        table.add_row(
            row["id"], _shortened(row["revision"]), row["size"],
            f"{row['licence']}. {row['conditions']}", ", ".join(row["commands"]), here,
        )  # fmt: skip
    return table
