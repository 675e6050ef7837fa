"""`ric reproduce`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from ric.config import Preset
from ric.interrupt import Interrupted
from ric_cli.console import make_progress, print_json, print_line, say
from ric_cli.job import DRAWN_ONLY, SOME_FAILED
from ric_cli.loading import LOADING
from ric_cli.surroundings import take_one_thread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ric.preflight.reproduction import Planned
    from ric.preflight.stage_cost import StageCost
    from ric.reproduction import Reproduction

NOT_ESTIMATED = "-"
COLUMNS = "{:<20} {:>9} {:>9} {:>10} {:>10} {:>12}"

ABOUT_COLUMNS = (
    "hours: arithmetic at that rate; - is not estimated (describing, scoring, other models), and >",
    "  counts the others alone",
    "paper's: the hours that it states, on one A100, for HumanEdit and its 9,000 steps",
    "disk: at most, while the stage runs; in all what stays, and one checkpoint more",
    "download: takes as much disk beside that",
    "GPU memory: > counts weights and optimizer alone, without activations",
)


def reproduce(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="humanedit (the hub's BryanW/HumanEdit), or any DATA, such as scenes:400@64#5.",
            show_default=False,
        ),
    ],
    folder: Annotated[
        Path, typer.Option(help="Gets a run for each stage, the tables and the page.")
    ] = Path("reproduce"),
    only: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="TABLE", help="table1, table2 or table3; again for another one."),
    ] = None,
    preset: Annotated[
        Preset, typer.Option(help="tiny: the embedded family, offline, in minutes.")
    ] = "paper",
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show hours, disk, downloads, GPU memory, what is missing."),
    ] = False,
    for_gpu: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="CARD", help='With --dry-run: for a card such as "RTX 4090", not this machine.'
        ),
    ] = None,
    describer: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Of ric describe. Default: the preset's.", show_default=False),
    ] = None,
    steps: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Of each UNet. Default: the preset's.", show_default=False),
    ] = None,
    limit: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="For a rehearsal: at most this many samples in each stage."),
    ] = None,
    memory: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(metavar="GB", help="Of the GPU: ric train-unet picks a plan that fits."),
    ] = None,
    weights: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="A folder searched before the hub's cache."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Make the paper's Tables 1, 2 and 3 and a page of them, from DATA on; resumable.

    Repeat the command to continue: finished stages are skipped.
    """
    if for_gpu and not dry_run:
        raise typer.BadParameter("--for-gpu goes with --dry-run.")
    if preset == "tiny":
        take_one_thread()
    if not (quiet or json):
        say(LOADING)
    from ric.reproduction import Reproduction

    changes: dict[str, Any] = {"describer": describer, "steps": steps, "limit": limit}
    changes |= {"memory": memory, "weights": str(weights) if weights else None, "device": device}
    changes = {key: value for key, value in changes.items() if value not in (None, "auto")}
    asked = Reproduction(
        data=data, folder=folder, preset=preset, only=tuple(only or ()), changes=changes
    )
    if dry_run:
        _show_plan(asked, for_gpu, as_json=json, quiet=quiet)
    else:
        _make(asked, as_json=json, quiet=quiet)


def _make(asked: Reproduction, *, as_json: bool, quiet: bool) -> None:
    from ric.recipes import reproduce as recipes

    if asked.preset == "tiny" and not quiet:
        say(DRAWN_ONLY)
    try:
        made = recipes.reproduce(
            asked, make_progress(quiet=quiet), say=lambda line: None if quiet else say(line)
        )
    except Interrupted:
        say(f"Finished stages are kept in {shlex.quote(str(asked.folder))}: repeat the command.")
        raise
    if as_json:
        paths = {"tables": str(made.tables), "page": str(made.page)}
        told = {"failures": made.failures, "unavailable": made.unavailable}
        print_json({"command": "reproduce", **paths, **told})
    else:
        for line in made.tables.read_text(encoding="utf-8").splitlines():
            print_line(line)
        print_line(str(made.tables))
        print_line(str(made.page))
    if made.failures and not quiet:
        say(f"{made.failures} samples failed: see failures.jsonl in {asked.folder}/*")
    if made.failures or made.unavailable:
        raise typer.Exit(SOME_FAILED)


def _show_plan(asked: Reproduction, card: str | None, *, as_json: bool, quiet: bool) -> None:
    from ric.preflight.cards import find_card
    from ric.preflight.reproduction import plan_reproduction
    from ric.preflight.stage_cost import machine_of, this_machine

    machine = (
        machine_of(find_card(card)) if card else this_machine(asked.changes.get("device", "auto"))
    )
    planned = plan_reproduction(asked, machine, make_progress(quiet=quiet or as_json))
    if as_json:
        print_json(_as_json(planned))
    else:
        for line in _lines(planned):
            print_line(line)
    if planned.problems:
        raise typer.Exit(1)


def _lines(planned: Planned) -> list[str]:
    """Format a plan: a line for each stage, the sums, what is missing, problems last."""
    lines = [planned.machine.name, ""]
    lines.append(COLUMNS.format("stage", "hours", "paper's", "disk", "download", "GPU memory"))
    lines += [COLUMNS.format(*cells) for cells in _cells(planned)]
    notes = {name: cost.note for name, cost in planned.stages.items() if cost.note}
    lines += ["", *ABOUT_COLUMNS]
    if notes:
        memory = f"--memory {planned.machine.gigabytes:.3g}"
        lines += ["", f"With {memory} these fit, each by a plan of its own:"]
    lines += [f"  {name}: {note}" for name, note in notes.items()]
    if planned.done:
        lines += ["", f"done: {', '.join(planned.done)}"]
    lines += ["", "missing:"]
    lines += [
        f"  {weight.id}: {weight.size}, ric weights get {weight.id}"
        for weight in planned.missing.values()
    ] or ["  no weight"]
    lines += ["problems:", *(f"  {problem}" for problem in planned.problems or ["none"])]
    return lines


def _cells(planned: Planned) -> list[tuple[str, ...]]:
    from ric.reproduction import BY_NAME, PAPER_HOURS
    from ric.weights import size_in_words

    def in_words(size: int) -> str:
        return size_in_words(size) if size else "0"

    rows: list[tuple[str, ...]] = []
    for name, cost in planned.stages.items():
        theirs = PAPER_HOURS.get(BY_NAME[name].kind) if planned.is_of_the_paper else None
        paper = NOT_ESTIMATED if theirs is None else f"{theirs:.1f}"
        download = in_words(planned.downloads[name])
        rows.append((name, _hours([cost]), paper, in_words(cost.disk), download, _memory(cost)))
    costs = list(planned.stages.values())
    peak = max((cost.disk - cost.kept for cost in costs), default=0)
    disk = in_words(sum(cost.kept for cost in costs) + peak)
    fetched = in_words(sum(planned.downloads.values()))
    most = max(costs, key=lambda cost: cost.memory or 0, default=None)
    rows.append(("in all", _hours(costs), "", disk, fetched, _memory(most) if most else "0"))
    return rows


def _hours(costs: Sequence[StageCost]) -> str:
    """Sum the hours of stages; ">" where some of them are not estimated."""
    known = [cost.hours for cost in costs if cost.hours is not None]
    if costs and not known:
        return NOT_ESTIMATED
    return f"{'> ' if len(known) < len(costs) else ''}{sum(known):.1f}"


def _memory(cost: StageCost) -> str:
    if cost.memory is None:
        return "unknown"
    words = f"{cost.memory:.1f} GiB" if cost.memory >= 0.1 else f"{1024 * cost.memory:.0f} MiB"
    return f"> {words}" if cost.memory_is_least else words


def _as_json(planned: Planned) -> dict[str, Any]:
    stages = {
        name: {**vars(cost), "download": planned.downloads[name]}
        for name, cost in planned.stages.items()
    }
    return {
        "command": "reproduce",
        "machine": vars(planned.machine),
        "stages": stages,
        "done": planned.done,
        "missing": {weight.id: weight.size_bytes for weight in planned.missing.values()},
        "problems": planned.problems,
    }
