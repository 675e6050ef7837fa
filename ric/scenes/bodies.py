"""Convex bodies to intersect rays with: slabs and at most one quadric, in the body's own frame.

All that a picture shows of things (outlines, shading, shadows, mirror images) comes from one
computation: where a ray enters a body, and where it leaves. It uses + - * / sqrt and comparisons
only, element by element, so every CPU gives the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ric.scenes.camera import Point

Floats = NDArray[Any]  # always float32
Number = Any  # a Python float or a float32 array that broadcasts
Turn = tuple[Point, Point, Point]  # rows; world = turn x own

UPRIGHT: Turn = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
FAR = 1e6
_TINY = 1e-7


class Slab(NamedTuple):
    """The points p with low <= normal . p <= high; the normal has length 1."""

    normal: Point
    low: float
    high: float


class Quadric(NamedTuple):
    """The points with weights . (x^2, y^2, z^2) <= level; one negative weight makes a cone."""

    weights: Point
    level: float


@dataclass(frozen=True)
class Body:
    """A convex body.

    Attributes:
        centre: The origin of its own frame, in the world.
        turn: The rotation of its own frame.
        slabs: Those that bound it.
        quadric: An ellipsoid, cylinder or cone about its own y axis that also bounds it, or None.
        low: The lowest x, y, z of its bounding box, in its own frame.
        high: The highest.
        paint: A key of colours.PAINTS; shapes.OWN until the body is placed.
        casts: Whether it casts a shadow; trimmings on another body need not.
    """

    centre: Point
    turn: Turn
    slabs: tuple[Slab, ...]
    quadric: Quadric | None
    low: Point
    high: Point
    paint: str
    casts: bool = True

    @cached_property
    def corners(self) -> list[Point]:
        """The eight corners of its bounding box, in the world."""
        return [
            outward(self.turn, (x, y, z), self.centre)
            for x, y, z in product(*zip(self.low, self.high, strict=True))
        ]

    @cached_property
    def normals(self) -> list[Point]:
        """The slabs' normals, in the world."""
        return [outward(self.turn, slab.normal) for slab in self.slabs]


class Face(NamedTuple):
    """The rays' entry into one of a body's bounds; their speed across a slab (None: a quadric)."""

    enter: Number
    speed: Number | None


class Crossing(NamedTuple):
    """The rays' passage through a body, from `enter` to `leave`; a miss if reversed."""

    enter: Number
    leave: Number
    faces: list[Face]  # the slabs in their order, then the quadric


def outward(turn: Turn, own: Point, centre: Point = (0.0, 0.0, 0.0)) -> Point:
    """Map a point or direction from a turned frame to the world."""
    (a, b, c), (d, e, f), (g, h, i) = turn
    x, y, z = own
    return (
        a * x + b * y + c * z + centre[0],
        d * x + e * y + f * z + centre[1],
        g * x + h * y + i * z + centre[2],
    )


def inward(turn: Turn, x: Number, y: Number, z: Number) -> tuple[Number, Number, Number]:
    """Map a direction from the world to a turned frame, skipping zeros of the turn."""
    first, second, third = turn
    own = []
    for a, b, c in zip(first, second, third, strict=True):
        parts = [part if w == 1.0 else w * part for w, part in ((a, x), (b, y), (c, z)) if w != 0.0]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        own.append(total)
    return own[0], own[1], own[2]


def compose(outer: Turn, inner: Turn) -> Turn:
    """Turn by `inner`, then by `outer`."""
    columns = [outward(outer, column) for column in zip(*inner, strict=True)]
    return tuple(zip(*columns, strict=True))  # type: ignore[return-value]


def cross(
    body: Body, start: tuple[Number, Number, Number], along: tuple[Number, Number, Number]
) -> Crossing:
    """Find where rays cross a body.

    Args:
        body: The body.
        start: x, y, z of the rays' starts in the body's own frame.
        along: x, y, z of their directions in that frame; start and along broadcast to the result.

    Returns:
        Ray parameters; enter > leave where the ray misses.
    """
    faces: list[Face] = []
    leave: Number = None
    for slab in body.slabs:
        over, speed = dot(slab.normal, start), dot(slab.normal, along)
        inverse = _inverse(speed)
        first, second = (slab.low - over) * inverse, (slab.high - over) * inverse
        faces.append(Face(np.minimum(first, second), speed))
        far = np.maximum(first, second)
        leave = far if leave is None else np.minimum(leave, far)
    if body.quadric:
        near, far = _quadric_hits(body.quadric, start, along)
        faces.append(Face(near, None))
        leave = far if leave is None else np.minimum(leave, far)
    enter = faces[0].enter
    for face in faces[1:]:
        enter = np.maximum(enter, face.enter)
    return Crossing(enter, leave, faces)


def _quadric_hits(quadric: Quadric, start: Any, along: Any) -> tuple[Floats, Floats]:
    (p, q, r), level = quadric
    ox, oy, oz = start
    dx, dy, dz = along
    a = p * dx * dx + q * dy * dy + r * dz * dz
    half_b = p * ox * dx + q * oy * dy + r * oz * dz
    c = p * ox * ox + q * oy * oy + r * oz * oz - level
    under = half_b * half_b - a * c
    root = np.sqrt(np.maximum(under, 0.0))
    if q < 0:
        inverse = _inverse(a)
        first, second = (-half_b - root) * inverse, (root - half_b) * inverse
        near, far = np.minimum(first, second), np.maximum(first, second)
        # steeper than the cone: inside before `near` and after `far`; own y < 0 is our half
        steep, falls = a < 0, dy < 0
        near, far = (
            np.where(steep, np.where(falls, far, -FAR), near),
            np.where(steep, np.where(falls, FAR, near), far),
        )
    else:
        inverse = 1.0 / a  # never 0: no ray here is parallel to a cylinder's axis
        near, far = (-half_b - root) * inverse, (root - half_b) * inverse
    near = np.where(under < 0, FAR, near)
    return near.astype(np.float32, copy=False), far.astype(np.float32, copy=False)


def dot(normal: Point, values: Any) -> Number:
    """Return the dot product with a constant vector, skipping its zeros."""
    parts = [
        value if weight == 1.0 else weight * value
        for weight, value in zip(normal, values, strict=True)
        if weight != 0.0
    ]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _inverse(value: Number) -> Number:
    if isinstance(value, float):
        return 1.0 / (value if abs(value) > _TINY else _TINY)
    return np.float32(1.0) / np.where(np.abs(value) > _TINY, value, np.float32(_TINY))
