"""Placing things: inside the frame, apart from one another, each of them visible.

How much of a thing is visible is counted on a coarse grid with the outline of its kind, row by row,
nearest things first. It need not be exact, only the same at every picture size.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from ric.scenes.camera import EYE, FAR_Z, HORIZON, NEAR_Z, SPREAD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ric.scenes.draws import Draws
    from ric.scenes.things import Thing

Outline = tuple[float, float, float, float]  # left, top, right, bottom, shares of the picture

GRID = 48  # rows and columns
EDITED_SHARE = 0.033  # of the picture: the least visible area of an edited thing
ANY_SHARE = 0.015  # the same of any other thing
SEEN_SHARE = 0.56  # of a thing's own outline that must be visible
EDGE = 0.955  # of the half picture: nothing reaches further out

# Half widths of the outline from the foot to the top, over the kind's half width; the areas agree
# with the drawn ones to about a tenth.
_OUTLINES: dict[str, tuple[float, ...]] = {
    "ball": (0.45, 0.7, 0.8, 0.82, 0.8, 0.7, 0.45),
    "cube": (0.83, 0.92, 0.92, 0.92, 0.92, 0.87),
    "cone": (0.9, 0.78, 0.64, 0.5, 0.38, 0.26, 0.11),
    "cylinder": (0.81, 0.83, 0.83, 0.83, 0.83, 0.81),
    "pyramid": (0.74, 0.66, 0.54, 0.4, 0.28, 0.14),
    "tree": (0.18, 0.18, 0.5, 0.85, 0.9, 0.75, 0.35),
    "house": (0.81, 0.85, 0.85, 0.9, 0.76, 0.38),
    "boat": (0.72, 0.92, 0.53, 0.43, 0.34, 0.24, 0.14),
    "lamp": (0.39, 0.1, 0.1, 0.1, 0.53, 0.43, 0.34),
    "chest": (0.74, 0.8, 0.8, 0.8, 0.74),
    "car": (0.62, 0.8, 0.82, 0.58, 0.45),
}
_OTHER_OUTLINES: dict[tuple[str, str], tuple[float, ...]] = {
    ("cone", "lying"): (0.3, 0.4, 0.38, 0.28, 0.2, 0.12),
    ("cylinder", "lying"): (0.66, 0.75, 0.75, 0.75, 0.66),
    ("tree", "leaning left"): (0.12, 0.12, 0.33, 0.57, 0.6, 0.5, 0.23),
    ("tree", "leaning right"): (0.12, 0.12, 0.33, 0.57, 0.6, 0.5, 0.23),
}

# How far a kind's foot comes towards the viewer, over its half width.
_FRONTS = {
    "ball": 0.75, "cube": 1.1, "cone": 1.0, "cylinder": 0.95, "pyramid": 1.1, "tree": 0.3,
    "house": 1.05, "boat": 0.6, "lamp": 0.5, "chest": 1.1, "car": 0.75,
}  # fmt: skip


def screen_x(thing: Thing) -> float:
    """Return the x of its middle on the screen, -1 to 1."""
    return thing.x / (SPREAD * thing.z)


def screen_rows(thing: Thing) -> tuple[float, float]:
    """Return the top and the bottom of its outline on the screen."""
    front = thing.z - _FRONTS[thing.kind] * thing.half_width
    top = HORIZON + (EYE - thing.height) / (SPREAD * (thing.z + 0.2 * thing.half_width))
    return top, HORIZON + EYE / (SPREAD * front)


def outline(thing: Thing) -> Outline:
    """Return its outline's box as shares of the picture; it may reach beyond the edge."""
    top, bottom = screen_rows(thing)
    half = thing.half_width / (SPREAD * thing.z)
    middle = screen_x(thing)
    return (middle - half + 1) / 2, (top + 1) / 2, (middle + half + 1) / 2, (bottom + 1) / 2


def in_frame(thing: Thing) -> bool:
    """Tell whether it is wholly in the picture, on the part of the ground in use."""
    near = thing.z - 0.5 * thing.half_width
    side = (abs(thing.x) + thing.half_width) / (SPREAD * near)
    return NEAR_Z <= thing.z <= FAR_Z and side <= EDGE and screen_rows(thing)[1] <= EDGE


def apart(thing: Thing, others: Sequence[Thing]) -> bool:
    """Tell whether it stands clear of the others."""
    for other in others:
        across, away = thing.x - other.x, thing.z - other.z
        room = 0.97 * (thing.half_width + other.half_width)
        if across * across + away * away < room * room:
            return False
    return True


def well_seen(things: Sequence[Thing], edited: Sequence[int] = ()) -> bool:
    """Tell whether every thing is visible enough, with a stricter limit for the edited ones."""
    covered = [0] * (GRID + 1)
    for number in sorted(range(len(things)), key=lambda number: things[number].z):
        area, spans = _spans(things[number])
        shown = 0
        for row, span in spans:
            shown += (span & ~covered[row]).bit_count()
            covered[row] |= span
        least = EDITED_SHARE if number in edited else ANY_SHARE
        if shown < SEEN_SHARE * area or shown < least * GRID * GRID:
            return False
    return True


def place_somewhere(
    draws: Draws, thing: Thing, others: Sequence[Thing], edited: Sequence[int] = ()
) -> Thing | None:
    """Try twelve places for a thing; None if none is free and leaves everything visible.

    Args:
        draws: The random draws.
        thing: What to place; it will be the last of the things.
        others: What stands there already.
        edited: The numbers of the things that the edit is about.
    """
    for _ in range(12):
        z = draws.between(NEAR_Z, FAR_Z)
        x = draws.between(-1.0, 1.0) * (SPREAD * z * EDGE - thing.half_width)
        placed = thing.at(x, z)
        if in_frame(placed) and apart(placed, others) and well_seen((*others, placed), edited):
            return placed
    return None


@lru_cache(maxsize=64)
def _spans(thing: Thing) -> tuple[int, list[tuple[int, int]]]:
    """Return how many cells a thing's outline has, and (row, its cells as bits)."""
    top, bottom = screen_rows(thing)
    outline = _OTHER_OUTLINES.get((thing.kind, thing.state)) or _OUTLINES[thing.kind]
    middle = (screen_x(thing) + 1) * GRID / 2 + 0.5
    half = thing.half_width / (SPREAD * thing.z) * GRID / 2
    first, last = max(int((top + 1) * GRID / 2), 0), min(int((bottom + 1) * GRID / 2), GRID)
    count, levels = last - first + 1, len(outline)
    area, spans = 0, []
    for row in range(first, last + 1):
        wide = half * outline[(last - row) * levels // count]
        left, right = max(int(middle - wide), 0), int(middle + wide)
        area += right - left
        spans.append((row, (1 << right) - (1 << left)))
    return area, spans
