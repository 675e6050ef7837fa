"""What `--dry-run` shows: settings, samples, models and cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ric.config import as_dict
from ric.data.count import count_samples
from ric.errors import RicError
from ric.models.table import NamedModel, models_of
from ric.preflight.cost import arithmetic, cache_sizes, memory_needed, step_count
from ric.runs.record import find_artifact
from ric.weights import check_weights, find_weight, is_present

if TYPE_CHECKING:
    from ric.config import CommandConfig


def plan(config: CommandConfig, runs_dir: Path) -> dict[str, Any]:
    """Describe what a command would do: settings, samples, models, steps, memory and time.

    Time is arithmetic at this machine's own measured matrix rate, for the paper's models; other
    models' is not estimated. It is a floor: no machine keeps its matrix rate up throughout.
    What is not there is said to be missing or unknown; `find_problems` tells why.
    """
    samples, samples_in_words = count_samples(config)
    models = {model.name: _model_in_words(model, runs_dir, config) for model in models_of(config)}
    cost: dict[str, Any] = {}
    steps = step_count(config, samples)
    if steps is not None:
        cost["steps"] = steps
    cost |= memory_needed(config, runs_dir, samples)
    cost |= cache_sizes(config, samples)
    gflop = arithmetic(config, samples, steps)
    if gflop is None:
        cost["time"] = "not estimated (other models than the paper's)"
    else:
        from ric.device import matmul_rate, pick_device, pick_dtype

        device = pick_device(config.device)
        rate = matmul_rate(pick_dtype(config.dtype, device), device=device)
        cost["arithmetic"] = f"{gflop / 1e3:,.0f} TFLOP"
        cost["time"] = (
            f"at least {_clock(gflop * 1e9 / rate)} at this machine's measured "
            f"{rate / 1e12:.2f} TFLOP/s"
        )
    return {
        "settings": as_dict(config),
        "data": {"samples": samples_in_words, "split": config.split},
        "models": models or {"none": "no model is loaded"},
        "cost": cost,
    }


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
    weight = find_weight(name)
    if weight is None:
        return "not in the table: ric weights ls"
    where = is_present(weight, config.weights)
    return f"{weight.size}, {f'in {where}' if where else 'missing (ric weights get)'}"


def _clock(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
