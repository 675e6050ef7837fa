"""A benchmark's layout: where its rows are, what they mean, where its judge looks for edits."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ric.data.open_file import open_bytes
from ric.data.text_tables import KeyTwiceError, with_each_key_once
from ric.errors import RicError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ric.data.columns import Columns, Row
    from ric.data.edit_sample import EditSample


class Entry(NamedTuple):
    """A row of a benchmark as it is written there.

    Attributes:
        label: Where it is, such as `mapping_file.json: 000000000000`.
        row: Its values, or a sentence that says what is wrong with it.
        group: The photo of a row that is a sentence, where its place tells.
    """

    label: str
    row: Row | str
    group: str | None = None


class Result(NamedTuple):
    """A file that a benchmark's judge reads.

    Attributes:
        place: Its path below the folder that the judge is given.
        read: Returns its bytes; raises SampleError.
    """

    place: str
    read: Callable[[], bytes]


def unchanged(row: Row, root: Path) -> Row:
    """Return a row as it is."""
    return row


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One benchmark.

    Attributes:
        holds: What DIR holds, for errors and help.
        columns: What its rows call our fields, once `cells` has seen them.
        find: Lists the files of rows in DIR, the chief one first; or of that file itself; none
            where they are not there. Raises RicError.
        entries: Yields the rows of those files. Raises RicError.
        cells: Turns a row's values into those of `columns`; gets the folder of the chief file.
            Raises SampleError.
        is_table: Its rows are in parquet or Arrow, pictures included.
        results: Lists what its judge reads of one edit: the row, the sample, the edit's file; None
            where no judge reads a folder.
        listing: Names and writes the list of edits that the judge reads besides: gets the row and
            the edit's place of each.
    """

    holds: str
    columns: Columns
    find: Callable[[Path], list[Path]]
    entries: Callable[[Sequence[Path]], Iterator[Entry]]
    cells: Callable[[Row, Path], Row] = unchanged
    is_table: bool = False
    results: Callable[[Row, EditSample, Path], list[Result]] | None = None
    listing: Callable[[Sequence[tuple[Row, str]]], tuple[str, str]] | None = None


def find_file(place: Path, *names: str) -> list[Path]:
    """Find the one file of rows in a folder, by its possible names; or take the file given.

    Raises:
        RicError: The folder holds several.
    """
    if place.is_file():
        return [place]
    found = [place / name for name in names if (place / name).is_file()]
    if len(found) > 1:
        raise RicError(
            f"'{place}' holds {' and '.join(file.name for file in found)}.",
            f"Name the one to read in place of the folder, such as '{found[0]}'.",
        )
    return found


def read_json(file: Path, kind: type, form: str) -> Any:
    """Read a JSON file whose rows are in an object, or in a list.

    Args:
        file: The file.
        kind: `dict` or `list`.
        form: What it looks like, for the hint.

    Raises:
        RicError: It cannot be read, is not JSON, names a key twice, or is of another kind.
    """
    hint = f"It has the form {form}."
    with open_bytes(file) as stream:
        try:
            read = json.loads(stream.read(), object_pairs_hook=with_each_key_once)
        except KeyTwiceError as error:
            raise RicError(f"'{file}' has {error} twice.", "Leave one of them.") from None
        except (ValueError, RecursionError) as error:
            raise RicError(f"'{file}' is not JSON: {error}.", hint) from None
    if not isinstance(read, kind):
        wanted, other = ("object", "list") if kind is dict else ("list", "object")
        held = other if isinstance(read, (dict, list)) else type(read).__name__
        raise RicError(f"'{file}' holds a JSON {held}, not a JSON {wanted}.", hint)
    return read


def keyed_entries(file: Path, form: str) -> Iterator[Entry]:
    """Yield the rows of an object of objects, each with its key as `key`.

    Raises:
        RicError: As `read_json`.
    """
    for key, row in read_json(file, dict, form).items():
        yield Entry(
            f"{file.name}: {key}", {**row, "key": key} if isinstance(row, dict) else _not(row)
        )


def listed_entries(file: Path, form: str) -> Iterator[Entry]:
    """Yield the rows of a list of objects, labelled by their number.

    Raises:
        RicError: As `read_json`.
    """
    for number, row in enumerate(read_json(file, list, form), start=1):
        yield Entry(f"{file.name}:{number}", row if isinstance(row, dict) else _not(row))


def _not(row: object) -> str:
    return f"Its row is not a JSON object but a {type(row).__name__}."


def the_edit(place: str, edited: Path) -> Result:
    """Return an edit's file, which keeps its bytes, at a place."""
    return Result(place, edited.read_bytes)


def below(folder: str, path: Any) -> Any:
    """Put a folder before a path; what is no text stays as it is, to be refused later."""
    return f"{folder}/{path}" if isinstance(path, str) and path.strip() else path
