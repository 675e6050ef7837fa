"""The files of a sample's pictures, as rows that others may read show them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ric.addresses import redacted
from ric.data.benchmarks.table import folder_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ric.config import EvalConfig
    from ric.data.images import PictureSource
    from ric.data.sample import EditSample


def shown_file(place: PictureSource | None, *folders: str | Path | None) -> str | None:
    """Return where a picture is, without what lies above the folders that the command names.

    Relative paths stay as they are given; of an absolute one the named folder and what is below it
    are left, or its last part alone.

    Args:
        place: A path or an address; None is returned for a picture that is no file.
        folders: Those that the command names.
    """
    if not isinstance(place, (str, Path)):
        return None
    if "://" in str(place):
        return str(redacted(str(place)))
    path = Path(place)
    if not path.is_absolute():
        return path.as_posix()
    above = [Path(folder) for folder in folders if folder]
    root = next((folder for folder in above if path.is_relative_to(folder)), path.parent)
    inside = path.relative_to(root)
    return (Path(root.name) / inside if root in above else inside).as_posix()


def files_of(sample: EditSample, config: EvalConfig) -> dict[str, str]:
    """Return the files of a sample's own pictures; the source is what was edited, at first."""
    about = sample.pictures
    folders = (config.target, config.mask, config.source, folder_of(config.data))
    places = {"source": about.source, "target": about.target, "mask": about.mask}
    shown = {name: shown_file(place, *folders) for name, place in places.items()}
    return with_edited({name: place for name, place in shown.items() if place}, shown["source"])


def with_edited(files: Mapping[str, str], edited: str | None) -> dict[str, str]:
    """Return the files with another edited picture; None: one that is no file."""
    others = {name: place for name, place in files.items() if name != "edited"}
    return {"edited": edited, **others} if edited else others
