"""The things of a scene: their label sets, and a thing as plain data.

The label sets are in a fixed order: a classifier's outputs may be numbered by them.
"""

from __future__ import annotations

from dataclasses import dataclass

KINDS = (
    "ball", "cube", "cone", "cylinder", "pyramid", "tree", "house", "boat", "lamp", "chest", "car",
)  # fmt: skip
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
MATERIALS = ("matte", "glossy")
SIZES = ("small", "large")

# A kind's states, which an action turns into one another; kinds not named here have none.
STATES: dict[str, tuple[str, ...]] = {
    "cone": ("upright", "lying"),
    "cylinder": ("upright", "lying"),
    "tree": ("upright", "leaning left", "leaning right"),
    "house": ("facing left", "facing right"),
    "boat": ("facing left", "facing right"),
    "lamp": ("facing left", "facing right"),
    "chest": ("closed", "open"),
    "car": ("facing left", "facing right"),
}

SCALES = {"small": 1.12, "large": 1.55}

# Half the width and the height of a kind at scale 1: how far apart things are kept.
FOOTPRINTS: dict[str, tuple[float, float]] = {
    "ball": (0.6, 1.2), "cube": (0.64, 1.0), "cone": (0.62, 1.35), "cylinder": (0.55, 1.15),
    "pyramid": (0.8, 1.15), "tree": (0.66, 1.85), "house": (0.68, 1.3), "boat": (0.8, 1.5),
    "lamp": (0.66, 1.6), "chest": (0.66, 0.95), "car": (0.82, 0.8),
}  # fmt: skip
_OTHER_FOOTPRINTS: dict[tuple[str, str], tuple[float, float]] = {
    ("cone", "lying"): (0.88, 1.24), ("cylinder", "lying"): (0.72, 1.0),
    ("tree", "leaning left"): (0.98, 1.85), ("tree", "leaning right"): (0.98, 1.85),
    ("chest", "open"): (0.66, 1.35),
}  # fmt: skip
_MEASURES = {
    (kind, state, size): tuple(
        scale * side for side in _OTHER_FOOTPRINTS.get((kind, state), FOOTPRINTS[kind])
    )
    for kind in KINDS
    for state in STATES.get(kind, ("",))
    for size, scale in SCALES.items()
}


@dataclass(frozen=True)
class Thing:
    """One object: what it is, how it looks and where it stands.

    Attributes:
        kind: One of KINDS.
        colour: One of COLOURS.
        material: One of MATERIALS.
        size: One of SIZES.
        x: To the right of the picture's middle, world units.
        z: Away from the viewer, world units.
        turn: Which of the small turns about the vertical, see shapes.YAWS.
        state: One of STATES[kind], or "" where the kind has none.
    """

    kind: str
    colour: str
    material: str
    size: str
    x: float
    z: float
    turn: int = 0
    state: str = ""

    @property
    def scale(self) -> float:
        """The factor on the kind's own measures."""
        return SCALES[self.size]

    @property
    def half_width(self) -> float:
        """Half its width on the ground, world units."""
        return _MEASURES[self.kind, self.state, self.size][0]

    @property
    def height(self) -> float:
        """Its height, world units."""
        return _MEASURES[self.kind, self.state, self.size][1]

    @property
    def look(self) -> tuple[str, str]:
        """Its colour and kind, as the held-out pairs are named."""
        return self.colour, self.kind

    def at(self, x: float, z: float) -> Thing:
        """Return the same thing elsewhere."""
        return Thing(
            self.kind, self.colour, self.material, self.size, x, z, self.turn, self.state
        )  # fmt: skip
