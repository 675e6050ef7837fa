"""A scored sample without its pictures: a row of numbers, and features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ric.scoring.encode_once import SetRow

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from ric.metrics.pairs import Pair


def row_of(pair: Pair) -> dict[str, Any]:
    """Open a sample's row: its id, group and photo, and what is told of its files."""
    return {
        "id": pair.id,
        "group": pair.group,
        "photo": pair.photo or pair.id,
        "profile_apart": pair.profile_apart,
        **{f"{name}_file": place for name, place in pair.files.items()},
    }


def photos_of(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """List the photo of each sample's row; batches of older versions have none."""
    return [row.get("photo") or row["id"] for row in rows]


def profiles_apart(rows: Iterable[Mapping[str, Any]]) -> int:
    """Count the rows of which only one picture has a profile that is not sRGB's."""
    return sum(bool(row.get("profile_apart")) for row in rows)


NO_SETS = SetRow(None, None, None, None)


class Kept(NamedTuple):
    """All that is stored of one sample."""

    row: dict[str, Any]
    set_row: SetRow


class KeptSamples:
    """Samples by their ids; base of the suites."""

    def __init__(self) -> None:
        """Start empty."""
        self._rows: dict[str, dict[str, Any]] = {}
        self._set_rows: dict[str, SetRow] = {}

    @property
    def ids(self) -> list[str]:
        """The ids of the stored samples."""
        return list(self._rows)

    def groups(self) -> dict[str, str]:
        """Return the group of each sample that has one, by id."""
        return {name: row["group"] for name, row in self._rows.items() if row["group"]}

    def fill(self, columns: Mapping[str, Mapping[str, Any]]) -> None:
        """Add columns to the rows of some samples, given by id."""
        for name, values in columns.items():
            self._rows[name].update(values)

    def take(self) -> dict[str, Kept]:
        """Return what is stored of each sample, by its id, and clear it."""
        held = {
            name: Kept(row, self._set_rows.get(name, NO_SETS)) for name, row in self._rows.items()
        }
        self._rows.clear()
        self._set_rows.clear()
        return held

    def put(self, held: Mapping[str, Kept]) -> None:
        """Store what `take` returned, from this suite or from one in another process."""
        self._rows.update({name: kept.row for name, kept in held.items()})
        self._set_rows.update({name: kept.set_row for name, kept in held.items()})

    def _in_order(self, only: Container[str] | None) -> tuple[list[dict[str, Any]], list[SetRow]]:
        """List rows by sorted ids, so that neither shuffle nor bootstrap sees the reading order."""
        ids = sorted(name for name in self._rows if only is None or name in only)
        return [self._rows[name] for name in ids], [
            self._set_rows.get(name, NO_SETS) for name in ids
        ]
