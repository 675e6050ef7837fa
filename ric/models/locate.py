"""Finding the model that a flag names: a run's artifact, the tiny family, a folder, the hub."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ric.config import command_of
from ric.models.table import ModelRow, NamedModel, kind_of, row_of
from ric.runs.record import artifact_of, find_artifact
from ric.weights import find_weight, is_present, no_download, resolve_weights, revision_of
from ric.weights.tiny_family import tiny_family

if TYPE_CHECKING:
    from collections.abc import Callable

    from ric.config import CommandConfig
    from ric.runs.run import RunDir


def locate(config: CommandConfig, setting: str, run: RunDir) -> Path:
    """Find the model that a setting names, by its row of the table, and record it in `run`.

    Raises:
        RicError: as `locate_named`.
    """
    row = row_of(config, setting)
    get = partial(
        resolve_weights,
        weights_dir=config.weights,
        needs=command_of(config),
        kind=kind_of(config, row),
        instead=no_download(config.preset),
    )
    return locate_named(NamedModel(getattr(config, setting, "tiny"), row), run, get)


def locate_model(name: str, run: RunDir, *, tiny: str) -> Path:
    """Find a model that is no run's, or with the name `tiny` a member of the embedded family.

    Raises:
        RicError: as `locate_named`.
    """
    return locate_named(NamedModel(name, ModelRow(tiny, tiny)), run)


def locate_named(
    model: NamedModel, run: RunDir, get: Callable[[str], Path] = resolve_weights
) -> Path:
    """Find the folder of a model, and record it in `run`.

    Where the model's name is a run's, that run is recorded: a resumed `run` uses the same one
    again.

    Args:
        model: `tiny`, a run (path, number, `@command`), a local folder, or a hub id; and its row.
        run: The run that will use it.
        get: Finds a folder or a hub id.

    Raises:
        RicError: it is not found, only a pickle, incomplete, of a run that is not finished, or of a
            run that `run` used before and that is gone.
    """
    name, row = model
    path = None
    if name == "tiny":
        path = tiny_family() / row.tiny
    elif row.artifact and (source := run.resolve(name)) is not None:
        path = artifact_of(source, row.artifact)
        run.add_parent(source)
    if path is None:
        path = get(name)
    weights = run.record.get("weights", {})
    run.note(
        weights={**weights, row.recorded or row.tiny: {"id": name, "revision": revision_of(path)}}
    )
    return path


def find(config: CommandConfig, model: NamedModel, runs_dir: Path) -> Path | None:
    """Find a command's model that is on this machine already, fetching nothing.

    Returns:
        Its path; None where it is not here.

    Raises:
        RicError: it is of a run that is not finished, or lacks it.
    """
    name, row = model
    if name == "tiny":
        return tiny_family() / row.tiny
    if row.artifact and (found := find_artifact(name, row.artifact, runs_dir)):
        return found
    if Path(name).exists():
        return Path(name)
    weight = find_weight(name)
    return is_present(weight, config.weights) if weight else None
