"""The machine's description in every benchmark's result, and the files of results."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ric.device import machine_name

if TYPE_CHECKING:
    from collections.abc import Mapping

RESULTS = Path(__file__).parent / "results"


def measured_here(**more: object) -> dict[str, Any]:
    """Start a result: the machine, `more`, the time, and the load average."""
    return {
        "machine": machine_name(),
        **more,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_average": round(os.getloadavg()[0], 2),
    }


def append_result(benchmark: str, result: Mapping[str, Any]) -> Path:
    """Append a result to results/<benchmark>-<machine>.json and return that file."""
    RESULTS.mkdir(exist_ok=True)
    machine = re.sub(r"[^A-Za-z0-9]+", "-", str(result["machine"])).strip("-").lower()
    file = RESULTS / f"{benchmark}-{machine}.json"
    earlier = json.loads(file.read_text()) if file.is_file() else []
    file.write_text(json.dumps([*earlier, result], indent=2) + "\n")
    return file
