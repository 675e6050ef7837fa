"""The mask of each photo: beside it, one for all, or in a folder of masks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ric.data.files_below import files_below
from ric.data.images import ImageError, open_raw
from ric.data.loose import MASK_ENDING, PICTURE_SUFFIXES
from ric.data.masks import mask_from_image, refuse_useless
from ric.data.names import nfc
from ric.errors import RicError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from PIL.Image import Image

    from ric.config import EditConfig
    from ric.data.masks import Mask


def find_masks(config: EditConfig, photos: Sequence[tuple[Path, str]]) -> dict[Path, Path]:
    """Map photos to their masks' files; a photo without one is not in it.

    Args:
        config: `--mask`: `data` and None are `<name>_mask.*` beside each photo; a file is the mask
            of all; a folder holds `<name>.*` or `<name>_mask.*`, in the photos' own tree.
        photos: Their files, and their places in the tree.

    Raises:
        RicError: There is no such file or folder.
    """
    if config.mask == "none" or config.mask_text is not None:
        return {}
    if config.mask in (None, "data"):
        there = _pictures([*{file.parent: None for file, _ in photos}])
        wanted = {file: (_key(file.with_suffix("")) + MASK_ENDING,) for file, _ in photos}
        return _first_of(wanted, there)
    given = Path(str(config.mask))
    if given.is_file():
        return {file: given for file, _ in photos}
    if not given.is_dir():
        raise RicError(
            f"--mask {config.mask}: there is no such file or folder.",
            "It is data, none, a mask, or a folder of masks named like their photos.",
        )
    originals = {file.resolve() for file, _ in photos}  # which may lie in the same folder
    there = {
        _key(file.relative_to(given).with_suffix("")): file
        for file in sorted(files_below(given), reverse=True)
        if _is_picture(file) and file.resolve() not in originals
    }
    stems = {file: nfc(os.path.splitext(place)[0]) for file, place in photos}
    return _first_of({file: (stem, stem + MASK_ENDING) for file, stem in stems.items()}, there)


def read_mask(source: Path | Image, size: tuple[int, int], *, max_pixels: int) -> Mask:
    """Read a photo's mask, white where to edit, bool (H, W).

    Args:
        source: Its file, or the mask as a picture.
        size: Width and height of the photo, upright.
        max_pixels: As `open_raw`.

    Raises:
        ImageError: It cannot be read, is no mask, has another size, is empty or covers everything.
    """
    image = open_raw(source, max_pixels=max_pixels)
    if image.size != size:
        (width, height), (wide, high) = image.size, size
        name = f" '{source.name}'" if isinstance(source, Path) else ""
        raise ImageError(
            f"The mask{name} is {width}x{height}, and its photo is {wide}x{high} once"
            " upright: make them equal."
        )
    mask = mask_from_image(image)
    refuse_useless(mask)
    return mask


def _pictures(folders: Iterable[Path]) -> dict[str, Path]:
    """Map the pictures of some folders by path without suffix; of two of a name, the first."""
    listed = (file for folder in folders for file in sorted(folder.iterdir(), reverse=True))
    return {_key(file.with_suffix("")): file for file in listed if _is_picture(file)}


def _is_picture(file: Path) -> bool:
    return file.suffix.lower() in PICTURE_SUFFIXES and not file.name.startswith(".")


def _key(path: Path) -> str:
    return nfc(str(path))


def _first_of(wanted: Mapping[Path, tuple[str, ...]], there: dict[str, Path]) -> dict[Path, Path]:
    found = {}
    for file, names in wanted.items():
        mask = next((there[name] for name in names if name in there), None)
        # a photo named like a mask is not its own
        if mask is not None and mask != file:
            found[file] = mask
    return found
