"""Editors, describers and loss terms by name: those that ric ships, and those that others add.

`--editor`, `--describer` and `--loss` take a name of the tables below, `my_file.py:Name`,
`package.module:Name`, or a name that an installed package declares in the entry point group
`ric.editors`, `ric.describers` or `ric.losses`. An editor or a describer is called with the folder
of its model (None where it needs none), the command's config and the device. Your own gets the
model that the command names if it has an attribute `needs_model = True`. A loss term is called with
the pipeline in training, the decoder of the losses, and the config, and returns a
`ric.method.objective.LossTerm`.

Imports nothing heavy: the command line and preflight read this, too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from ric.errors import RicError, first_line

if TYPE_CHECKING:
    from types import ModuleType


class Part(NamedTuple):
    """An editor, a describer or a loss term.

    Attributes:
        place: `module:name` of what makes it.
        needs_model: Whether it loads the model that the command names.
    """

    place: str
    needs_model: bool = False


EDITORS = {
    "ip2p": Part("ric.editors.instruct_pix2pix:InstructPix2Pix.from_config", needs_model=True),
}
DESCRIBERS = {
    "dataset": Part("ric.describers.from_dataset:FromDataset.from_config", needs_model=False),
    "chat": Part("ric.describers.chat_vlm:ChatVlm.from_config", needs_model=True),
}
LOSSES = {  # terms beside those of Eq. 10
    "outside": Part("ric.method.outside:Outside.for_training"),
}
_SHIPPED: dict[str, Mapping[str, Part]] = {
    "editor": EDITORS,
    "describer": DESCRIBERS,
    "loss": LOSSES,
}
_GROUPS = {"editor": "ric.editors", "describer": "ric.describers", "loss": "ric.losses"}


def needs_model(kind: str, name: str) -> bool:
    """Tell whether an editor or a describer loads the model that its command names.

    One that is not there loads none; `load_part` says what is wrong with it.
    """
    if shipped := _SHIPPED[kind].get(name):
        return shipped.needs_model
    try:
        return bool(getattr(load_part(kind, name), "needs_model", False))
    except RicError:
        return False


def refuse_unknown(kind: str, name: str) -> None:
    """Stop where there is no such editor or describer; ric's own are not imported for that.

    Raises:
        RicError: as `load_part`.
    """
    if name not in _SHIPPED[kind]:
        load_part(kind, name)


def load_part(kind: str, name: str) -> Callable[..., Any]:
    """Import what makes an `editor`, a `describer` or a `loss` term.

    Raises:
        RicError: there is none of that name, or its code cannot be imported.
    """
    shipped = _SHIPPED[kind].get(name)
    if shipped:
        return _import(kind, shipped.place)
    # 15 ms that `ric --help` need not pay
    from importlib.metadata import entry_points

    declared = entry_points(group=_GROUPS[kind], name=name)
    if declared:
        return _import(kind, next(iter(declared)).value)
    if ":" in name:
        return _import(kind, name)
    there = ", ".join(_SHIPPED[kind])
    raise RicError(
        f"There is no {kind} {name!r}.",
        f"Choose one of: {there}; or name your own: --{kind} my_file.py:Name",
    )


def _import(kind: str, place: str) -> Callable[..., Any]:
    where, _, name = place.rpartition(":")
    try:
        found: Any = _from_file(where) if where.endswith(".py") else import_module(where)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:  # whatever another's code raises
        raise RicError(
            f"The {kind} {place} cannot be imported: {type(error).__name__}: {first_line(error)}",
            "It is written FILE.py:NAME or PACKAGE.MODULE:NAME.",
        ) from error
    return cast("Callable[..., Any]", found)


def _from_file(place: str) -> ModuleType:
    path = Path(place)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    return _executed(path, path.stat().st_mtime_ns)


@cache
def _executed(path: Path, changed: int) -> ModuleType:
    """Run a file once, however often it is asked for, unless it has changed since."""
    name = f"ric_part_{path.stem}"
    spec = spec_from_file_location(name, path)
    assert spec is not None  # a .py file has a loader
    assert spec.loader is not None
    module = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
