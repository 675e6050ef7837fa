"""Finding the model that a flag names: a run's artifact, the tiny family, a folder, the hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ric.config import command_of
from ric.models.table import NamedModel, kind_of, row_of
from ric.runs.record import artifact_of, find_artifact
from ric.weights import find_weight, is_present, resolve_weights, revision_of
from ric.weights.tiny_family import tiny_family

if TYPE_CHECKING:
    from ric.config import CommandConfig
    from ric.runs.run import RunDir


def locate(config: CommandConfig, setting: str, run: RunDir) -> Path:
    """Find the model that a setting names, by its row of the table, and record it in `run`.

    Raises:
        RicError: as `locate_model`.
    """
    row = row_of(config, setting)
    return locate_model(
        getattr(config, setting, "tiny"),
        run,
        tiny=row.tiny,
        artifact=row.artifact or None,
        weights_dir=config.weights,
        needs=command_of(config),
        kind=kind_of(config, row),
        recorded=row.recorded,
    )


def find(config: CommandConfig, model: NamedModel, runs_dir: Path) -> Path | None:
    """Find a command's model on this machine, fetching nothing; None where it is not here.

    Raises:
        RicError: as `find_model`.
    """
    return find_model(
        model.name,
        runs_dir,
        tiny=model.row.tiny,
        artifact=model.row.artifact,
        weights_dir=config.weights,
    )


def locate_model(
    name: str,
    run: RunDir,
    *,
    tiny: str,
    artifact: str | None = None,
    weights_dir: str | None = None,
    needs: str = "",
    kind: str = "",
    recorded: str = "",
) -> Path:
    """Find the folder of a model, and record it in `run`.

    Where `name` names a run, that run is recorded: a resumed `run` uses the same one again.

    Args:
        name: `tiny`, a run (path, number, `@command`), a local folder, or a hub id.
        run: The run that will use it.
        tiny: Which member of the tiny family `tiny` means here.
        artifact: Which artifact of a run is used.
        weights_dir: A folder searched before the hub's cache.
        needs: What needs it, named in the error when it is not found.
        kind: What its folder must hold, a row of `model_files.PARTS`; "" leaves that to its loader.
        recorded: What the record of `run` calls it; "" for `tiny`.

    Raises:
        RicError: it is not found, only a pickle, incomplete, of a run that is not finished, or of a
            run that `run` used before and that is gone.
    """
    path = None
    if name == "tiny":
        path = tiny_family() / tiny
    elif artifact is not None and (source := run.resolve(name)) is not None:
        path = artifact_of(source, artifact)
        run.add_parent(source)
    if path is None:
        path = resolve_weights(name, weights_dir=weights_dir, needs=needs, kind=kind)
    weights = run.record.get("weights", {})
    run.note(weights={**weights, recorded or tiny: {"id": name, "revision": revision_of(path)}})
    return path


def find_model(
    name: str, runs_dir: Path, *, tiny: str, artifact: str = "", weights_dir: str | None = None
) -> Path | None:
    """Find a model that is on this machine already, fetching nothing.

    Args:
        name: `tiny`, a run, a local folder or file, or an id of the table or the hub.
        runs_dir: Where runs are looked for.
        tiny: Which member of the tiny family `tiny` means here.
        artifact: Which artifact of a run is used.
        weights_dir: A folder searched before the hub's cache.

    Returns:
        Its path; None where it is not here.

    Raises:
        RicError: it is of a run that is not finished, or lacks it.
    """
    if name == "tiny":
        return tiny_family() / tiny
    if artifact and (found := find_artifact(name, artifact, runs_dir)):
        return found
    if Path(name).exists():
        return Path(name)
    weight = find_weight(name)
    return is_present(weight, weights_dir) if weight else None
