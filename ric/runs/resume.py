"""Going on where an earlier attempt at a run stopped."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch

from ric.runs.checkpoints import clear_unfinished, complete_checkpoints

if TYPE_CHECKING:
    from pathlib import Path

    from ric.runs.run import RunDir


def last_checkpoint(run: RunDir) -> Path | None:
    """Find the newest complete checkpoint of a run and take over its number of threads.

    Sums are split among threads, so another number gives other last bits. Ask before anything is
    computed: what is encoded before the first step must come out the same as well.

    Returns:
        The checkpoint's folder; None where the run starts from the beginning.
    """
    folder = run.path / "checkpoints"
    clear_unfinished(folder)
    found = complete_checkpoints(folder)
    if not found:
        return None
    state = json.loads((found[-1] / "state.json").read_text(encoding="utf-8"))
    torch.set_num_threads(state["threads"])
    return found[-1]
