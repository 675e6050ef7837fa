"""Find the pictures that `ric eval` scores, without importing torch."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ric.data.loose import PICTURE_SUFFIXES
from ric.data.names import nfc
from ric.errors import RicError, printable
from ric.runs.record import find_run, read_record

if TYPE_CHECKING:
    from collections.abc import Callable

    from ric.config import Match
    from ric.data.edit_sample import EditSample


@dataclass(frozen=True)
class Outputs:
    """One editor's outputs: where each sample's picture is.

    Attributes:
        label: Its name in the table.
        folder: The images.
        files: Paths by name: a sample's id, its source's file, or that file's stem.
        run: The edit run; None for a plain folder.
        match: What the names are; those of an edit run are always ids.
        doubles: The paths of each name that several pictures share; none of them is in `files`.
    """

    label: str
    folder: Path
    files: dict[str, Path]
    run: Path | None
    match: Match = "id"
    doubles: dict[str, list[Path]] = field(default_factory=dict)

    def name_of(self, sample: EditSample) -> str:
        """Return the name that a sample's picture has here.

        Raises:
            RicError: pictures are named by the source's file, and the source is not a file.
        """
        if self.match == "id":
            return sample.id
        source = sample.pictures.source
        if not isinstance(source, (str, Path)):
            raise RicError(
                f"--match {self.match} goes by the source's file name; those of DATA are in a"
                " table, without names.",
                "Name the outputs by the samples' ids: --match id",
            )
        return nfc(Path(source).name if self.match == "file" else Path(source).stem)


def find_outputs(
    text: str,
    runs_dir: Path,
    resolve: Callable[[str], Path | None] | None = None,
    *,
    match: Match = "id",
) -> Outputs:
    """Read one `Label=RUN or DIR` (or just RUN or DIR) of the command line.

    Args:
        text: What was typed.
        runs_dir: Where numbered runs and `@edit` are looked for.
        resolve: Finds the run that a reference names, such as a resumed run's own `resolve`; None:
            by `find_run` in `runs_dir`.
        match: What names the pictures of a plain folder.

    Raises:
        RicError: there is nothing there, it is a run of another command, or it holds no images.
    """
    resolve = resolve or partial(find_run, runs_dir=runs_dir)
    label, place = _split_label(text)
    path = resolve(place)
    if path is None and Path(place).name == "images":
        # the images of an edit run stand for the run, whose model is known
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
    label = printable(label or (path or folder).resolve().name)
    match = "id" if path else match
    files, doubles = _pictures_by_name(folder, with_ending=match == "file")
    return Outputs(label, folder, files, path, match, doubles)


def _split_label(text: str) -> tuple[str, str]:
    """Split `Label=PLACE` at the first "=" before an existing path; a path may hold "=" too.

    Raises:
        RicError: there is a label without a place.
    """
    if Path(text).exists():
        return "", text
    cuts = [at for at, letter in enumerate(text) if letter == "="]
    there = (at for at in cuts if text[at + 1 :] and Path(text[at + 1 :]).exists())
    cut = next(there, cuts[-1] if cuts else -1)
    label, place = " ".join(text[: max(cut, 0)].split()), text[cut + 1 :]
    if not place.strip():
        raise RicError(f"Nothing follows the label in {text!r}.", 'Such as: "Mine=out/"')
    return label, place


def _pictures_by_name(
    folder: Path, *, with_ending: bool
) -> tuple[dict[str, Path], dict[str, list[Path]]]:
    """Find a folder's pictures by their names, and the names that several share."""
    named = defaultdict[str, list[Path]](list)
    for file in pictures_in(folder):
        named[nfc(file.name if with_ending else file.stem)].append(file)
    single = {name: files[0] for name, files in named.items() if len(files) == 1}
    return single, {name: files for name, files in named.items() if len(files) > 1}


def pictures_in(folder: Path) -> list[Path]:
    """List a folder's pictures by name.

    Raises:
        RicError: it is not a folder, or it holds none.
    """
    # hidden files are pictures that were being written when an edit was stopped
    files = [
        file
        for file in sorted(folder.iterdir() if folder.is_dir() else ())
        if not file.name.startswith(".") and file.suffix.lower() in PICTURE_SUFFIXES
    ]
    if not files:
        reason = f"There are no images in {folder}." if folder.is_dir() else f"No folder {folder}."
        raise RicError(reason, "Name a folder of pictures, such as .png, .jpg or .webp.")
    return files
