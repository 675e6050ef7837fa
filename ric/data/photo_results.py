"""Names and places for the edits of photos; nothing is overwritten."""

from __future__ import annotations

import os
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from ric.data.open_file import as_local, is_url
from ric.data.photograph import FORMATS, SUFFIXES
from ric.errors import RicError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ric.config import EditConfig, PhotoFormat


def out_folder(config: EditConfig) -> Path | None:
    """Return the folder of `--out`; None where it names none, or an address."""
    return None if config.out is None or is_url(config.out) else Path(config.out)


def out_address(config: EditConfig) -> str | None:
    """Return the address of `--out`; None where it names none, or a folder.

    Raises:
        RicError: It is chained, or one that no picture can be written to.
    """
    if config.out is None or not is_url(config.out):
        return None
    if as_local(config.out) != config.out:
        raise RicError(
            f"--out {config.out} is a folder of this machine.",
            f"Name it without the scheme: --out {as_local(config.out)}",
        )
    if config.out.startswith(("http://", "https://")):
        raise RicError(
            f"--out {config.out}: pictures are not written to web servers.",
            "Name a folder, or a place in an object store, such as s3://bucket/edited.",
        )
    return config.out


def result_format(held: str, wanted: PhotoFormat | None) -> str:
    """Return the format of an edit: `--format`, else its photo's; PNG where that is not written."""
    if wanted is not None:
        return FORMATS[wanted]
    return held if held in SUFFIXES else "PNG"


def result_name(name: str, form: str, wanted: PhotoFormat | None) -> str:
    """Return the name of an edit of the photo `name` in a format, a key of `SUFFIXES`.

    With `--format` the suffix is replaced. Without it, it is kept, and a right one is added to that
    of a mislabelled photo, or of one in a format that is not written.
    """
    if PurePath(name).suffix.lower() in SUFFIXES[form]:
        return name
    suffix = SUFFIXES[form][0]
    return str(PurePath(name).with_suffix(suffix)) if wanted else name + suffix


def refuse_unfit_out(
    config: EditConfig, inputs: Iterable[Path], photos: Sequence[tuple[Path, str]]
) -> None:
    """Refuse `--out` where results would become inputs, or overwrite photos or each other.

    Args:
        config: `--out`, `--format`.
        inputs: What DATA names.
        photos: Their files, and their places in the tree.

    Raises:
        RicError: `--out` is such a folder, or cannot be written to.
    """
    out = Path(str(config.out))
    for folder in (path for path in inputs if path.is_dir()):
        if out.resolve().is_relative_to(folder.resolve()):
            raise RicError(
                f"--out {out} lies in {folder}, which is edited: results would become photos.",
                "Name a folder beside it.",
            )
    originals = {file.resolve() for file, _ in photos}
    taken: dict[str, Path] = {}
    for file, place in photos:
        name = planned_name(place, config.format)
        if name in taken:
            raise RicError(
                f"'{taken[name]}' and '{file}' would both become {out / name}.",
                "Edit them into two folders, or omit --format or --out.",
            )
        if (out / name).resolve() in originals:
            raise RicError(
                f"--out {out} would overwrite the photo '{file}'.", "Name another folder."
            )
        taken[name] = file
    for below in sorted({out, *((out / name).parent for name in taken)}):
        _refuse_unwritable(below, out)


def refuse_existing(config: EditConfig, names: Iterable[str]) -> None:
    """Refuse a folder `--out` that holds files of the results' names already.

    Args:
        config: `--out`, `--format`.
        names: The photos' places in the tree.

    Raises:
        RicError: It does; names the first.
    """
    out = Path(str(config.out))
    planned = (planned_name(name, config.format) for name in names)
    refuse_taken(str(out), [name for name in planned if (out / name).exists()])


def refuse_taken(out: str, there: Sequence[str]) -> None:
    """Refuse an `--out` that holds some files of the results' names.

    Args:
        out: Its folder or address.
        there: The names of those files in it.

    Raises:
        RicError: There are some; names the first.
    """
    if there:
        raise RicError(
            f"{len(there)} of the results' files are in {out} already, such as {out}/{there[0]}.",
            "Name another folder, or the run that began them: --run DIR. --overwrite replaces"
            " them.",
        )


def planned_name(place: str, wanted: PhotoFormat | None) -> str:
    """Return a result's name as far as the photo's own name tells."""
    return result_name(place, FORMATS[wanted], wanted) if wanted else place


def _refuse_unwritable(place: Path, out: Path) -> None:
    there = place.resolve()
    while not os.path.lexists(there):
        there = there.parent
    if not there.is_dir():
        raise RicError(f"--out {out}: '{there}' is not a folder.", "Name another folder.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise RicError(f"--out {out}: '{there}' cannot be written to.", "Name another folder.")
