"""Relations between two things, which hold clearly or just possibly.

`holds` is strict: a viewer would say it. `might` is loose: a viewer could say it. A phrase points
to one thing when it holds for that thing and might hold for no other of its kind.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ric.scenes.layout import screen_x
from ric.scenes.scene import REACH

if TYPE_CHECKING:
    from ric.scenes.draws import Draws
    from ric.scenes.scene import Light
    from ric.scenes.things import Thing

LEFT, RIGHT, BEHIND, FRONT = "left of", "right of", "behind", "in front of"
BESIDE, SHADED = "beside", "in the shadow of"
MOVES = (LEFT, RIGHT, BEHIND, FRONT)  # the relations that a thing can be moved into
RELATIONS = (*MOVES, BESIDE, SHADED)

PHRASES = {
    LEFT: "to the left of", RIGHT: "to the right of", BEHIND: "behind", FRONT: "in front of",
    BESIDE: "beside", SHADED: "in the shadow of",
}  # fmt: skip


def holds(relation: str, thing: Thing, other: Thing, light: Light) -> bool:
    """Tell whether `thing` clearly has this relation to `other`."""
    across, away, gap = _between(thing, other)
    if relation in (LEFT, RIGHT):
        apart = -across if relation == LEFT else across
        return apart > 0.3 and abs(away) < 1.3
    if relation in (BEHIND, FRONT):
        return (away if relation == BEHIND else -away) > 0.9 and abs(across) < 0.32
    if relation == BESIDE:
        return gap < 0.8 and abs(away) < 0.7
    return _shaded(thing, other, light, 0.85)


def might(relation: str, thing: Thing, other: Thing, light: Light) -> bool:
    """Tell whether a viewer could see this relation of `thing` to `other`."""
    across, away, gap = _between(thing, other)
    if relation in (LEFT, RIGHT):
        return (-across if relation == LEFT else across) > 0.02
    if relation in (BEHIND, FRONT):
        return (away if relation == BEHIND else -away) > 0.25 and abs(across) < 0.6
    if relation == BESIDE:
        return gap < 1.7
    return _shaded(thing, other, light, 1.6)


def propose(draws: Draws, relation: str, thing: Thing, other: Thing, light: Light) -> Thing:
    """Put a thing where it may have this relation to another; the caller checks that it does."""
    room = thing.half_width + other.half_width
    far = draws.between(1.0, 2.4) * room
    aside, away = draws.between(-1.0, 1.0), draws.between(-1.0, 1.0)
    sign = -1.0 if relation in (LEFT, FRONT) else 1.0
    if relation in (BEHIND, FRONT):
        z = other.z + sign * max(far, 0.95)
        return thing.at(other.x * (z / other.z) + 0.16 * z * aside, z)
    if relation == SHADED:
        x, _, z = light.direction
        far = draws.between(1.0, 1.7) * room / math.sqrt(x * x + z * z)
        return thing.at(other.x - far * x, other.z - far * z)
    if relation == BESIDE:
        return thing.at(other.x + (1.0 if aside > 0 else -1.0) * far, other.z + 0.65 * away)
    return thing.at(other.x + sign * far, other.z + 1.25 * away)


def _between(thing: Thing, other: Thing) -> tuple[float, float, float]:
    """Return the distances to the right on the screen and to the back, and the gap between them."""
    x, z = thing.x - other.x, thing.z - other.z
    gap = math.sqrt(x * x + z * z) - thing.half_width - other.half_width
    return screen_x(thing) - screen_x(other), z, gap


def _shaded(thing: Thing, other: Thing, light: Light, looseness: float) -> bool:
    """Tell whether the middle of `thing` is where the shadow of `other` falls."""
    x, _, z = light.direction
    level = math.sqrt(x * x + z * z)
    dx, dz = thing.x - other.x, thing.z - other.z
    along = -(dx * x + dz * z) / level
    aside = abs(dx * z - dz * x) / level
    # at least its lower part is in the shadow
    reach = REACH[light.height] * (other.height - 0.2 * thing.height)
    return 0 < along < reach * looseness and aside < other.half_width * looseness * 0.8
