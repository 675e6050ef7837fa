"""The content of `--dry-run`: settings, samples, models and cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ric.config import as_dict, command_of
from ric.data.count import count_samples
from ric.errors import RicError
from ric.models.table import NamedModel, models_of
from ric.preflight.cost import (
    arithmetic,
    cache_sizes,
    memory_needed,
    run_size,
    step_count,
    why_no_time,
)
from ric.runs.record import find_artifact
from ric.settings import usual_settings
from ric.weights import check_weights, find_weight, is_present
from ric.weights.fetch import get_command
from ric.weights.resolve import unlisted

if TYPE_CHECKING:
    from collections.abc import Callable

    from ric.config import CommandConfig
    from ric.data.opened import Opened

BURSTS, BURST = 5, 0.1  # measurements of the matrix rate, and seconds for each


def plan(
    config: CommandConfig, runs_dir: Path, opening: Callable[[], Opened] | None = None
) -> dict[str, Any]:
    """Describe what a command would do: settings, samples, models, steps, memory and time.

    Time is the arithmetic of the paper's models at this machine's measured matrix rate; for other
    models it is not estimated. It is a lower bound, since no machine sustains its matrix rate, and
    a range, since the rate of a shared machine varies. What is not there is shown as missing or
    unknown; `find_problems` says why. `changed` lists the settings that are not their preset's.
    The `problems` here are only a `--memory` that is too small. `opening` is `count_samples`'s.
    """
    samples, samples_in_words = count_samples(config, opening)
    models = {model.name: _model_in_words(model, runs_dir, config) for model in models_of(config)}
    cost: dict[str, Any] = {}
    problems: list[str] = []
    steps = step_count(config, samples)
    if steps is not None:
        cost["steps"] = steps
    try:
        cost |= memory_needed(config, runs_dir)
    except RicError as error:
        cost["memory"] = error.message
        problems.append(" ".join(filter(None, (error.message, error.hint))))
    cost |= cache_sizes(config, samples)
    cost |= run_size(config, runs_dir)
    gflop = arithmetic(config, samples, steps)
    if gflop is None:
        cost["time"] = why_no_time(config, samples)
    else:
        cost["arithmetic"] = f"{gflop / 1e3:,.0f} TFLOP"
        cost["time"] = _time(gflop, config)
    settings = as_dict(config)
    usual = usual_settings(command_of(type(config)).replace(" ", "-"), settings)
    return {
        "changed": [key for key in settings if key not in usual or settings[key] != usual[key]],
        "settings": settings,
        "data": {"samples": samples_in_words, "split": config.split},
        "models": models or {"none": "no model is loaded"},
        "cost": cost,
        "problems": problems,
    }


def _time(gflop: float, config: CommandConfig) -> str:
    """Return the lower bound of the time, as a range over the rates measured now."""
    from ric.device import matmul_rate, pick_device, pick_dtype

    device = pick_device(config.device)
    dtype = pick_dtype(config.dtype, device)
    rates = [matmul_rate(dtype, BURST, device) for _ in range(BURSTS)]
    times = dict.fromkeys(_clock(gflop * 1e9 / rate) for rate in (max(rates), min(rates)))
    tera = dict.fromkeys(f"{rate / 1e12:.2f}" for rate in (min(rates), max(rates)))
    return (
        f"at least {' to '.join(times)} at this machine's matrix rate of {' to '.join(tera)}"
        " TFLOP/s, measured just now"
    )


def _model_in_words(model: NamedModel, runs_dir: Path, config: CommandConfig) -> str:
    name = model.name
    if name == "tiny":
        return "of the embedded family"
    try:
        if model.row.artifact and find_artifact(name, model.row.artifact, runs_dir):
            return f"{model.row.artifact} of a run"
    except RicError as error:
        return f"missing: {error.message}"
    if Path(name).exists():
        problems = check_weights(Path(name))
        return f"a local folder{', ' + problems[0] if problems else ''}"
    try:
        weight = find_weight(name) or unlisted(name)
    except RicError as error:
        return f"missing: {error.message}"
    where = is_present(weight, config.weights)
    place = f"in {where}" if where else f"missing ({get_command(weight).removesuffix(f' {name}')})"
    return f"{weight.size}, {place}" if weight.size_bytes else place


def _clock(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
