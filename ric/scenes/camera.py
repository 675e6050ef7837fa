"""The one camera of every scene: level, above the ground, its horizon in the upper third.

Coordinates. World: x to the right, y up, z away from the viewer; the ground is y = 0 and a unit is
about the width of a small object. Screen: from -1 to 1, to the right and down. A ray through screen
point (u, v) has the direction (SPREAD u, SPREAD (HORIZON - v), 1), so that the ray parameter is the
depth z. Vertical things stay vertical, as in a photograph taken with a shifted lens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

Point = tuple[float, float, float]

EYE = 3.0  # height of the camera
SPREAD = 0.5  # half the picture's width at depth 1
HORIZON = -0.44  # screen
NEAR_Z, FAR_Z = 4.7, 7.9  # where things stand
CLOSEST = 1.0  # depth; nothing nearer is drawn


def project(point: Point) -> tuple[float, float]:
    """Project a world point in front of the camera onto the screen."""
    x, y, z = point
    return x / (SPREAD * z), HORIZON - (y - EYE) / (SPREAD * z)


@dataclass(frozen=True)
class Box:
    """A rectangle on the screen, in its coordinates."""

    left: float
    top: float
    right: float
    bottom: float

    def __or__(self, other: Box) -> Box:
        """Return the smallest box around both."""
        return Box(
            min(self.left, other.left), min(self.top, other.top),
            max(self.right, other.right), max(self.bottom, other.bottom),
        )  # fmt: skip


def box_around(points: Iterable[Point]) -> Box:
    """Return the screen box of a convex body's corners, any nearer than CLOSEST moved there."""
    places = [project((x, y, max(z, CLOSEST))) for x, y, z in points]
    across, down = zip(*places, strict=True)
    return Box(min(across), min(down), max(across), max(down))


@dataclass(frozen=True)
class Window:
    """A window of a picture of `size` x `size` pixels; `right` and `bottom` are exclusive."""

    left: int
    top: int
    right: int
    bottom: int
    size: int

    @classmethod
    def whole(cls, size: int) -> Window:
        """Return the window of the whole picture."""
        return cls(0, 0, size, size, size)

    def clip(self, box: Box) -> Window | None:
        """Return the part of this window that a screen box touches; None if there is none."""
        half = self.size / 2
        # one pixel more on each side: a body's edge is rounded in float32
        left = max(self.left, int((max(box.left, -1.0) + 1) * half) - 1)
        top = max(self.top, int((max(box.top, -1.0) + 1) * half) - 1)
        right = min(self.right, int((min(box.right, 1.0) + 1) * half) + 2)
        bottom = min(self.bottom, int((min(box.bottom, 1.0) + 1) * half) + 2)
        if left >= right or top >= bottom:
            return None
        return Window(left, top, right, bottom, self.size)

    def within(self, outer: Window) -> tuple[slice, slice]:
        """Return the rows and columns of this window in an array that holds `outer`."""
        return (
            slice(self.top - outer.top, self.bottom - outer.top),
            slice(self.left - outer.left, self.right - outer.left),
        )

    def times(self, count: int) -> Window:
        """Return the same part of a picture with `count` times the resolution."""
        return Window(*(count * edge for edge in (
            self.left, self.top, self.right, self.bottom, self.size
        )))  # fmt: skip
