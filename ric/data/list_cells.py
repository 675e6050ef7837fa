"""Cells that hold lists, such as several wordings of one instruction: which item a sample gets.

`--columns instruction=edited_prompt_list[0]` takes the first item, `[random]` one by the run's seed
and the sample's id, `[*]` every item in a sample of its own.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from ric.errors import SampleError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from ric.data.columns import Row

EVERY, RANDOM = "*", "random"
LENIENT = ("utf-8", "surrogatepass")  # an id that is no UTF-8 is refused later


class ListColumn(NamedTuple):
    """A column of lists, as `--columns` names it.

    Attributes:
        written: Such as `prompts[0]`; the picked value is stored in the row under this name.
        column: Such as `prompts`.
        pick: An index from 0, `random` or `*`.
    """

    written: str
    column: str
    pick: str


def list_columns(names: Mapping[str, str]) -> list[ListColumn]:
    """List the columns of lists among those of a mapping (our field -> their column)."""
    return [found for theirs in dict.fromkeys(names.values()) if (found := _parse(theirs))]


def column_of(theirs: str, have: Collection[str]) -> str:
    """Return the table's own name of a column: `prompts` for `prompts[0]`.

    A column that is itself called `prompts[0]` is meant where there is one.
    """
    found = None if theirs in have else _parse(theirs)
    return found.column if found else theirs


def has_pick(names: Mapping[str, str], pick: str) -> bool:
    """Tell whether any column of a mapping asks for `random`, or for every item (`*`)."""
    return any(found.pick == pick for found in list_columns(names))


def picked_rows(
    row: Row, asked: Sequence[ListColumn], name: str, seed: int
) -> Iterator[tuple[str, Row]]:
    """Yield a row for each sample: `("", row)`, or under `[*]` `("-0", row)`, `("-1", row)`...

    Lists of one length are read in step: `instruction=a[random],target_text=b[random]` takes both
    from one place, and so does `[*]`.

    Args:
        row: Their column -> value.
        asked: The columns of lists.
        name: The sample's id, under which errors are raised.
        seed: Draws the item of `[random]`, together with the id.

    Raises:
        SampleError: A cell is no list, is empty, or has no item of that index; or the lists of two
            columns with `[*]` differ in length.
    """
    asked = [one for one in asked if one.written not in row]
    lists = {one.column: _items(row, one.column, name) for one in asked}
    lengths = {one.column: len(lists[one.column]) for one in asked if one.pick == EVERY}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{column} {length}" for column, length in lengths.items())
        raise SampleError(name, "metadata", f"Its lists differ in length: {told}.")
    drawn = int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode(*LENIENT)).digest()[:8], "big")
    for at in range(next(iter(lengths.values()), 1)):
        picked = {}
        for one in asked:
            items = lists[one.column]
            place = {EVERY: at, RANDOM: drawn % len(items)}.get(one.pick)
            place = int(one.pick) if place is None else place
            if place >= len(items):
                reason = f"There is no {one.written}: its {one.column} has length {len(items)}."
                raise SampleError(name, "metadata", reason)
            picked[one.written] = items[place]
        yield (f"-{at}" if lengths else ""), {**row, **picked}


def _parse(theirs: str) -> ListColumn | None:
    found = re.fullmatch(r"(.+)\[([0-9]+|random|\*)\]", theirs)
    return ListColumn(theirs, found[1], found[2]) if found else None


def _items(row: Row, column: str, name: str) -> list[Any]:
    items = row.get(column)
    if items is None or items == []:
        raise SampleError(name, "metadata", f"Its {column} is an empty list or none.")
    if not isinstance(items, list):
        reason = f"Its {column} is a {type(items).__name__}, not a list."
        raise SampleError(name, "metadata", reason)
    return items
