"""From rows of any data set to samples: the columns' meaning and their allowed values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from ric.data.edit_sample import EditSample, MaskKind, Pictures
from ric.data.images import MAX_PIXELS
from ric.data.list_cells import ListColumn, column_of, list_columns, picked_rows
from ric.data.names import nfc
from ric.errors import RicError, SampleError, printable
from ric.plain_line import is_plain_line
from ric.splits import own_split

Row = dict[str, Any]
# Each pass over the rows makes a fresh rule, so a rule may keep a count.
IdRule = Callable[[], Callable[[Row], str | None]]
Locate = Callable[[Any], str | bytes | None]

PICTURES = ("source", "target", "mask", "context_mask")
TEXTS = (
    "instruction", "region_text", "scene_text", "source_text", "target_text", "editing_type",
    "split", "group_id",
)  # fmt: skip
FIELDS = ("id", *PICTURES, *TEXTS)

_LONGEST_ID = 200  # bytes; a file name may have 255, and outputs add to the id


@dataclass(frozen=True, kw_only=True)
class Columns:
    """One data set's columns.

    Args:
        names: Our field -> their column, for the fields they have.
        mask_kind: How their masks mark the region to edit.
        id_rule: Makes the ids where no single column holds them.
        reads: The columns that `id_rule` reads besides.
        cells: Turns a row's values into those that are meant; gets the name under which the row may
            fail. Raises SampleError.
        split: The split of every row that names none.
    """

    names: dict[str, str]
    mask_kind: MaskKind = "image"
    id_rule: IdRule | None = None
    reads: tuple[str, ...] = ()
    cells: Callable[[Row, str], Row] | None = None
    split: str | None = None

    @cached_property
    def lists(self) -> list[ListColumn]:
        """Those whose cells are lists, of which each sample gets one item."""
        return list_columns(self.names)


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """The caller's requirements of every sample, and the seed of `[random]` in `--columns`."""

    max_pixels: int = MAX_PIXELS
    ignore_signature: bool = False
    need_instruction: bool = True
    described_in: str = field(default="metadata.jsonl")
    seed: int = 0


class RowPlace(NamedTuple):
    """The place of a row, and the id of its sample where no column holds one.

    Attributes:
        label: Such as `metadata.jsonl:7`; names a row without an id that cannot become a sample.
        rule_id: The id by the data set's own rule; it takes precedence.
        number_id: The id of a row that has none; None: the stem of its source's file.
        suffix: What follows the id where a row gives several samples.
    """

    label: str
    rule_id: str | None = None
    number_id: str | None = None
    suffix: str = ""


def parse_columns(text: str) -> dict[str, str]:
    """Read `source=input_image,instruction=edit_prompt` into our field -> their column.

    A column of lists is written with the item to take: `prompts[0]`, `[random]` or `[*]`.

    Raises:
        RicError: A part is not `field=column`, the field is not one of ours, or the id is to be
            taken from a list.
    """
    names: dict[str, str] = {}
    for part in text.split(","):
        ours, equals, theirs = (piece.strip() for piece in part.partition("="))
        if not equals or not theirs or ours not in FIELDS:
            raise RicError(
                f"--columns cannot use {part.strip()!r}.",
                "Write field=column pairs, separated by commas, where field is one of: "
                + ", ".join(FIELDS) + ".",
            )  # fmt: skip
        names[ours] = theirs
    if "id" in names and list_columns({"id": names["id"]}):
        raise RicError(
            f"--columns cannot take the id from a list: {names['id']!r}.",
            "Leave id out: a row without one is named by its number or its source's file.",
        )
    return names


def require_columns(columns: Columns, have: list[str], where: str) -> None:
    """Check that a table has every mapped column, and that the essential ones are mapped.

    Raises:
        RicError: A column is missing; the message lists the existing ones.
    """
    wanted = [column_of(theirs, have) for theirs in columns.names.values()]
    missing = [theirs for theirs in wanted if theirs not in have]
    if missing:
        raise RicError(f"{where} has no column {missing[0]!r}.", f"Its columns: {', '.join(have)}.")
    if "source" not in columns.names:
        raise RicError(
            f"No column of {where} is mapped to the source picture.",
            f"Add source=COLUMN to --columns. Its columns: {', '.join(have)}.",
        )


def build_samples(
    row: Row,
    columns: Columns,
    options: ReadOptions,
    *,
    locate: Locate,
    place: RowPlace,
) -> Iterator[EditSample | SampleError]:
    """Yield the sample of a row, or the error of a row that cannot be one.

    Under `[*]` each item of a list is a sample, or an error, of its own.

    Args:
        row: Their column -> value.
        columns: Which column is what.
        options: The caller's requirements of every sample.
        locate: Turns a picture cell that is not empty into a path, URL or bytes.
        place: Where the row is, and its fallback ids.
    """
    try:
        if not columns.lists:
            yield _build(row, columns, options, locate, place)
            return
        name = _name(row, columns, place) or place.label
        for suffix, picked in picked_rows(row, columns.lists, name, options.seed):
            of_item = place._replace(suffix=suffix)
            try:
                yield _build(picked, columns, options, locate, of_item)
            except SampleError as error:
                yield _placed(error, row, columns, place)
    except SampleError as error:
        yield _placed(error, row, columns, place)


def _placed(error: SampleError, row: Row, columns: Columns, place: RowPlace) -> SampleError:
    """Note in a row's error where the row is, and which photo it is of."""
    error.row = place.label
    with suppress(SampleError):
        error.group = _text(row, columns, "group_id", place.label)
    return error


def _build(
    row: Row, columns: Columns, options: ReadOptions, locate: Locate, place: RowPlace
) -> EditSample:
    name = _name(row, columns, place)
    if name is None:
        reason = f"It has no source picture in {options.described_in}."
        raise SampleError(place.label, "source", reason)
    refuse_unsafe(name, place.label)
    texts = {ours: _text(row, columns, ours, name) for ours in TEXTS}
    if options.need_instruction and texts["instruction"] is None:
        column = columns.names.get("instruction", "instruction")
        raise SampleError(
            name, "texts", f"It has no instruction. Add {column} in {options.described_in}."
        )
    if texts["split"] is not None:
        split = own_split(texts["split"])
        if split is None:
            raise SampleError(
                name, "metadata", f"Its split is {texts['split']!r}; it may be train, val or test."
            )
        texts["split"] = split
    pictures = {
        ours: _picture(row, columns, ours, name, locate)
        for ours in PICTURES
        if ours in columns.names
    }
    source = pictures.pop("source", None)
    if source is None:
        raise SampleError(name, "source", f"It has no source picture in {options.described_in}.")
    return EditSample(
        id=name,
        instruction=texts.pop("instruction") or "",
        **texts,
        row=place.label,
        pictures=Pictures(
            source=source,
            target=pictures.get("target"),
            mask=pictures.get("mask"),
            context_mask=pictures.get("context_mask"),
            mask_kind=columns.mask_kind,
            described_in=options.described_in,
            mask_column=columns.names.get("mask", "mask"),
            target_column=columns.names.get("target", "target"),
            max_pixels=options.max_pixels,
            ignore_signature=options.ignore_signature,
        ),
    )


def refuse_not_plain(name: str, label: str) -> None:
    """Refuse a name that is not UTF-8 or not one plain line.

    Args:
        name: A file's name, or an id made of it.
        label: The name under which the failure is listed.

    Raises:
        SampleError: It is not UTF-8, or holds what a terminal would obey.
    """
    if printable(name) != name:
        raise SampleError(label, "metadata", f"Its name is not UTF-8: {name}. Rename the file.")
    if not is_plain_line(name):
        reason = f"Its id holds control characters or line breaks: {name!r}."
        raise SampleError(label, "metadata", reason)


def is_missing(value: Any) -> bool:
    """Tell whether a cell is empty: null, a blank text, or NaN, which pandas writes for null."""
    return value is None or value != value or (isinstance(value, str) and not value.strip())


def refuse_unsafe(name: str, label: str) -> None:
    """Refuse an id that cannot be a file name: outputs are written as `images/<id>.png`.

    Such an id fails its own sample only: the rest of a large data set is still usable.

    Args:
        name: The id.
        label: The name under which the failure is listed, since the id is unusable.

    Raises:
        SampleError: The id is empty, over 200 bytes, not UTF-8, starts with a dot, or holds a
            control character or one that file systems reserve.
    """
    refuse_not_plain(name, label)
    if not name or name.startswith(".") or re.search(r'[/\\:*?"<>|]', name):
        reason = f"Its id cannot be a file name, and results are named after it: {name!r}."
        raise SampleError(label, "metadata", reason)
    if len(name.encode()) > _LONGEST_ID:
        reason = f"Its id is longer than {_LONGEST_ID} bytes: '{name[:40]}...'."
        raise SampleError(label, "metadata", reason)


def _name(row: Row, columns: Columns, place: RowPlace) -> str | None:
    """Name a row's sample; None where it has neither an id nor a source."""
    name = place.rule_id or _text(row, columns, "id", place.label) or place.number_id
    source = row.get(columns.names["source"])
    if name is None and is_missing(source):
        return None
    return nfc(name or PurePosixPath(str(source)).stem) + place.suffix


def _text(row: Row, columns: Columns, ours: str, name: str) -> str | None:
    """Read a text cell; None where it is missing."""
    value = row.get(columns.names.get(ours, ""))
    if is_missing(value):
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        kind = type(value).__name__
        raise SampleError(name, "metadata", f"Its {columns.names[ours]} is a {kind}, not text.")
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON can escape half a character, which no file can hold
        reason = f"Its {columns.names[ours]} holds half a character (a lone surrogate)."
        raise SampleError(name, "metadata", reason) from None
    return value


def _picture(
    row: Row, columns: Columns, ours: str, name: str, locate: Locate
) -> str | bytes | None:
    value = row.get(columns.names[ours])
    try:
        return None if is_missing(value) else locate(value)
    except TypeError as error:
        raise SampleError(name, "metadata", f"Its {columns.names[ours]} {error}.") from None
