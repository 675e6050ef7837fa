"""The labels of the scene classifier, as in its config's `id2label`: groups of exclusive ones.

A whole picture has a place, a side and a height of the light, and a number of things; a crop of one
thing has a kind (or nothing stands there), a colour, a material and a state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ric.scenes.settings import PLACES
from ric.scenes.things import COLOURS, KINDS, MATERIALS, STATES

if TYPE_CHECKING:
    from collections.abc import Sequence

NOTHING = "nothing"  # the kind of an empty place
ANY_STATE = tuple(sorted({state for states in STATES.values() for state in states}))

GROUPS: dict[str, tuple[str, ...]] = {
    "place": PLACES,
    "light from": ("left", "right"),
    "light": ("low", "high"),
    "things": ("0", "1", "2", "3", "4", "5", "6"),
    "kind": (*KINDS, NOTHING),
    "colour": COLOURS,
    "material": MATERIALS,
    "state": ANY_STATE,
}
LABELS = tuple(f"{group}: {label}" for group, labels in GROUPS.items() for label in labels)


def group_ranges(labels: Sequence[str] = LABELS) -> dict[str, slice]:
    """Return the slice of each group's labels in a classifier's outputs."""
    ranges: dict[str, slice] = {}
    for number, label in enumerate(labels):
        group = label.partition(": ")[0]
        start = ranges[group].start if group in ranges else number
        ranges[group] = slice(start, number + 1)
    return ranges
