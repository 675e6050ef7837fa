"""Loose pictures, paired by name: `dog.png`, its mask `dog_mask.png`, its edit `out/dog.jpg`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ric.errors import RicError

PICTURE_SUFFIXES = frozenset(
    {
        ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".tif", ".tiff", ".gif", ".bmp",
        ".avif", ".jp2", ".j2k", ".ppm", ".pgm", ".pnm", ".tga", ".dib", ".heic", ".heif",
    }
)  # fmt: skip

MASK_ENDING = "_mask"


@dataclass(frozen=True)
class Loose:
    """One photo and what goes with it."""

    name: str
    source: Path
    target: Path | None = None
    mask: Path | None = None


def pair_loose(
    source: Path, target: Path | None = None, mask: Path | None = None
) -> tuple[list[Loose], list[Path]]:
    """Pair the pictures of up to three folders by their names without extension.

    `<name>_mask.*` beside the photo `<name>.*` is that photo's mask and never a photo; without such
    a photo it is a photo itself (`gas_mask.jpg`). A mask from the folder of masks, named as the
    photo or with `_mask` added, goes before one beside the photo.

    Args:
        source: A folder of photos.
        target: A folder of their edits.
        mask: A folder of their masks.

    Returns:
        The photos by name, and every file that goes with none of them.

    Raises:
        RicError: A folder is missing, holds no picture, or two pictures of it share a name.
    """
    photos, unmatched = _by_name(source)
    beside = {
        name: path
        for name, path in photos.items()
        if name.endswith(MASK_ENDING) and name.removesuffix(MASK_ENDING) in photos
    }
    photos = {name: path for name, path in photos.items() if name not in beside}
    targets, rest = _by_name(target) if target else ({}, [])
    unmatched += rest
    masks, rest = _by_name(mask) if mask else ({}, [])
    unmatched += rest
    pairs = []
    for name, path in photos.items():
        known = (masks.pop(name, None), masks.pop(name + MASK_ENDING, None))
        own = beside.pop(name + MASK_ENDING, None)
        chosen = next((found for found in (*known, own) if found is not None), None)
        unmatched += [found for found in (*known, own) if found not in (None, chosen)]
        pairs.append(Loose(name, path, targets.pop(name, None), chosen))
    return pairs, sorted([*unmatched, *targets.values(), *masks.values()])


def _by_name(folder: Path) -> tuple[dict[str, Path], list[Path]]:
    """Sort a folder's files into pictures by name and the rest; hidden files are passed over."""
    pictures: dict[str, Path] = {}
    rest: list[Path] = []
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
    except OSError as error:
        raise RicError(f"'{folder}' cannot be read: {error.strerror}.") from None
    for path in (folder / name for name in names if not name.startswith(".")):
        if path.suffix.lower() not in PICTURE_SUFFIXES:
            rest.append(path)
        elif path.stem in pictures:
            raise RicError(
                f"'{path}' and '{pictures[path.stem].name}' have the same name.",
                "Pictures are paired by name: rename one of them.",
            )
        else:
            pictures[path.stem] = path
    if not pictures:
        raise RicError(f"No picture in '{folder}'.")
    return pictures, rest
