"""`ric doctor`: installed versions, this machine's hardware, and what really works on it."""

from __future__ import annotations

from typing import Annotated

import typer

from ric_cli.console import print_json
from ric_cli.tables import print_table
from ric_cli.weights import WEIGHTS_MAY_GO, weight_rows, weight_table


def doctor(
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Report versions, device, disk, attention back-ends (each is tried) and weights."""
    from rich.table import Table

    from ric.device import attention_backends, pick_device
    from ric.runs.provenance import environment_report
    from ric.weights import size_in_words

    device = pick_device("auto")
    report = environment_report()
    backends = attention_backends(device)
    rows = weight_rows(None, None)
    if json:
        attention = [vars(backend) for backend in backends]
        print_json({**report, "device": str(device), "attention": attention, "weights": rows})
        return
    table = Table("what", "is", title="This machine")
    table.add_row("device", str(device))
    for key in ("machine", "platform", "python", "cpus", "gpus"):
        table.add_row(key, str(report[key]))
    for key in ("memory_bytes", "disk_free_bytes"):
        size = report[key]
        table.add_row(key.removesuffix("_bytes"), size_in_words(size) if size else "unknown")
    for name, version in report["versions"].items():
        table.add_row(name, version or "not installed")
    print_table(table)
    table = Table("attention", "works", "detail", title="Attention, each tried once")
    for backend in backends:
        table.add_row(backend.name, "yes" if backend.works else "no", backend.detail)
    print_table(table)
    print_table(weight_table(rows), may_go=WEIGHTS_MAY_GO)
