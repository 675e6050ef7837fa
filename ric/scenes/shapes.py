"""Build each kind of thing from convex bodies that stand on the ground.

Turns are rational: (cos, sin) pairs such as (4/5, 3/5) need no trigonometry. A kind is built about
(0, 0, 0) with x to its right, y up and z to its back, then scaled, turned and put in its place.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from ric.scenes.bodies import UPRIGHT, Body, Quadric, Slab, Turn, compose, outward

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ric.scenes.camera import Point
    from ric.scenes.things import Thing

OWN = "own"  # painted in the thing's own colour

# (cos, sin) of the small turns about the vertical that cubes, pyramids and chests may have.
YAWS = ((24 / 25, 7 / 25), (12 / 13, 5 / 13), (4 / 5, 3 / 5), (4 / 5, -3 / 5), (12 / 13, -5 / 13),
        (24 / 25, -7 / 25))  # fmt: skip


@lru_cache(maxsize=512)
def bodies_of(thing: Thing) -> tuple[Body, ...]:
    """Build a thing where it stands; its lowest point is on the ground."""
    build = _BUILDERS[thing.kind]
    scale = thing.scale
    placed = []
    for body in build(thing):
        x, y, z = body.centre
        paint = thing.colour if body.paint == OWN else body.paint
        placed.append(
            replace(
                _scaled(body, scale),
                centre=(thing.x + scale * x, scale * y, thing.z + scale * z),
                paint=paint,
            )
        )
    return tuple(placed)


def _trim(body: Body) -> Body:
    """Mark a part that lies on another one: it casts no shadow that could be seen."""
    return replace(body, casts=False)


# --- the bodies ----------------------------------------------------------------------------------


def yaw(cos: float, sin: float) -> Turn:
    """Turn about the vertical; a front (own -z) turns to the left with sin > 0."""
    return ((cos, 0.0, sin), (0.0, 1.0, 0.0), (-sin, 0.0, cos))


def roll(cos: float, sin: float) -> Turn:
    """Lean to the right with sin > 0."""
    return ((cos, sin, 0.0), (-sin, cos, 0.0), (0.0, 0.0, 1.0))


def pitch(cos: float, sin: float) -> Turn:
    """Lean back with sin > 0."""
    return ((1.0, 0.0, 0.0), (0.0, cos, -sin), (0.0, sin, cos))


def ellipsoid(centre: Point, radii: Point, paint: str = OWN) -> Body:
    """Make a ball, or one squeezed along its own axes."""
    weights = tuple(1 / (radius * radius) for radius in radii)
    low = tuple(-radius for radius in radii)
    return Body(centre, UPRIGHT, (), Quadric(weights, 1.0), low, radii, paint)  # type: ignore[arg-type]


def block(centre: Point, half: Point, turn: Turn = UPRIGHT, paint: str = OWN) -> Body:
    """Make a box about its centre."""
    slabs = tuple(
        Slab(axis, -size, size)
        for axis, size in zip(
            ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), half, strict=True
        )
    )
    low = tuple(-size for size in half)
    return Body(centre, turn, slabs, None, low, half, paint)  # type: ignore[arg-type]


def tube(
    foot: Point, bottom: float, top: float, height: float, turn: Turn = UPRIGHT, paint: str = OWN
) -> Body:
    """Make a cylinder, or for `top` < `bottom` a (cut) cone; `foot`: the centre of its base."""
    if top == bottom:
        slab = Slab((0.0, 1.0, 0.0), 0.0, height)
        quadric = Quadric((1.0, 0.0, 1.0), bottom * bottom)
        low, high = (-bottom, 0.0, -bottom), (bottom, height, bottom)
        return Body(foot, turn, (slab,), quadric, low, high, paint)
    apex = height * bottom / (bottom - top)  # above the base; own y runs from -apex to 0
    narrowing = bottom / apex
    slab = Slab((0.0, 1.0, 0.0), -apex, height - apex)
    quadric = Quadric((1.0, -narrowing * narrowing, 1.0), 0.0)
    low, high = (-bottom, -apex, -bottom), (bottom, height - apex, bottom)
    centre = outward(turn, (0.0, apex, 0.0), foot)
    return Body(centre, turn, (slab,), quadric, low, high, paint)


def wedge(
    centre: Point,
    faces: Sequence[tuple[Point, float]],
    low: Point,
    high: Point,
    turn: Turn = UPRIGHT,
    paint: str = OWN,
) -> Body:
    """Make the space below every face: (a normal of any length, the dot product with it there)."""
    slabs = []
    for (x, y, z), level in faces:
        length = math.sqrt(x * x + y * y + z * z)
        slabs.append(Slab((x / length, y / length, z / length), -50.0, level / length))
    return Body(centre, turn, tuple(slabs), None, low, high, paint)


def _scaled(body: Body, scale: float) -> Body:
    quadric = body.quadric
    return replace(
        body,
        slabs=tuple(Slab(s.normal, s.low * scale, s.high * scale) for s in body.slabs),
        quadric=quadric and Quadric(quadric.weights, quadric.level * scale * scale),
        low=tuple(scale * edge for edge in body.low),  # type: ignore[arg-type]
        high=tuple(scale * edge for edge in body.high),  # type: ignore[arg-type]
    )


# --- the kinds -----------------------------------------------------------------------------------


def _turn_of(thing: Thing) -> Turn:
    return yaw(*YAWS[thing.turn % len(YAWS)])


def _side_turn(thing: Thing, cos: float, sin: float) -> Turn:
    """Own +x points to the right and a little to the viewer, or to the left likewise."""
    return yaw(cos, sin) if thing.state == "facing right" else yaw(-cos, sin)


def _put(turn: Turn, body: Body) -> Body:
    """Turn a part about the thing's own middle."""
    return replace(body, centre=outward(turn, body.centre), turn=compose(turn, body.turn))


def _ball(thing: Thing) -> list[Body]:
    return [ellipsoid((0.0, 0.6, 0.0), (0.6, 0.6, 0.6))]


def _cube(thing: Thing) -> list[Body]:
    return [block((0.0, 0.5, 0.0), (0.5, 0.5, 0.5), _turn_of(thing))]


def _cone(thing: Thing) -> list[Body]:
    if thing.state != "lying":
        return [tube((0.0, 0.0, 0.0), 0.62, 0.0, 1.35)]
    # lies along its slant: the axis is half the opening angle above the ground
    slant = math.sqrt(0.62 * 0.62 + 1.35 * 1.35)
    side = 1.0 if thing.turn % 2 else -1.0
    turn = roll(-0.62 / slant, side * 1.35 / slant)
    middle = 1.35 / slant * 0.62
    foot = (-side * 0.5, middle, 0.0)
    return [_put(yaw(24 / 25, side * 7 / 25), tube(foot, 0.62, 0.0, 1.35, turn))]


def _cylinder(thing: Thing) -> list[Body]:
    if thing.state != "lying":
        return [tube((0.0, 0.0, 0.0), 0.5, 0.5, 1.15)]
    turn = compose(_turn_of(thing), roll(0.0, 1.0))
    foot = outward(turn, (0.0, -0.575, 0.0), (0.0, 0.5, 0.0))
    return [tube(foot, 0.5, 0.5, 1.15, turn)]


def _pyramid(thing: Thing) -> list[Body]:
    half, height = 0.62, 1.15
    faces: list[tuple[Point, float]] = [((0.0, -1.0, 0.0), 0.0)]
    for x, z in ((1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)):
        faces.append(((height * x, half, height * z), height * half))
    return [
        wedge((0.0, 0.0, 0.0), faces, (-half, 0.0, -half), (half, height, half), _turn_of(thing))
    ]


def _tree(thing: Thing) -> list[Body]:
    trunk = tube((0.0, -0.05, 0.0), 0.15, 0.1, 0.85, paint="wood")
    if thing.turn % 2:  # a fir
        crown = [
            tube((0.0, 0.5, 0.0), 0.64, 0.0, 0.85),
            tube((0.0, 1.0, 0.0), 0.5, 0.0, 0.85),
        ]
    else:
        crown = [ellipsoid((0.0, 1.2, 0.0), (0.64, 0.66, 0.64))]
    sin = {"leaning left": -7 / 25, "leaning right": 7 / 25}.get(thing.state, 0.0)
    turn = roll(24 / 25 if sin else 1.0, sin)
    return [_put(turn, part) for part in (trunk, *crown)]


def _house(thing: Thing) -> list[Body]:
    side = 1.0 if thing.state == "facing left" else -1.0
    turn = yaw(4 / 5, side * 3 / 5)
    walls = block((0.0, 0.38, 0.0), (0.5, 0.38, 0.5))
    slope = 0.5 / 0.62  # rise over run
    roof = wedge(
        (0.0, 0.74, 0.0),
        [((0.0, -1.0, 0.0), 0.0), ((0.0, 0.0, 1.0), 0.56), ((0.0, 0.0, -1.0), 0.56),
         ((slope, 1.0, 0.0), 0.5), ((-slope, 1.0, 0.0), 0.5)],
        (-0.62, 0.0, -0.56), (0.62, 0.5, 0.56), paint="roof",
    )  # fmt: skip
    gable = wedge(
        (0.0, 0.74, 0.0),
        [((0.0, -1.0, 0.0), 0.0), ((0.0, 0.0, 1.0), -0.5), ((0.0, 0.0, -1.0), 0.57),
         ((slope, 1.0, 0.0), 0.4), ((-slope, 1.0, 0.0), 0.4)],
        (-0.5, 0.0, -0.57), (0.5, 0.4, -0.5),
    )  # fmt: skip
    pale = thing.colour in ("white", "yellow", "orange")
    door = _trim(block((0.0, 0.27, -0.5), (0.18, 0.27, 0.02), paint="door" if pale else "pane"))
    pane = _trim(block((side * 0.5, 0.42, 0.0), (0.02, 0.13, 0.15), paint="glass"))
    return [_put(turn, part) for part in (walls, roof, _trim(gable), door, pane)]


def _boat(thing: Thing) -> list[Body]:
    turn = _side_turn(thing, 24 / 25, 7 / 25)
    hull = wedge(
        (0.0, 0.0, 0.0),
        [((0.0, -1.0, 0.0), 0.02), ((0.0, 1.0, 0.0), 0.34),
         ((-1.0, -0.35, 0.0), 0.68),  # the stern
         ((1.0, -0.9, 1.0), 0.6), ((1.0, -0.9, -1.0), 0.6),  # the bow
         ((0.0, -0.4, 1.0), 0.26), ((0.0, -0.4, -1.0), 0.26)],
        (-0.8, -0.02, -0.4), (0.92, 0.34, 0.4),
    )  # fmt: skip
    mast = tube((0.05, 0.3, 0.0), 0.035, 0.035, 1.25, paint="wood")
    sail = wedge(
        (0.05, 0.0, 0.0),
        [((-1.0, 0.0, 0.0), 0.0), ((0.0, -1.0, 0.0), -0.45), ((1.0, 0.68, 0.0), 1.03),
         ((0.0, 0.0, 1.0), 0.025), ((0.0, 0.0, -1.0), 0.025)],
        (0.0, 0.45, -0.025), (0.73, 1.52, 0.025), paint="sail",
    )  # fmt: skip
    flag = wedge(
        (0.05, 0.0, 0.0),
        [((1.0, 0.0, 0.0), -0.06), ((0.0, -1.0, 0.0), -0.45), ((-1.0, 0.5, 0.0), 0.72),
         ((0.0, 0.0, 1.0), 0.025), ((0.0, 0.0, -1.0), 0.025)],
        (-0.5, 0.45, -0.025), (-0.06, 1.32, 0.025), paint=OWN,
    )  # fmt: skip
    return [_put(turn, part) for part in (hull, mast, sail, flag)]


def _lamp(thing: Thing) -> list[Body]:
    turn = _side_turn(thing, 24 / 25, 7 / 25)
    foot = tube((-0.22, 0.0, 0.0), 0.3, 0.22, 0.14)
    pole = tube((-0.22, 0.1, 0.0), 0.05, 0.05, 1.4, paint="metal")
    arm = block((0.05, 1.48, 0.0), (0.3, 0.045, 0.045), paint="metal")
    shade = tube((0.3, 0.98, 0.0), 0.4, 0.12, 0.5)
    bulb = _trim(ellipsoid((0.3, 0.98, 0.0), (0.2, 0.14, 0.2), paint="glow"))
    return [_put(turn, part) for part in (foot, pole, arm, shade, bulb)]


def _chest(thing: Thing) -> list[Body]:
    turn = _turn_of(thing)
    body = block((0.0, 0.28, 0.0), (0.6, 0.28, 0.4))
    bands = [
        _trim(block((x, 0.28, 0.0), (0.05, 0.285, 0.415), paint="gold")) for x in (-0.42, 0.42)
    ]
    if thing.state == "open":
        inside = _trim(block((0.0, 0.555, 0.0), (0.53, 0.012, 0.33), paint="dark"))
        tilt = pitch(-5 / 13, 12 / 13)
        hinge = (0.0, 0.56, 0.38)
        lid = replace(block((0.0, 0.0, 0.0), (0.6, 0.1, 0.4), tilt),
                      centre=outward(tilt, (0.0, 0.1, -0.4), hinge))  # fmt: skip
        lining = replace(block((0.0, 0.0, 0.0), (0.52, 0.01, 0.32), tilt, "dark"),
                         centre=outward(tilt, (0.0, -0.005, -0.4), hinge))  # fmt: skip
        return [_put(turn, part) for part in (body, *bands, inside, lid, _trim(lining))]
    lid = block((0.0, 0.68, 0.0), (0.63, 0.12, 0.43))
    rim = _trim(block((0.0, 0.56, 0.0), (0.61, 0.025, 0.41), paint="dark"))
    straps = [
        _trim(block((x, 0.68, 0.0), (0.05, 0.126, 0.445), paint="gold")) for x in (-0.42, 0.42)
    ]
    lock = _trim(block((0.0, 0.56, -0.43), (0.09, 0.1, 0.02), paint="gold"))
    return [_put(turn, part) for part in (body, *bands, rim, lid, *straps, lock)]


def _car(thing: Thing) -> list[Body]:
    turn = _side_turn(thing, 24 / 25, 7 / 25)
    lower = block((0.0, 0.3, 0.0), (0.8, 0.17, 0.36))
    cabin = wedge(
        (-0.12, 0.46, 0.0),
        [((0.0, -1.0, 0.0), 0.0), ((0.0, 1.0, 0.0), 0.27), ((1.0, 0.8, 0.0), 0.5),
         ((-1.0, 0.4, 0.0), 0.5), ((0.0, 0.25, 1.0), 0.34), ((0.0, 0.25, -1.0), 0.34)],
        (-0.5, 0.0, -0.34), (0.5, 0.27, 0.34), paint="glass",
    )  # fmt: skip
    top = block((-0.17, 0.75, 0.0), (0.36, 0.035, 0.28))
    light = _trim(block((0.79, 0.33, 0.0), (0.025, 0.06, 0.3), paint="glow"))
    wheels = [tube((x, 0.2, -0.4), 0.2, 0.2, 0.8, pitch(0.0, 1.0), "tyre") for x in (-0.48, 0.48)]
    hubs = [
        _trim(tube((x, 0.2, -0.41), 0.09, 0.09, 0.05, pitch(0.0, 1.0), "metal"))
        for x in (-0.48, 0.48)
    ]
    return [_put(turn, part) for part in (lower, cabin, top, light, *wheels, *hubs)]


_BUILDERS: dict[str, Callable[[Thing], list[Body]]] = {
    "ball": _ball, "cube": _cube, "cone": _cone, "cylinder": _cylinder, "pyramid": _pyramid,
    "tree": _tree, "house": _house, "boat": _boat, "lamp": _lamp, "chest": _chest, "car": _car,
}  # fmt: skip
