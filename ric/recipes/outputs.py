"""What editors made: find the pictures that `ric eval` is asked to score, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ric.data.loose import PICTURE_SUFFIXES
from ric.errors import RicError
from ric.run_record import find_run, read_record

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Outputs:
    """One editor's outputs: where each sample's picture lies.

    Attributes:
        label: What the table calls it.
        folder: The images.
        files: Paths by sample id (an edit run) or by file stem (any folder).
        run: The edit run; None for a plain folder.
    """

    label: str
    folder: Path
    files: dict[str, Path]
    run: Path | None


def find_outputs(
    text: str, runs_dir: Path, resolve: Callable[[str], Path | None] | None = None
) -> Outputs:
    """Read one `Label=RUN or DIR` (or just RUN or DIR) of the command line.

    Args:
        text: What was typed.
        runs_dir: Where numbered runs and `@edit` are looked for.
        resolve: Finds the run that a reference names, such as a resumed run's own `resolve`; None:
            by `find_run` in `runs_dir`.

    Raises:
        RicError: there is nothing there, it is a run of another command, or it holds no images.
    """
    resolve = resolve or partial(find_run, runs_dir=runs_dir)
    label, place = _split_label(text)
    path = resolve(place)
    if path is None and Path(place).name == "images":
        # the images of an edit run are that run, whose model is known
        path = resolve(str(Path(place).parent))
    if path is not None:
        record = read_record(path)
        if record["command"] != "edit":
            raise RicError(
                f"{path} is a run of `ric {record['command']}`; only edits are scored.",
                "Name a run of ric edit, or a folder of images.",
            )
        folder = path / "images"
    else:
        folder = Path(place)
    if not folder.is_dir():
        raise RicError(f"No run and no folder of images at {place!r}.", "See: ric runs ls")
    label = label or (path or folder).resolve().name
    return Outputs(label, folder, _pictures_by_id(folder), path)


def _split_label(text: str) -> tuple[str, str]:
    if Path(text).exists():  # a path may hold a "=" of its own
        return "", text
    label, _, place = text.rpartition("=")
    return label, place


def _pictures_by_id(folder: Path) -> dict[str, Path]:
    """Find a folder's pictures by their names without ending."""
    files: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        # hidden files are pictures that were being written when an edit was stopped
        if file.name.startswith(".") or file.suffix.lower() not in PICTURE_SUFFIXES:
            continue
        if file.stem in files:
            raise RicError(
                f"{folder} holds both {files[file.stem].name} and {file.name}.",
                "Keep one picture of each sample there.",
            )
        files[file.stem] = file
    if not files:
        raise RicError(f"There are no images in {folder}.")
    return files
