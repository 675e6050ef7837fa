"""Cast shadows: rays from visible surfaces towards the light.

A shadow's edge softens in proportion to the distance from its caster: the shadow at a point is the
length of the ray inside the body over `softness` times that distance, at most 1. At the foot of a
thing its shadow is sharp and full, further out it fades, and with a low light it fades more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ric.scenes.bodies import Body, Floats, cross, inward
from ric.scenes.camera import Box, box_around
from ric.scenes.shapes import bodies_of
from ric.scenes.tracing import Rays, own_rays

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ric.scenes.scene import Light
    from ric.scenes.things import Thing

_LIFT = 0.03  # a lit surface must not fall into its own shadow by rounding
_AT_ONCE = 0.1  # added to the distance, so that no shadow is infinitely sharp
_SIGHT = 60.0  # depth; farther surfaces are shaded as if they were here


def shade(rays: Rays, things: Sequence[Thing], light: Light, depth: Floats, shadow: Floats) -> None:
    """Compute how much of the direct light is blocked from the surfaces at `depth`.

    Args:
        rays: The camera's rays.
        things: What casts shadows.
        light: Where the light comes from.
        depth: (H, W) of the nearest surface.
        shadow: (H, W) of zeros, written to: 0 in the light to 1 in full shadow.
    """
    for thing in things:
        for body in bodies_of(thing):
            inner = rays.window.clip(shadow_box(body, light)) if body.casts else None
            if inner is None:
                continue
            place, dx, dy = rays.part(inner)
            start, along = own_rays(body, rays.eye, dx, dy)
            near = np.minimum(depth[place], _SIGHT)
            points = tuple(s + near * a for s, a in zip(start, along, strict=True))
            crossing = cross(body, points, inward(body.turn, *light.direction))
            way = np.maximum(crossing.enter, _LIFT)
            inside = (crossing.leave - way) / (light.softness * (way + _AT_ONCE))
            np.maximum(shadow[place], np.minimum(inside, 1.0), out=shadow[place])


def shadow_box(body: Body, light: Light) -> Box:
    """Return a screen box around a body and its shadow on the ground."""
    x, y, z = light.direction
    corners = body.corners
    fallen = [(a - x * (b / y), 0.0, c - z * (b / y)) for a, b, c in corners]
    return box_around([*corners, *fallen])
