"""Find weights on this machine: in the folder given with `--weights`, then the caches."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ric.cache_folders import cache_folder, user_cache
from ric.errors import RicError
from ric.model_files import read_json
from ric.weights.loadable import is_convertible, is_loadable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ric.weights.table import Weight


def is_present(weight: Weight, weights_dir: str | Path | None = None) -> Path | None:
    """Return the weight's path on this machine, or None if it would have to be downloaded.

    The embedded family is part of the package: its path is `ric`'s own folder.
    """
    if weight.kind == "embedded":
        return Path(__file__).parents[1]
    places = _places(weight, weights_dir)
    return next((place for place in places if is_loadable(place)), None)


def convertible_copy(weight: Weight, weights_dir: str | Path | None = None) -> Path | None:
    """Return the path of a copy with pickles or half-precision files to convert, or None."""
    places = _places(weight, weights_dir)
    return next((place for place in places if is_convertible(place)), None)


def revision_of(path: Path) -> str | None:
    """Return the commit of a hub snapshot, or of one that `ric` converted; None for other paths.

    Args:
        path: A folder `…/models--org--name/snapshots/COMMIT`, anything below it, or a folder of
            `converted_home()`.
    """
    for folder in (path, *path.parents):
        if folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--"):
            return folder.name
        note = folder / "converted.json"
        if note.is_file():
            with suppress(RicError):  # another program's
                return read_json(note).get("revision")
    return None


def hub_cache() -> Path:
    """Return the hub's cache as its own variables name it, without importing its client."""
    home = os.environ.get("HF_HOME") or user_cache() / "huggingface"
    old_name = os.environ.get("HUGGINGFACE_HUB_CACHE")
    cache = os.environ.get("HF_HUB_CACHE") or old_name or f"{home}/hub"
    return Path(os.path.expandvars(cache)).expanduser()


def torch_cache() -> Path:
    """Return the folder torch.hub keeps single files in, without importing torch."""
    home = os.environ.get("TORCH_HOME") or user_cache() / "torch"
    return Path(home).expanduser() / "hub" / "checkpoints"


def converted_home() -> Path:
    """Return the folder where `ric` keeps the safetensors it made of a repository's pickles."""
    return cache_folder() / "weights"


def _places(weight: Weight, weights_dir: str | Path | None) -> Iterator[Path]:
    """List where the weight may lie, best place first; not all of them exist."""
    if weight.file_name is not None:
        if weights_dir is not None:
            yield Path(weights_dir) / weight.file_name
        yield torch_cache() / weight.file_name
        return
    flat_name = weight.id.replace("/", "--")
    if weights_dir is not None:
        root = Path(weights_dir)
        yield from (root / flat_name, root / weight.id, root / weight.id.rpartition("/")[2])
    yield converted_home() / flat_name
    yield from _snapshots(hub_cache() / f"models--{flat_name}", weight.revision)


def _snapshots(repository: Path, revision: str) -> Iterator[Path]:
    """List a repository's cached snapshots: the wanted revision, main, then any other."""
    folders = repository / "snapshots"
    for branch in (revision, "main"):
        ref = repository / "refs" / branch
        commit = ref.read_bytes()[:100].decode("ascii", "replace").strip() if ref.is_file() else ""
        yield folders / (commit or branch)
    yield from sorted(folders.glob("*"))
