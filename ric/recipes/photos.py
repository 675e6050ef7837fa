"""Photos as DATA: one file, or a folder of files, all edited by one instruction."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ric.data.folder import METADATA
from ric.errors import RicError

if TYPE_CHECKING:
    from ric.config import EditConfig

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"})


def find_photos(config: EditConfig) -> list[Path]:
    """List the photos DATA names: one file, or a folder without metadata; empty for a dataset.

    `<name>_mask.*` beside a photo is that photo's mask, never a photo.

    Raises:
        RicError: photos are named without an instruction, or a folder has none.
    """
    path = Path(config.data)
    if path.is_file() and path.suffix.lower() in PICTURES:
        photos = [path]
    elif path.is_dir() and not any((path / name).is_file() for name in METADATA):
        if any(path.rglob("*.parquet")):
            return []
        photos = sorted(file for file in path.iterdir() if file.suffix.lower() in PICTURES)
        photos = [file for file in photos if not file.stem.endswith("_mask")]
        if not photos:
            raise RicError(f"There are no pictures and no metadata in {path}.")
    else:
        return []
    if not (config.instruction or "").strip():
        raise RicError(
            f"{path} needs an instruction.", f'Say what to do: ric edit {path} "make it night"'
        )
    return photos[: config.limit]
