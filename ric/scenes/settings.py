"""The places a scene can be in: what they are called, what may stand there, how they look.

Each place is drawn by one function of screen rays. It returns the colour of what is behind
all things, and its depth: the ground, a wall, or the sky at FAR. Patterns are made of triangle
waves of the ground's own coordinates, so that they lie flat and look alike at any size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ric.scenes.bodies import FAR, Floats
from ric.scenes.camera import EYE, HORIZON
from ric.scenes.patterns import (
    RGB,
    clouded_sky,
    ease,
    faded,
    ground_places,
    hill,
    mixed,
    mottled,
    peak,
    step,
    wave,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class View:
    """The ground and the background along each ray.

    Attributes:
        colour: (3, H, W), 0 to 255, without shadows.
        depth: (H, 1) or (H, W); FAR in the sky.
        ground: bool (H, 1) or (H, W), True on the ground.
    """

    colour: Floats
    depth: Floats
    ground: np.ndarray


@dataclass(frozen=True)
class Setting:
    """A place.

    Attributes:
        words: Its name in a sentence: "a green meadow".
        ground: What an empty spot of it shows: "grass".
        on: The ground in a phrase: "on the grass".
        behind: What is seen behind it, in a sentence.
        texture: Its ground, in a sentence.
        kinds: What may stand there.
        poor: Colours that would be hard to see there.
        mirror: The share of a mirror image on its ground, 0 for none.
        shade: How much of the ground's light a full shadow takes.
        draw: Draws it: (u (1, W), v (H, 1), variant) to a View.
    """

    words: str
    ground: str
    on: str
    behind: str
    texture: str
    kinds: tuple[str, ...]
    poor: tuple[str, ...]
    shade: float
    draw: Callable[[Floats, Floats, int], View]
    mirror: float = 0.0

    @property
    def is_water(self) -> bool:
        """True where things float."""
        return self.ground == "water"


def _join(sky: Floats, ground: Floats, depth: Floats) -> View:
    on_ground = depth < FAR
    return View(np.where(on_ground, ground, sky).astype(np.float32, copy=False), depth, on_ground)


def _indoors(u: Floats, v: Floats, wall_z: float, wall: Floats, floor: Floats) -> View:
    _, _, depth = ground_places(u, v)
    on_ground = depth < wall_z
    colour = np.where(on_ground, floor, wall).astype(np.float32, copy=False)
    return View(colour, np.minimum(depth, np.float32(wall_z)), on_ground)


# --- the places ----------------------------------------------------------------------------------


def _meadow(u: Floats, v: Floats, variant: int) -> View:
    x, z, depth = ground_places(u, v)
    at = (0.1, -0.3, 0.35)[variant]
    sky = clouded_sky(u, v, ((112, 176, 236), (206, 232, 248), (255, 255, 255)), at)
    sky = mixed(sky, (128, 176, 150), hill(u, v, 0.5 - at, 0.9, 0.16))
    sky = mixed(sky, (104, 164, 112), hill(u, v, -0.7 + at, 0.8, 0.11))
    grass = mixed((120, 184, 82), (148, 206, 100), mottled(x, z, 0.9))
    grass = mixed(grass, (164, 206, 132), ease((z - 6) * 0.05))
    return _join(sky, grass, depth)


def _lake(u: Floats, v: Floats, variant: int) -> View:
    x, z, depth = ground_places(u, v)
    at = (0.0, 0.4, -0.4)[variant]
    sky = clouded_sky(u, v, ((126, 186, 232), (226, 238, 242), (255, 255, 255)), at)
    sky = mixed(sky, (112, 150, 140), hill(u, v, 0.45 + at, 0.75, 0.15))
    sky = mixed(sky, (84, 132, 110), hill(u, v, -0.6 + at, 1.1, 0.09))
    swell = ease(wave(1.3 * z + 0.12 * x + 0.3 * wave(0.35 * x))) * wave(0.3 * x + 0.8 * z)
    water = mixed((72, 148, 176), (110, 180, 198), 0.7 * faded(swell, z))
    water = mixed(water, (168, 208, 214), ease((z - 6.5) * 0.06))
    shore = mixed(water, (96, 140, 118), (z > 34).astype(np.float32) + 0 * u)
    return _join(sky, shore, depth)


def _snow(u: Floats, v: Floats, variant: int) -> View:
    x, z, depth = ground_places(u, v)
    at = (0.2, -0.2, 0.5)[variant]
    sky = clouded_sky(u, v, ((150, 186, 222), (226, 234, 244), (246, 248, 252)), at)
    for middle, width, height in ((-0.62, 0.62, 0.34), (0.1, 0.55, 0.26), (0.72, 0.6, 0.38)):
        sky = mixed(sky, (142, 160, 190), peak(u, v, middle + at * 0.3, width, height))
        sky = mixed(sky, (240, 244, 250), peak(u, v, middle + at * 0.3, width, height)
                     * (v < HORIZON - 0.6 * height))  # fmt: skip
    field = mixed((226, 233, 244), (244, 247, 252), mottled(x, z, 1.1))
    return _join(sky, field, depth)


def _desert(u: Floats, v: Floats, variant: int) -> View:
    x, z, depth = ground_places(u, v)
    at = (0.3, -0.4, 0.0)[variant]
    sky = mixed((120, 178, 222), (250, 232, 196), ease((v + 1) * (1 / (HORIZON + 1))) + 0 * u)
    sky = mixed(sky, (222, 178, 118), hill(u, v, 0.5 + at, 0.95, 0.13))
    sky = mixed(sky, (206, 160, 102), hill(u, v, -0.75 + at, 0.7, 0.09))
    ripple = ease(wave(1.1 * z + 0.25 * x + 0.8 * wave(0.21 * x - 0.05 * z)))
    sand = mixed(
        (222, 184, 126), (238, 206, 152), 0.6 * faded(ripple, z) + 0.4 * mottled(x, z, 1.4)
    )
    return _join(sky, sand, depth)


def _hall(u: Floats, v: Floats, variant: int) -> View:
    x, z, _ = ground_places(u, v)
    wall_z = 10.0
    foot = HORIZON + EYE / (0.5 * wall_z)
    paint: RGB = ((206, 196, 178), (178, 196, 202), (204, 182, 176))[variant]
    darker: RGB = tuple(0.86 * level for level in paint)  # type: ignore[assignment]
    panel = step(wave(1.6 * u + 0.25) - 0.12, 0.05) * step(foot - 0.1 - v, 0.02)
    wall = mixed(darker, paint, 0.35 + 0.65 * panel)
    wall = mixed(wall, (246, 244, 238), step(v - (foot - 0.06), 0.01) + 0 * u)
    tile = (np.floor(x * 0.8 + 20.5) + np.floor(z * 0.8)) * 0.5
    floor = mixed((164, 146, 130), (200, 184, 166), (tile > np.floor(tile)).astype(np.float32))
    return _indoors(u, v, wall_z, wall, floor)


def _room(u: Floats, v: Floats, variant: int) -> View:
    x, z, _ = ground_places(u, v)
    wall_z = 10.0
    foot = HORIZON + EYE / (0.5 * wall_z)
    paint: RGB = ((196, 212, 190), (226, 206, 176), (186, 200, 222))[variant]
    lighter: RGB = tuple(min(255.0, level * 1.08) for level in paint)  # type: ignore[assignment]
    stripes = step(wave(3.0 * u) - 0.5, 0.08)
    wall = mixed(paint, lighter, stripes + 0 * v)
    wall = mixed(wall, (250, 248, 240), step(v - (foot - 0.07), 0.01) + 0 * u)
    board = x * 1.1 + 30
    seam = step(wave(board) - 0.05, 0.05)
    tone = wave(np.floor(board) * 0.37)
    floor = mixed((176, 132, 92), (198, 154, 110), tone + 0 * z)
    floor = mixed((142, 102, 70), (255, 255, 255), 0 * seam) * (1 - seam) + floor * seam
    return _indoors(u, v, wall_z, wall, floor)


def _table(u: Floats, v: Floats, variant: int) -> View:
    x, z, _ = ground_places(u, v)
    wall_z = 9.4
    foot = HORIZON + EYE / (0.5 * wall_z)
    deep: RGB = ((66, 92, 104), (96, 78, 92), (74, 98, 82))[variant]
    pale: RGB = tuple(1.5 * level for level in deep)  # type: ignore[assignment]
    a, b = u * 0.8, (v + 0.75) * 0.9
    wall = mixed(deep, pale, ease(1.1 - a * a - b * b))
    grain = wave(0.55 * z + 0.22 * wave(0.3 * x + 0.4) + 0.06 * wave(1.1 * x + 0.7 * z))
    fine = wave(2.3 * z + 0.3 * wave(0.4 * x))
    top = mixed((190, 140, 92), (216, 168, 116), 0.7 * grain + 0.3 * fine)
    top = mixed(top, (232, 190, 140), step(0.025 - (v - foot), 0.005) + 0 * u)
    return _indoors(u, v, wall_z, wall, top)


def _street(u: Floats, v: Floats, variant: int) -> View:
    x, z, depth = ground_places(u, v)
    far_z = 15.0
    foot = HORIZON + EYE / (0.5 * far_z)
    sky = mixed((120, 178, 230), (214, 230, 242), ease((v + 1) * (1 / (HORIZON + 1))) + 0 * u)
    shift = (0.0, 0.13, -0.11)[variant]
    for left, right, height, paint in (
        (-1.3, -0.72, 0.66, (186, 156, 144)), (-0.72, -0.4, 0.5, (158, 168, 184)),
        (-0.4, -0.1, 0.74, (198, 182, 156)), (-0.1, 0.24, 0.56, (172, 152, 156)),
        (0.24, 0.52, 0.68, (154, 168, 176)), (0.52, 0.88, 0.52, (194, 170, 150)),
        (0.88, 1.5, 0.7, (166, 162, 176)),
    ):  # fmt: skip
        inside = (u > left + shift) & (u < right + shift) & (v > foot - height)
        sky = mixed(sky, paint, inside.astype(np.float32))
        rows = (wave(7.0 * (v - foot)) > 0.5) & (wave(7.0 * (u - shift)) > 0.45)
        panes = rows & inside & (v < foot - 0.07)
        sky = mixed(sky, (112, 128, 146), 0.6 * panes.astype(np.float32))
    road = mixed((138, 140, 146), (152, 154, 160), mottled(x, z, 0.8))
    dash = ((np.abs(z - 6.1) < 0.09) & (wave(0.35 * x + shift) > 0.45)).astype(np.float32)
    road = mixed(road, (238, 236, 226), dash)
    road = mixed(road, (196, 190, 180), (z > 10.5).astype(np.float32) + 0 * x)
    road = mixed(road, (166, 160, 152), ((z > 10.5) & (z < 10.8)).astype(np.float32) + 0 * x)
    on_ground = depth < far_z
    colour = np.where(on_ground, road, sky).astype(np.float32, copy=False)
    return View(colour, np.where(on_ground, depth, np.float32(FAR)), on_ground)


_SOLIDS = ("ball", "cube", "cone", "cylinder", "pyramid")

SETTINGS: dict[str, Setting] = {
    "meadow": Setting(
        "a green meadow", "grass", "on the grass",
        "Low green hills and a blue sky with a few white clouds lie behind it",
        "the grass is short and softly mottled",
        (*_SOLIDS, "tree", "house", "chest"), ("green",), 0.48, _meadow,
    ),
    "lake": Setting(
        "a calm lake", "water", "on the water",
        "A wooded far shore and a pale sky with white clouds lie behind it",
        "the blue-green water is smooth with faint ripples",
        (*_SOLIDS, "boat", "boat", "boat"), ("blue",), 0.34, _lake, 0.5,
    ),
    "snow field": Setting(
        "a snow field", "snow", "on the snow",
        "Blue-grey mountains with white tops stand behind it under a pale sky",
        "the snow is white and even",
        (*_SOLIDS, "tree", "house", "chest"), ("white",), 0.42, _snow,
    ),
    "desert": Setting(
        "a sandy desert", "sand", "on the sand",
        "Low dunes lie behind it under a sky that pales towards the horizon",
        "the sand is warm yellow with faint ripples",
        (*_SOLIDS, "house", "chest", "car"), ("yellow",), 0.48, _desert,
    ),
    "hall": Setting(
        "a hall with a polished floor", "polished floor", "on the polished floor",
        "A panelled wall closes it at the back",
        "the floor is laid with shiny square tiles",
        (*_SOLIDS, "lamp", "chest", "lamp"), (), 0.42, _hall, 0.36,
    ),
    "room": Setting(
        "a room with a wooden floor", "wooden floor", "on the wooden floor",
        "A striped wall closes it at the back",
        "the floor is made of matt brown boards",
        (*_SOLIDS, "lamp", "chest", "lamp"), (), 0.48, _room,
    ),
    "table": Setting(
        "a wooden table top", "table top", "on the table",
        "A plain dark wall is behind it",
        "the table is matt wood with a fine grain",
        (*_SOLIDS, "lamp", "chest", "car", "house"), (), 0.48, _table,
    ),
    "street": Setting(
        "a quiet street", "asphalt", "on the asphalt",
        "A row of houses with many windows stands behind it under a blue sky",
        "the asphalt is grey with a dashed white line",
        (*_SOLIDS, "tree", "house", "lamp", "car", "car"), (), 0.48, _street,
    ),
}  # fmt: skip

PLACES = tuple(SETTINGS)
VARIANTS = 3
