"""Loose pictures, paired by name: `dog.png`, its mask `dog_mask.png`, its edit `out/dog.jpg`."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from ric.data.columns import TEXTS
from ric.data.magicbrush import captions_of
from ric.data.names import nfc, told_apart
from ric.data.text_tables import csv_columns, csv_rows, in_words
from ric.errors import RicError, SampleError

if TYPE_CHECKING:
    from collections.abc import Callable

PICTURE_SUFFIXES = frozenset(
    {
        ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".tif", ".tiff", ".gif", ".bmp",
        ".avif", ".jp2", ".j2k", ".ppm", ".pgm", ".pnm", ".tga", ".dib", ".heic", ".heif",
        ".jxl",
    }
)  # fmt: skip

MASK_ENDING = "_mask"


@dataclass(frozen=True)
class Loose:
    """One photo with its edit and its mask.

    Attributes:
        doubles: Pictures of one folder that share the name, so that the pairing is ambiguous.
    """

    name: str
    source: Path
    target: Path | None = None
    mask: Path | None = None
    doubles: tuple[Path, ...] = ()

    def refuse_doubles(self) -> None:
        """Raise SampleError where several pictures share the name."""
        if self.doubles:
            named = " and ".join(told_apart(self.doubles))
            raise SampleError(
                self.name,
                "source",
                f"{named} share a name, and pictures are paired by name: rename one.",
            )


def pair_loose(
    source: Path, target: Path | None = None, mask: Path | None = None
) -> tuple[list[Loose], list[Path]]:
    """Pair the pictures of up to three folders by their names without extension.

    `<name>_mask.*` beside the photo `<name>.*` is that photo's mask and never a photo; without such
    a photo it is a photo itself (`gas_mask.jpg`). A mask from the folder of masks, named as the
    photo or with `_mask` added, takes precedence over one beside the photo.

    Args:
        source: A folder of photos.
        target: A folder of their edits.
        mask: A folder of their masks.

    Returns:
        The photos in order of their names, and every file that matches none of them.

    Raises:
        RicError: A folder is missing, or holds no picture.
    """
    doubles: dict[Path, tuple[Path, ...]] = {}
    photos, unmatched = _by_name(source, doubles)
    beside = {
        name: path
        for name, path in photos.items()
        if name.endswith(MASK_ENDING) and name.removesuffix(MASK_ENDING) in photos
    }
    photos = {name: path for name, path in photos.items() if name not in beside}
    targets, rest = _by_name(target, doubles) if target else ({}, [])
    unmatched += rest
    masks, rest = _by_name(mask, doubles) if mask else ({}, [])
    unmatched += rest
    pairs = []
    for name, path in photos.items():
        known = (masks.pop(name, None), masks.pop(name + MASK_ENDING, None))
        own = beside.pop(name + MASK_ENDING, None)
        chosen = next((found for found in (*known, own) if found is not None), None)
        unmatched += [found for found in (*known, own) if found not in (None, chosen)]
        after = targets.pop(name, None)
        doubled = (file for one in (path, after, chosen) if one for file in doubles.get(one, ()))
        pairs.append(Loose(name, path, after, chosen, tuple(doubled)))
    left = [*unmatched, *targets.values(), *masks.values()]
    return pairs, sorted(file for one in left for file in doubles.get(one, (one,)))


def read_texts(path: Path, note: Callable[[str], None]) -> dict[str, dict[str, str]]:
    """Read a CSV of texts as photo name -> text column -> value, without empty cells.

    Args:
        path: The CSV, with a column `id` or `file` and at least one of our text columns; or
            MagicBrush's JSON of captions, which become `target_text`.
        note: Called with one line that names the ignored columns, if any.

    Raises:
        RicError: It cannot be read, lacks those columns, or has two rows for one photo.
    """
    if path.suffix.lower() == ".json":
        return {name: {"target_text": text} for name, text in captions_of(path).items()}
    columns = csv_columns(path)
    key = next((column for column in ("id", "file") if column in columns), None)
    known = [column for column in columns if column in TEXTS]
    if key is None or not known:
        raise RicError(
            f"The texts '{path}' have the columns {in_words(columns)}.",
            f"They need 'id' or 'file', and one or more of: {', '.join(TEXTS)}."
            + _nearest([column for column in columns if column not in (*TEXTS, "id", "file")]),
        )
    passed_over = [column for column in columns if column not in (*TEXTS, "id", "file")]
    if passed_over:
        unused = f"Columns of '{path}' that are not used: {', '.join(passed_over)}."
        note(unused + _nearest(passed_over))
    rows = []
    for _, row in csv_rows(path):
        if isinstance(row, str):
            raise RicError(f"The texts '{path}' cannot be used. {row}")
        rows.append(row)
    # a name may hold dots, so only a file's own extension is dropped
    names = [row[key] or "" if key == "id" else Path(row[key] or "").stem for row in rows]
    names = [nfc(name) for name in names]
    twice = next((name for name, count in Counter(filter(None, names)).items() if count > 1), None)
    if twice is not None:
        raise RicError(f"The texts '{path}' have two rows for {twice!r}.", "Keep one of them.")
    return {
        name: {column: row[column] for column in known if row[column]}
        for name, row in zip(names, rows, strict=True)
        if name
    }


def _nearest(columns: list[str]) -> str:
    """Return a question for each column that looks like one of ours, in one text."""
    names = (*TEXTS, "id", "file")
    near = [(one, get_close_matches(one.lower(), names, n=1, cutoff=0.7)) for one in columns]
    return "".join(f" Did you mean {found[0]} by {one!r}?" for one, found in near if found)


def _by_name(
    folder: Path, doubles: dict[Path, tuple[Path, ...]]
) -> tuple[dict[str, Path], list[Path]]:
    """Split a folder's files into pictures by name and the rest; hidden files are skipped.

    A dead link is sorted by its name; the error comes when it is opened. Of pictures that share a
    name the first is returned, and `doubles` maps it to all of them.
    """
    pictures: dict[str, Path] = {}
    rest: list[Path] = []
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if not entry.is_dir())
    except OSError as error:
        raise RicError(f"'{folder}' cannot be read: {error.strerror}.") from None
    for path in (folder / name for name in names if not name.startswith(".")):
        name = nfc(path.stem)
        if path.suffix.lower() not in PICTURE_SUFFIXES:
            rest.append(path)
        elif name in pictures:
            first = pictures[name]
            doubles[first] = (*doubles.get(first, (first,)), path)
        else:
            pictures[name] = path
    if not pictures:
        raise RicError(f"No picture in '{folder}'.")
    return pictures, rest
