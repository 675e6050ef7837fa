"""Several edits of each photo: instructions from the command line and from files, and seeds.

A photo's edits are its instructions times the seeds. One alone is called as its photo; of several,
each name also has its instruction, `dog_make-it-night`, and with several seeds the seed,
`dog_make-it-night_seed1`.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import PurePath
from typing import TYPE_CHECKING

from ric.data.loose import PICTURE_SUFFIXES
from ric.data.names import nfc
from ric.data.text_tables import csv_columns, csv_rows, in_words, text_lines
from ric.errors import RicError, SampleError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from ric.config import EditConfig
    from ric.data.photos import Photo

LONGEST_NAME = 40  # letters of an instruction in the name of a result
MOST_SEED = 2**63 - 1


@dataclass
class Oddities:
    """Problems with photos or their instructions that do not stop the run.

    Attributes:
        failures: Rows of `--instructions` that ask for nothing that can be made.
        notes: Lines to be shown.
    """

    failures: list[SampleError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def instructions_of(
    photos: Sequence[Photo], config: EditConfig, odd: Oddities
) -> dict[str, tuple[str, ...]]:
    """List each photo's instructions by its id; those without a row of a file are left out.

    Args:
        photos: Each once.
        config: The instruction and further ones, the file of `--instructions`.
        odd: Hears of rows that cannot be used, and of photos that are left out.

    Raises:
        RicError: the file cannot be read, is a picture, or its rows name no photo at all.
    """
    named, general = _of_file(photos, config, odd)
    typed = [text for text in (config.instruction, *config.more_instructions) if text]
    for_all = tuple(dict.fromkeys([*map(str.strip, typed), *general]))
    told = {
        photo.id: tuple(dict.fromkeys([*for_all, *named.get(photo.id, ())])) for photo in photos
    }
    if not config.instructions:
        return told
    told = {name: instructions for name, instructions in told.items() if instructions}
    if left_out := len(photos) - len(told):
        odd.notes.append(
            f"{left_out} of {len(photos)} photos have no row in {config.instructions}, and are"
            " left out"
        )
    return told


def edits_of(
    photos: Sequence[Photo],
    told: Mapping[str, tuple[str, ...]],
    config: EditConfig,
    taken: Collection[str],
) -> Iterator[Photo]:
    """Yield every edit of every photo, each with its own id.

    Args:
        photos: Each once.
        told: Their instructions, by id.
        config: `--seeds`.
        taken: The ids of these and further photos, which no edit of several may have.

    Raises:
        RicError: `--seeds` cannot be read.
    """
    seeds = parse_seeds(config.seeds)
    taken = set(taken)
    for photo in photos:
        for suffix, instruction, seed in _variants(told[photo.id], seeds):
            name = photo.id + suffix
            while suffix and name in taken:
                name += "_"
            taken.add(name)
            yield replace(
                photo,
                id=name,
                instruction=instruction,
                seed=seed,
                suffix=suffix,
                alone=photo.id,
            )


def parse_seeds(text: str | None) -> tuple[int | None, ...]:
    """Read `0,1,2`; None, the command's own seed, where nothing is given.

    Raises:
        RicError: It is no list of whole numbers of 0 or more, or one stands there twice.
    """
    if text is None:
        return (None,)
    words = [word.strip() for word in text.split(",")]
    seeds = tuple(int(word) for word in words if re.fullmatch("[0-9]{1,19}", word))
    if len(seeds) != len(words) or max(seeds) > MOST_SEED:
        raise RicError(
            f"--seeds {text}: it is not a list of whole numbers.", "Write them as: --seeds 0,1,2"
        )
    if len(set(seeds)) != len(seeds):
        raise RicError(f"--seeds {text} names a seed twice.", "Name each once.")
    return seeds


@lru_cache(maxsize=1024)  # most photos have the same instructions
def _variants(
    instructions: tuple[str, ...], seeds: tuple[int | None, ...]
) -> list[tuple[str, str | None, int | None]]:
    """List suffix, instruction and seed of each edit of a photo."""
    words = [_in_a_name(text) for text in instructions]
    shared = Counter(words)
    several = len(instructions) > 1
    found = []
    for text, word in zip(instructions or (None,), words or ("",), strict=True):
        if text is not None and (shared[word] > 1 or not word):
            digest = hashlib.sha256(text.encode(errors="replace")).hexdigest()[:6]
            word = f"{word}-{digest}".lstrip("-")
        for seed in seeds:
            suffix = f"_{word}" if several else ""
            suffix += f"_seed{seed}" if len(seeds) > 1 else ""
            found.append((suffix, text, seed))
    return found


def _in_a_name(instruction: str) -> str:
    """Write an instruction as a part of a file's name; empty if it has no Latin letters."""
    plain = unicodedata.normalize("NFKD", instruction.lower()).encode("ascii", "ignore").decode()
    return re.sub("[^a-z0-9]+", "-", plain).strip("-")[:LONGEST_NAME].strip("-")


def _of_file(
    photos: Sequence[Photo], config: EditConfig, odd: Oddities
) -> tuple[dict[str, list[str]], list[str]]:
    """Read `--instructions`: by the ids of photos, and for all of them."""
    if config.instructions is None:
        return {}, []
    suffix = PurePath(config.instructions).suffix.lower()
    if suffix in PICTURE_SUFFIXES:
        raise RicError(
            f"--instructions {config.instructions} is a picture, not a file of instructions.",
            "--instructions is a txt or csv file; a text that is typed is --instruction TEXT.",
        )
    if suffix != ".csv":
        lines = [line for line in text_lines(config.instructions) if line]
        if not lines:
            raise RicError(f"'{config.instructions}' holds no instruction.", "Write one a line.")
        return {}, lines
    columns = csv_columns(config.instructions)
    if not {"file", "instruction"} <= set(columns):
        raise RicError(
            f"'{config.instructions}' has the columns {in_words(columns)}.",
            "It needs 'file' and 'instruction'; several rows may name one photo.",
        )
    found: dict[str, list[str]] = {}
    ids, faults = _ids_by_place(photos), []
    for number, row in csv_rows(config.instructions):
        where = f"{PurePath(config.instructions).name}:{number}"
        file, text = ("", row) if isinstance(row, str) else (_cell(row, "file"), None)
        name = ids.get(nfc(file.replace("\\", "/")))
        if text is None and not name:
            text = f"It names '{file}', which is not among the photos, or there are several."
        elif text is None and not _cell(row, "instruction"):
            text = f"It has no instruction for '{file}'."
        if text is not None:
            faults.append(SampleError(where, "texts", str(text)))
        else:
            found.setdefault(str(name), []).append(_cell(row, "instruction"))
    if not found and photos:
        reason = f": {faults[0].sample_id}: {faults[0].reason}" if faults else "."
        raise RicError(
            f"No row of '{config.instructions}' can be used{reason}",
            "In the column 'file' write the photos' names, as in trips/dog.jpg.",
        )
    odd.failures += faults
    return found, []


def _cell(row: object, column: str) -> str:
    value = row.get(column) if isinstance(row, dict) else None
    return str(value or "").strip()


def _ids_by_place(photos: Sequence[Photo]) -> dict[str, str]:
    """Map places in the tree, paths, and names that only one photo has, to ids."""
    alone = Counter(PurePath(photo.name).name for photo in photos)
    ids: dict[str, str] = {}
    for photo in photos:
        name = PurePath(photo.name).name
        if alone[name] == 1:
            ids[nfc(name)] = photo.id
    for photo in photos:
        ids |= {nfc(str(photo.path)): photo.id, nfc(photo.name): photo.id}
    return ids
