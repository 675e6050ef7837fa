"""Photos as DATA: one file, or a folder of files, all edited by one instruction."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ric.data.files_below import files_below
from ric.data.folder import METADATA
from ric.data.loose import MASK_ENDING, PICTURE_SUFFIXES
from ric.data.names import nfc
from ric.data.parquet_rows import find_tables
from ric.errors import RicError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ric.config import EditConfig


@dataclass(frozen=True)
class Photo:
    """A photo to be edited; `id` is unique and names its result."""

    id: str
    path: Path


def find_photos(config: EditConfig, *, need_instruction: bool = True) -> list[Photo]:
    """List the photos that DATA names, a file or a folder without metadata; empty for a dataset.

    `<name>_mask.*` beside a photo `<name>.*` is that photo's mask, never a photo.

    Args:
        config: DATA, the instruction, the limit.
        need_instruction: Whether the editor reads an instruction.

    Raises:
        RicError: There is no instruction, or a folder holds no pictures.
    """
    path = Path(config.data)
    if path.is_file() and _is_picture(path):
        files = [path]
    elif path.is_dir() and not any((path / name).is_file() for name in METADATA):
        if any(path.rglob("*.parquet")):
            return []
        files = sorted(file for file in path.iterdir() if _is_picture(file) and not file.is_dir())
        stems = {nfc(file.stem) for file in files}
        files = [file for file in files if not _is_mask(file, stems)]
        if not files:
            if find_tables(path):
                return []
            raise _no_pictures(path)
    else:
        return []
    if need_instruction and not (config.instruction or "").strip():
        raise RicError(
            f"{path} needs an instruction.",
            f'Say what to do: ric edit {shlex.quote(str(path))} "make it night"',
        )
    return list(_named(files))[: config.limit]


def _no_pictures(folder: Path) -> RicError:
    pictures = (file for file in files_below(folder) if file.is_file() and _is_picture(file))
    below = next(pictures, None)
    if below is None:
        return RicError(f"There are no pictures and no metadata in {folder}.")
    return RicError(
        f"There are no pictures and no metadata in {folder} itself, and subfolders are not read.",
        f'Name one of them: ric edit {shlex.quote(str(below.parent))} "make it night"',
    )


def _is_picture(file: Path) -> bool:
    # ._dog.jpg is what macOS leaves beside dog.jpg on other disks
    return file.suffix.lower() in PICTURE_SUFFIXES and not file.name.startswith(".")


def _is_mask(file: Path, stems: set[str]) -> bool:
    name = nfc(file.stem)
    return name.endswith(MASK_ENDING) and name.removesuffix(MASK_ENDING) in stems


def _named(files: Sequence[Path]) -> Iterator[Photo]:
    """Name each photo by its stem; where two share one, all but the first by their whole name."""
    taken: set[str] = set()
    for file in files:
        name = stem = nfc(file.stem)
        while name in taken:
            name = nfc(file.name) if name == stem else f"{name}_"
        taken.add(name)
        yield Photo(name, file)
