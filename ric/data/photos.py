"""Photos as DATA: files, and folders of files, all edited by one instruction."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from ric.config import EditConfig
from ric.data.files_below import files_below
from ric.data.folder import METADATA
from ric.data.loose import MASK_ENDING, PICTURE_SUFFIXES
from ric.data.names import nfc
from ric.data.parquet_rows import find_tables
from ric.data.photo_instructions import Oddities, edits_of, instructions_of
from ric.data.photo_masks import find_masks
from ric.data.photo_results import out_address, refuse_unfit_out
from ric.data.shards import find_shards
from ric.errors import RicError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# what cameras call their raw files; Pillow would read the small preview in some of them
RAW_SUFFIXES = frozenset(
    {".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".pef", ".srw"}
)
# settings of `ric edit` that say where photos are and how their results are written
_OF_PHOTOS = {
    "also": "Several inputs go",
    "more_instructions": "--instruction goes",
    **{
        name: f"--{name} goes"
        for name in ("recursive", "out", "format", "quality", "instructions", "seeds")
    },
}


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo to be edited, once.

    Attributes:
        id: Unique; names its result in the run.
        path: Its file.
        name: Its place in the tree that is edited, such as `trips/dog.jpg`.
        mask: Its mask's file; None where it has none.
        instruction: Its own; None: the command's.
        seed: Its own; None: the command's.
        suffix: What is added to the name of this edit of the photo; "" where there is but one.
        alone: Its id where it has a single edit, by which a describe run names it.
    """

    id: str
    path: Path
    name: str
    mask: Path | None = None
    instruction: str | None = None
    seed: int | None = None
    suffix: str = ""
    alone: str = ""

    @property
    def result(self) -> str:
        """Its edit's place in the tree of results, before the suffix follows its format."""
        stem, ending = os.path.splitext(self.name)
        return f"{stem}{self.suffix}{ending}"


def find_photos(
    config: EditConfig, *, need_instruction: bool = True, odd: Oddities | None = None
) -> list[Photo]:
    """List the edits of photos that DATA asks for; empty for a dataset.

    DATA names photos, and folders of them without metadata. A photo with several instructions or
    seeds stands there once for each, one after the other.

    `<name>_mask.*` beside a photo `<name>.*` is that photo's mask, never a photo. A raw file beside
    a picture of the same name is what the picture was made from, and skipped.

    Args:
        config: DATA, the instruction, the limit, masks, where the results go.
        need_instruction: Whether the editor reads an instruction.
        odd: Hears of rows of `--instructions` that cannot be used.

    Raises:
        RicError: There is no instruction; a folder holds no pictures; an input or a mask is
            missing; results would overwrite photos or each other; or a setting of photos is given
            with a dataset, or masks are asked for that it does not have.
    """
    files = _files(config)
    if not files:
        _refuse_settings_of_photos(config)
        return []
    _refuse_missing_instruction(config, need_instruction)
    photos = list(_named(_without_masks_and_raws(files, config)))
    told = instructions_of(photos, config, Oddities() if odd is None else odd)
    listed = [photo.id for photo in photos]
    photos = [photo for photo in photos if photo.id in told][: config.limit]
    masks = find_masks(config, [(photo.path, photo.name) for photo in photos])
    if not masks:
        _refuse_what_needs_masks(config)
    photos = [replace(photo, mask=masks.get(photo.path)) for photo in photos]
    photos = list(edits_of(photos, told, config, listed))
    if out_address(config) is None and config.out is not None:
        inputs = [Path(config.data), *map(Path, config.also)]
        refuse_unfit_out(config, inputs, [(photo.path, photo.result) for photo in photos])
    return photos


def _files(config: EditConfig) -> list[tuple[Path, str]]:
    """List pictures with their places in the tree; empty for a dataset."""
    inputs = [Path(config.data), *map(Path, config.also)]
    found: list[tuple[Path, str]] = []
    for path in inputs:
        if path.is_file() and _is_picture(path):
            found.append((path, path.name))
        elif path.is_dir() and not _is_dataset(path, recursive=config.recursive):
            below = [(file, file.relative_to(path)) for file in _pictures_in(path, config)]
            # several folders stay apart: each keeps its own name
            top = PurePath(path.resolve().name) if config.also else PurePath()
            found += [(file, str(top / place)) for file, place in below]
        elif _is_picture(path) and not os.path.lexists(path) and "://" not in str(config.data):
            raise RicError(f"There is no photo '{path}'.")
        elif config.also:
            there = "is neither a photo nor a folder of photos" if path.exists() else "is not there"
            raise RicError(
                f"'{path}' {there}.",
                "Several inputs are photos and folders of photos; a dataset is edited alone.",
            )
    return list(dict.fromkeys(found))


def _is_dataset(folder: Path, *, recursive: bool) -> bool:
    if any((folder / name).is_file() for name in METADATA):
        return True
    return not recursive and any(folder.rglob("*.parquet"))


def _pictures_in(folder: Path, config: EditConfig) -> list[Path]:
    """List a folder's pictures but those of `--mask DIR`; none for one of tables or shards."""
    named = config.mask not in (None, "none", "data")
    masks = Path(str(config.mask)).resolve() if named else None
    if masks and folder.resolve().is_relative_to(masks):
        masks = None  # masks lie beside the photos
    inside = files_below(folder) if config.recursive else folder.iterdir()
    files = [
        file
        for file in inside
        if _is_picture(file)
        and not file.is_dir()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
        and not (masks and file.resolve().is_relative_to(masks))
    ]
    if not files and not find_tables(folder) and not find_shards(folder):
        raise _no_pictures(folder, config)
    return sorted(files)


def _no_pictures(folder: Path, config: EditConfig) -> RicError:
    pictures = (file for file in files_below(folder) if file.is_file() and _is_picture(file))
    below = None if config.recursive else next(pictures, None)
    if below is None:
        return RicError(f"There are no pictures and no metadata in {folder}.")
    return RicError(
        f"There are no pictures and no metadata in {folder} itself, but in its subfolders.",
        f"Edit them too: ric edit {shlex.quote(str(folder))} --recursive, or name one of them:"
        f" {shlex.quote(str(below.parent))}",
    )


def _refuse_settings_of_photos(config: EditConfig) -> None:
    """Refuse settings that mean nothing for a dataset (raises RicError)."""
    for name, said in _OF_PHOTOS.items():
        if name == "out" and out_address(config):
            continue
        if getattr(config, name) != getattr(EditConfig, name):
            raise RicError(
                f"{said} with photos, and {config.data!r} is a dataset or is not there.",
                "A dataset has an instruction a row; its edits are PNG files in the run, named by"
                " their ids.",
            )
    if config.mask not in (None, "none", "data"):
        raise RicError(
            f"--mask {config.mask} goes with photos, and {config.data!r} is a dataset or is not"
            " there.",
            "Take the dataset's own masks, --mask data, or none.",
        )
    is_masked = config.mask == "data" or config.mask_text is not None
    if not is_masked and (config.crop_to_mask or config.feather):
        flag = "--crop-to-mask" if config.crop_to_mask else "--feather"
        raise RicError(
            f"{flag} needs masks, and a dataset's are not used unless that is asked for.",
            'Add --mask data, or --mask-text "the dress".',
        )


def _refuse_what_needs_masks(config: EditConfig) -> None:
    """Refuse settings of masks where no photo has one (raises RicError)."""
    if config.mask_text is None and (config.crop_to_mask or config.feather):
        flag = "--crop-to-mask" if config.crop_to_mask else "--feather"
        raise RicError(
            f"{flag} needs masks, and no photo has one.",
            f'Put NAME{MASK_ENDING}.png beside it, or add --mask FILE or --mask-text "the dress".',
        )


def _refuse_missing_instruction(config: EditConfig, need_instruction: bool) -> None:
    told = (config.instruction or "").strip()
    is_one_word = len(told.split()) == 1
    if is_one_word and Path(told).suffix.lower() in PICTURE_SUFFIXES | RAW_SUFFIXES:
        raise RicError(f"There is no file '{told}', and it does not look like an instruction.")
    is_told = told or config.instructions or any(map(str.strip, config.more_instructions))
    if need_instruction and not is_told:
        place = shlex.quote(config.data)
        raise RicError(
            f"{config.data} needs an instruction.",
            f'Say what to do: ric edit {place} "make it night"',
        )


def _is_picture(file: Path) -> bool:
    # ._dog.jpg is what macOS leaves beside dog.jpg on other disks
    known = PICTURE_SUFFIXES | RAW_SUFFIXES
    return file.suffix.lower() in known and not file.name.startswith(".")


def is_raw(file: Path) -> bool:
    """Tell by its name whether a file is what a camera's sensor saw, not yet a picture."""
    return file.suffix.lower() in RAW_SUFFIXES


def _without_masks_and_raws(
    files: Iterable[tuple[Path, str]], config: EditConfig
) -> Iterator[tuple[Path, str]]:
    """Drop the masks of other photos, and raw files beside their pictures."""
    files = list(files)
    pictures = {_stem(file) for file, _ in files if not is_raw(file)}
    for file, name in files:
        folder, stem = _stem(file)
        whose = (folder, stem.removesuffix(MASK_ENDING))
        is_mask = stem.endswith(MASK_ENDING) and whose in pictures
        if not is_mask and not (is_raw(file) and (folder, stem) in pictures):
            yield file, name


def _stem(file: Path) -> tuple[Path, str]:
    return file.parent, nfc(file.stem)


def _named(files: Iterable[tuple[Path, str]]) -> Iterator[Photo]:
    """Name each photo by its place without suffix; where two share one, later ones with theirs."""
    taken: set[str] = set()
    for file, place in files:
        whole = nfc(place)
        name = stem = os.path.splitext(whole)[0]
        while name in taken:
            name = whole if name == stem else f"{name}_"
        taken.add(name)
        yield Photo(name, file, place)
