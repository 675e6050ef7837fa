"""The colours by name, 0 to 255 each: far enough apart to be distinct on a thing's dark side."""

from __future__ import annotations

import numpy as np

from ric.scenes.bodies import Floats

RGB = tuple[int, int, int]

# What things are painted with: first the colours of things.COLOURS, then those of their parts.
PAINTS: dict[str, RGB] = {
    "red": (216, 38, 40),
    "orange": (246, 132, 20),
    "yellow": (250, 216, 44),
    "green": (34, 150, 62),
    "blue": (42, 92, 220),
    "purple": (142, 62, 188),
    "white": (244, 243, 240),
    "black": (46, 46, 52),
    "wood": (118, 80, 50),
    "roof": (122, 84, 70),
    "door": (92, 58, 40),
    "pane": (252, 236, 176),
    "sail": (246, 240, 224),
    "metal": (104, 108, 120),
    "glow": (255, 240, 170),
    "gold": (226, 182, 70),
    "dark": (52, 40, 36),
    "glass": (176, 208, 226),
    "tyre": (44, 44, 48),
}  # fmt: skip

NUMBERS = {paint: number for number, paint in enumerate(PAINTS)}
LEVELS: Floats = np.array(list(PAINTS.values()), dtype=np.float32).T.copy()  # (3, paints)
