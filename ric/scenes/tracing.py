"""Ray casting: the first surface on each ray and its light, for a view or its mirror image.

The mirror image of a picture in its ground is the same scene seen from below the ground, so both
passes are this one with another eye. Everything is float32 and element by element; a pass over a
window gives exactly the bits that a pass over the whole picture has there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ric.scenes.bodies import Body, Crossing, Floats, Number, Quadric, cross, dot, inward
from ric.scenes.camera import EYE, HORIZON, SPREAD, Box, Window, box_around, project
from ric.scenes.colours import NUMBERS
from ric.scenes.shapes import bodies_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Triple = tuple[Number, Number, Number]

    from numpy.typing import NDArray

    from ric.scenes.camera import Point
    from ric.scenes.scene import Light
    from ric.scenes.things import Thing

AMBIENT = 0.66  # what a face turned away from the light still gets
FROM_ABOVE = 0.1  # more for a face turned up, less for one turned down
DIRECT = 0.44  # what a face turned to the light gets on top
_ONE = np.ones((1, 1), dtype=np.float32)


@dataclass(frozen=True)
class Rays:
    """One ray per point of a window, from the eye through the screen.

    Attributes:
        window: The points.
        u: (1, W), screen.
        v: (H, 1), screen.
        dx: (1, W) or (H, W), the direction's x; its z is 1.
        dy: (H, 1), the direction's y.
        eye: Where they start.
        mirrored: Whether they look from below the ground.
    """

    window: Window
    u: Floats
    v: Floats
    dx: Floats
    dy: Floats
    eye: Point = (0.0, EYE, 0.0)
    mirrored: bool = False

    def part(self, inner: Window) -> tuple[tuple[slice, slice], Number, Number]:
        """Return an inner window's place in ours, and its rays' dx and dy."""
        rows, columns = inner.within(self.window)
        dx = self.dx[rows, columns] if self.dx.shape[0] > 1 else self.dx[:, columns]
        return (rows, columns), dx, self.dy[rows]


def make_rays(window: Window) -> Rays:
    """Send a ray through the middle of each pixel of a window."""
    places = ((2 * np.arange(window.size) + 1) / window.size - 1).astype(np.float32)
    u = places[None, window.left : window.right]
    v = places[window.top : window.bottom, None]
    return Rays(window, u, v, SPREAD * u, SPREAD * (HORIZON - v))


def mirror(rays: Rays, ripple: Number) -> Rays:
    """Look from below the ground instead, with `ripple` added to the rays' dx."""
    dx = (rays.dx + ripple).astype(np.float32, copy=False)
    return Rays(rays.window, rays.u, rays.v, dx, -rays.dy, (0.0, -EYE, 0.0), mirrored=True)


@dataclass(frozen=True)
class Seen:
    """The rays' first hits among the things, (H, W) each.

    Attributes:
        depth: Its depth; the one passed in where there is no thing.
        owner: The thing's number, or -1.
        paint: The number of its paint.
        ambient: The ambient light.
        direct: The direct light, before shadows.
        shine: The highlight on top, as a share of white.
    """

    depth: Floats
    owner: NDArray[np.int8]
    paint: NDArray[np.int8]
    ambient: Floats
    direct: Floats
    shine: Floats


def look(rays: Rays, things: Sequence[Thing], light: Light, depth: Floats) -> Seen:
    """Find the thing that each ray meets first.

    Args:
        rays: The rays.
        things: What stands in the scene.
        light: What lights them.
        depth: (H, W) of the background; written to, and returned as `Seen.depth`.
    """
    shape = depth.shape
    seen = Seen(
        depth,
        np.full(shape, -1, dtype=np.int8),
        np.zeros(shape, dtype=np.int8),
        *(np.zeros(shape, dtype=np.float32) for _ in range(3)),
    )
    for owner, thing in enumerate(things):
        for body in bodies_of(thing):
            inner = rays.window.clip(screen_box(body, mirrored=rays.mirrored))
            if inner is None:
                continue
            place, dx, dy = rays.part(inner)
            start, along = own_rays(body, rays.eye, dx, dy)
            crossing = cross(body, start, along)
            front = (crossing.enter <= crossing.leave) & (crossing.enter < depth[place])
            if not front.any():
                continue
            glossy = thing.material == "glossy" and body.paint == thing.colour
            ambient, direct, shine = _lit(
                body,
                light,
                (start, along),
                crossing,
                gloss=(lambda: _streak(thing, rays, place)) if glossy else None,  # noqa: B023
            )
            for layer, values in (
                (seen.depth, crossing.enter), (seen.owner, owner),
                (seen.paint, NUMBERS[body.paint]), (seen.ambient, ambient),
                (seen.direct, direct), (seen.shine, shine),
            ):  # fmt: skip
                np.copyto(layer[place], values, where=front, casting="same_kind")
    return seen


def screen_box(body: Body, *, mirrored: bool = False) -> Box:
    """Return the box around a body or its mirror image on the screen."""
    sign = -1.0 if mirrored else 1.0
    return box_around((x, sign * y, z) for x, y, z in body.corners)


def own_rays(
    body: Body, eye: Point, dx: Number, dy: Number
) -> tuple[tuple[Number, Number, Number], tuple[Number, Number, Number]]:
    """Return the start and direction of camera rays in a body's own frame."""
    x, y, z = (place - middle for place, middle in zip(eye, body.centre, strict=True))
    return inward(body.turn, x, y, z), inward(body.turn, dx, dy, _ONE)


# --- light on a surface --------------------------------------------------------------------------


def _lit(
    body: Body,
    light: Light,
    ray: tuple[Triple, Triple],
    crossing: Crossing,
    gloss: Callable[[], Number] | None,
) -> Triple:
    """Return the ambient and direct light and the shine of a body's visible surface.

    Args:
        body: What is seen.
        light: What it is lit by.
        ray: In its own frame, where each ray starts and which way it goes.
        crossing: Where rays enter and leave it.
        gloss: Returns the shine of flat faces; None where the body is matte.
    """
    start, along = ray
    towards = light.direction
    ambient: Number = np.float32(AMBIENT)
    direct: Number = np.float32(0)
    shine: Number = np.float32(0)
    for normal, face in zip(body.normals, crossing.faces, strict=False):
        facing = sum(n * t for n, t in zip(normal, towards, strict=True))
        assert face.speed is not None
        falls = face.speed < 0  # rays that run against the normal enter through the high face
        here = face.enter >= crossing.enter
        high, low = DIRECT * max(facing, 0.0), DIRECT * max(-facing, 0.0)
        direct = np.where(here, np.where(falls, np.float32(high), np.float32(low)), direct)
        tilt = FROM_ABOVE * normal[1]
        up, down = np.float32(AMBIENT + tilt), np.float32(AMBIENT - tilt)
        ambient = np.where(here, np.where(falls, up, down), ambient)
    if gloss and not body.quadric:
        shine = gloss()
    if body.quadric:
        here = crossing.faces[-1].enter >= crossing.enter
        surface, length = _normals(body.quadric, start, along, crossing.enter)
        facing = dot(inward(body.turn, *towards), surface)
        up = dot(inward(body.turn, 0.0, 1.0, 0.0), surface)
        inverse = 1.0 / length
        direct = np.where(here, DIRECT * inverse * np.maximum(facing, 0.0), direct)
        ambient = np.where(here, AMBIENT + FROM_ABOVE * inverse * up, ambient)
        if gloss:
            half = dot(_highlight(body, towards), surface) * inverse
            shine = np.where(here, _peaked(half), np.float32(0))
    return ambient, direct, shine


def _normals(
    quadric: Quadric, start: Sequence[Number], along: Sequence[Number], enter: Number
) -> tuple[list[Number], Number]:
    """Return the surface's normal where rays enter it, and that normal's length."""
    points = [s + enter * a for s, a in zip(start, along, strict=True)]
    weights = quadric.weights
    if weights[0] == weights[1] == weights[2]:
        return points, math.sqrt(quadric.level / weights[0])
    normal = [
        point if weight == 1.0 else weight * point
        for weight, point in zip(weights, points, strict=True)
    ]
    x, y, z = normal
    return normal, np.maximum(np.sqrt(x * x + y * y + z * z), 1e-6)


def _peaked(cosine: Number) -> Number:
    """Raise to the 32nd power by squaring: NumPy's own power differs between CPUs."""
    value = np.minimum(np.maximum(cosine, 0.0), 1.0)
    for _ in range(5):
        value = value * value
    return 0.8 * value


def _highlight(body: Body, towards: Point) -> tuple[float, float, float]:
    """Return the body's own normal that reflects the light to the viewer, or the nearest."""
    x, y, z = body.centre
    away = math.sqrt(x * x + (EYE - y) * (EYE - y) + z * z)
    view = (-x / away, (EYE - y) / away, -z / away)
    # more towards the viewer than halfway, so that light from behind shows too
    a, b, c = inward(body.turn, *(t + 1.5 * w for t, w in zip(towards, view, strict=True)))
    assert body.quadric is not None
    narrowing = body.quadric.weights[1]
    if narrowing > 0:
        length = math.sqrt(a * a + b * b + c * c)
        return a / length, b / length, c / length
    # a cylinder's or cone's normals all rise by the same slope
    slope = math.sqrt(-narrowing)
    level = math.sqrt(a * a + c * c) * math.sqrt(1 + slope * slope)
    return a / level, slope / math.sqrt(1 + slope * slope), c / level


def _streak(thing: Thing, rays: Rays, place: tuple[slice, slice]) -> Number:
    """Draw the slanting bands of light that make a flat thing look glossy."""
    height = -0.5 * thing.height if rays.mirrored else 0.5 * thing.height
    across, down = project((thing.x, height, thing.z))
    scale = SPREAD * thing.z / thing.half_width
    rows, columns = place
    slant = (rays.u[:, columns] - across) * scale
    fall = (rays.v[rows] - down) * (0.6 * scale)
    along = slant - fall if rays.mirrored else slant + fall
    wide = np.where(np.abs(along + 0.3) < 0.16, np.float32(0.26), np.float32(0))
    return np.where(np.abs(along + 0.62) < 0.05, np.float32(0.18), wide)
