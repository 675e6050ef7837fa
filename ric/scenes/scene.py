"""A scene as data: where it is, how it is lit, and what stands in it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ric.scenes.settings import SETTINGS, Setting

if TYPE_CHECKING:
    from ric.scenes.camera import Point
    from ric.scenes.things import Thing

# A shadow's length relative to its caster's height, and how fast its edge fades.
REACH = {"low": 1.45, "high": 0.6}
SOFTNESS = {"low": 0.42, "high": 0.06}

# Horizontal directions to the light: (to the side, to the back), of length 1.
BEARINGS = ((12 / 13, 5 / 13), (4 / 5, 3 / 5))


@dataclass(frozen=True)
class Light:
    """The direction of the light.

    Attributes:
        side: `left` or `right`.
        depth: `front` (the viewer's side) or `back`.
        height: `low` (long, soft shadows) or `high` (short, hard ones).
        bearing: Which of BEARINGS.
    """

    side: str
    depth: str
    height: str
    bearing: int = 0

    @property
    def direction(self) -> Point:
        """The unit vector towards the light."""
        across, away = BEARINGS[self.bearing]
        x = across * REACH[self.height] * (1.0 if self.side == "right" else -1.0)
        z = away * REACH[self.height] * (1.0 if self.depth == "back" else -1.0)
        length = math.sqrt(x * x + 1.0 + z * z)
        return x / length, 1.0 / length, z / length

    @property
    def softness(self) -> float:
        """The width of a shadow's soft edge, relative to the distance from its caster."""
        return SOFTNESS[self.height]


@dataclass(frozen=True)
class Scene:
    """Everything a picture is drawn from.

    Attributes:
        place: The setting's name, a key of settings.SETTINGS.
        variant: Which of the setting's colourings.
        light: The direction of the light.
        things: What stands in it; a thing keeps its place in the tuple.
        photo: The name of a photograph behind it in place of the sky or wall, or "".
    """

    place: str
    variant: int
    light: Light
    things: tuple[Thing, ...]
    photo: str = ""

    @property
    def setting(self) -> Setting:
        """The place's row of settings.SETTINGS."""
        return SETTINGS[self.place]

    def having(self, things: tuple[Thing, ...]) -> Scene:
        """Return the same place and light with other things."""
        return replace(self, things=things)
