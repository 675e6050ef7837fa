"""Download a weight: a repository's files from the hub, or one published file.

A repository of the table that holds only pickles, and any that holds only half-precision copies, is
converted into `converted_home()`; `ric.weights.convert` runs no code from them.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ric.errors import RicError
from ric.progress import Silent
from ric.weights.check import wrong_hash
from ric.weights.connection import NO_DOWNLOAD_HINT, require_connection
from ric.weights.find import (
    converted_home,
    convertible_copy,
    hub_cache,
    is_present,
    revision_of,
    torch_cache,
)
from ric.weights.loadable import NEVER_LOADED, accept, is_convertible, is_loadable
from ric.weights.table import WEIGHTS, Weight, size_in_words

if TYPE_CHECKING:
    from ric.progress import Progress


def get_weights(
    weight: Weight,
    progress: Progress | None = None,
    *,
    weights_dir: str | Path | None = None,
    needs: str = "",
    instead: str = NO_DOWNLOAD_HINT,
) -> Path:
    """Return the weight's path, downloading it if it is not on this machine.

    Pickles of a repository in the table are converted, and so are the half-precision copies of any
    repository that has nothing else; those in the cache need no connection.

    Args:
        weight: A row of `WEIGHTS`, or one made for another hub id.
        progress: Where progress is reported; the hub draws its own bars on stderr.
        weights_dir: The folder given with `--weights`.
        needs: What needs it, for the message.
        instead: What needs no download, for the message; as `no_download` says it.

    Raises:
        RicError: There is no connection, repository or disk space, or only pickles in a repository
            that the table does not list.
    """
    progress = progress or Silent()
    present = is_present(weight, weights_dir)
    if present is not None:
        return present
    known = weight in WEIGHTS
    copy = convertible_copy(weight, weights_dir)
    if copy is not None:
        safe = known or is_convertible(copy, pickles=False)
        return _convert(weight, copy, progress) if safe else accept(copy)
    what = f"{weight.id} ({weight.size})" if weight.size_bytes else weight.id
    require_connection(
        f"{what}, which {needs} needs," if needs else what,
        f"With a connection: {get_command(weight)}. Or give --weights a folder that holds it.",
        url=weight.url,
        instead=instead,
    )
    progress.note(f"Fetching {what}, {weight.licence}. {weight.note}".rstrip())
    if weight.kind == "file":
        return _fetch_file(weight, progress)
    folder = _fetch_snapshot(weight)
    if is_loadable(folder):
        return folder
    # pickles only of repositories in the table; half precision where there is nothing else
    for suffix in (".bin", ".fp16.safetensors") if known else (".fp16.safetensors",):
        folder = _fetch_snapshot(weight, suffix)
        if is_convertible(folder, pickles=known):
            return _convert(weight, folder, progress)
    raise RicError(
        f"{weight.id} publishes no complete set of safetensors, in full or half precision;"
        " pickles are not loaded, as they could run any code.",
        f"If it has pickles: hf download {weight.id} --local-dir FOLDER, then ric weights convert"
        " FOLDER NEW_FOLDER, and name NEW_FOLDER.",
    )


def _fetch_snapshot(weight: Weight, suffix: str = ".safetensors") -> Path:
    """Fetch a repository's files, with weights of this suffix (Raises RicError)."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    _require_room(weight, hub_cache())
    try:
        return Path(
            snapshot_download(
                weight.id,
                revision=weight.revision,
                allow_patterns=[
                    pattern.replace(".safetensors", suffix) for pattern in weight.allow_patterns
                ],
                ignore_patterns=[
                    rule for rule in NEVER_LOADED if not ("fp16" in rule and "fp16" in suffix)
                ],
                cache_dir=hub_cache(),
            )
        )
    except GatedRepoError:
        raise RicError(
            f"{weight.id} asks you to accept its licence first.",
            "Accept it on its page, then set HF_TOKEN to a token of yours.",
        ) from None
    except RepositoryNotFoundError:
        raise RicError(
            f"The hub has no public repository {weight.id}.",
            "Check the spelling; for a private one set HF_TOKEN.",
        ) from None
    except Exception as error:
        # the hub, its HTTP client, its storage and the disk fail in classes of their own
        raise RicError(
            f"Fetching {weight.id} failed: {_first_line(error)}.",
            f"Resume it with: {get_command(weight)}",
        ) from None


def fetch_config(weight: Weight) -> Path | None:
    """Fetch a repository's config.json alone; None if it cannot be had."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(
            hf_hub_download(
                weight.id, "config.json", revision=weight.revision, cache_dir=hub_cache()
            )
        )
    except Exception:
        # what is wrong is told when the weights are fetched
        return None


def _fetch_file(weight: Weight, progress: Progress) -> Path:
    """Download one published file into torch's cache, checked against the hash in its name."""
    from http.client import HTTPException
    from urllib.request import urlopen

    assert weight.url is not None
    assert weight.file_name is not None
    target = torch_cache() / weight.file_name
    _require_room(weight, target.parent)
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            urlopen(weight.url, timeout=30) as answer,
            open(partial, "wb") as file,
            progress.stage(weight.file_name, weight.size_bytes, unit="bytes") as stage,
        ):
            while block := answer.read(1 << 20):
                file.write(block)
                stage.advance(len(block))
            file.flush()
            os.fsync(file.fileno())
        problem = wrong_hash(partial, weight.file_name)
        if problem:
            raise RicError(f"{weight.id} arrived broken: {problem}.", "Fetch it again.")
        os.replace(partial, target)
    except (OSError, HTTPException) as error:
        raise RicError(
            f"Fetching {weight.id} failed: {_first_line(error)}.",
            f"Repeat it: {get_command(weight)}",
        ) from None
    finally:
        with suppress(OSError):
            partial.unlink()
    return target


def _convert(weight: Weight, snapshot: Path, progress: Progress) -> Path:
    """Turn a repository's pickles into safetensors, beside copies of its small files."""
    from ric.weights.convert import convert_folder

    target = converted_home() / weight.id.replace("/", "--")
    progress.note(f"Converting {weight.id} into {target}: only its tensors, running no code.")
    _require_room(weight, target)
    note = {"id": weight.id, "revision": revision_of(snapshot)}
    convert_folder(snapshot, target, note, progress)
    return accept(target)


def _require_room(weight: Weight, folder: Path) -> None:
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < weight.size_bytes:
        raise RicError(
            f"{weight.id} needs {weight.size}, and {folder} has {size_in_words(free)} left.",
            "Free some space, or set HF_HOME (TORCH_HOME for a single file) to a larger disk.",
        )


def get_command(weight: Weight) -> str:
    """Return the command that downloads it; `ric weights get` knows only the table."""
    unlisted = weight.kind == "hub" and weight not in WEIGHTS
    return f"{'hf download' if unlisted else 'ric weights get'} {weight.id}"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
