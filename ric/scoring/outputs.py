"""Find the pictures that `ric eval` scores, without importing torch."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ric.data.files_below import files_below
from ric.data.loose import PICTURE_SUFFIXES
from ric.data.magicbrush import id_of_output
from ric.data.names import nfc
from ric.errors import RicError, printable
from ric.runs.record import find_run, read_record

if TYPE_CHECKING:
    from collections.abc import Callable

    from ric.config import EvalConfig, Match, Turns
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

    def found(self, name: str) -> list[Path]:
        """List the pictures that have a name: one, several, or none."""
        if name in self.files:
            return [self.files[name]]
        return self.doubles.get(name, [])

    def told(self, file: Path) -> str:
        """Return a picture's path below the folder."""
        return file.relative_to(self.folder).as_posix()

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
    turns: Turns | None = None,
) -> Outputs:
    """Read one `Label=RUN or DIR` (or just RUN or DIR) of the command line.

    Args:
        text: What was typed.
        runs_dir: Where numbered runs and `@edit` are looked for.
        resolve: Finds the run that a reference names, such as a resumed run's own `resolve`; None:
            by `find_run` in `runs_dir`.
        match: What names the pictures of a plain folder; it is read with its subfolders.
        turns: Also match names of MagicBrush's script, of these turns; None: only the samples' own.

    Raises:
        RicError: there is nothing there, it is a run of another command, or it holds no images.
    """
    resolve = resolve or partial(find_run, runs_dir=runs_dir)
    label, place = _split_label(text)
    if label and printable(label) != label:
        raise RicError(f"The label {printable(label)!r} is not UTF-8.", "Write it in UTF-8.")
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
    names = partial(_names_of, match=match, turns=turns)
    files, doubles = _pictures_by_name(folder, names)
    return Outputs(label, folder, files, path, match, doubles)


def turns_of(config: EvalConfig) -> Turns | None:
    """Return the turns that MagicBrush's names of outputs tell apart; None outside its protocol."""
    return config.turns if config.protocol == "magicbrush" else None


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


def _names_of(file: Path, match: Match, turns: Turns | None) -> list[str]:
    """List the names under which a picture's file is known."""
    names = [nfc(file.name if match == "file" else file.stem)]
    if turns is not None and match == "id" and (turn := id_of_output(names[0], turns)):
        names.append(turn)
    return names


def _pictures_by_name(
    folder: Path, names_of: Callable[[Path], list[str]]
) -> tuple[dict[str, Path], dict[str, list[Path]]]:
    """Find a folder's pictures by their names, and the names that several share.

    The only picture of a subfolder also has the subfolder's name, unless a file is called so.
    """
    named, inside = defaultdict[str, list[Path]](list), defaultdict[Path, list[Path]](list)
    for file in pictures_in(folder):
        inside[file.parent].append(file)
        for name in names_of(file):
            named[name].append(file)
    for place, files in inside.items():
        if place != folder and len(files) == 1 and nfc(place.name) not in named:
            named[nfc(place.name)] = files
    single = {name: files[0] for name, files in named.items() if len(files) == 1}
    return single, {name: files for name, files in named.items() if len(files) > 1}


def pictures_in(folder: Path) -> list[Path]:
    """List the pictures of a folder and of its subfolders by their paths.

    Raises:
        RicError: it is not a folder, or it holds none.
    """
    # hidden files are pictures that were being written when an edit was stopped
    files = [
        file
        for file in sorted(files_below(folder))
        if file.suffix.lower() in PICTURE_SUFFIXES
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    ]
    if not files:
        reason = f"There are no images in {folder}." if folder.is_dir() else f"No folder {folder}."
        raise RicError(reason, "Name a folder of pictures, such as .png, .jpg or .webp.")
    return files
