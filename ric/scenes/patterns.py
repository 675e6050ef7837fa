"""Patterns of the places (waves, patches, skies, hills) from + - * /, floor and comparisons.

u (1, W) and v (H, 1) are screen coordinates, x (H, W) and z (H, 1) the ground's; colours are
(3, H, W), 0 to 255.
"""

from __future__ import annotations

import numpy as np

from ric.scenes.bodies import FAR, Floats
from ric.scenes.camera import EYE, HORIZON

RGB = tuple[float, float, float]


def wave(value: Floats) -> Floats:
    """Return a triangle wave of period 1, from 0 at whole numbers to 1 between them."""
    folded = value - np.floor(value)
    return 1 - np.abs(2 * folded - 1)


def ease(value: Floats) -> Floats:
    """Smooth both ends of a ramp from 0 to 1."""
    value = np.minimum(np.maximum(value, 0.0), 1.0)
    return value * value * (3 - 2 * value)


def step(value: Floats, width: float) -> Floats:
    """Rise from 0 to 1 as `value` goes from 0 to `width`."""
    return np.minimum(np.maximum(value * (1 / width), 0.0), 1.0)


def mottled(x: Floats, z: Floats, size: float) -> Floats:
    """Return soft patches about `size` wide, from 0 to 1."""
    a, b = x * (1 / size), z * (1 / size)
    first = wave(0.31 * a + 0.17 * b + 0.1) + wave(0.23 * b - 0.37 * a + 0.4)
    second = wave(0.61 * a + 0.53 * b) * wave(0.47 * b - 0.71 * a + 0.3)
    return faded(0.35 * first + 0.3 * second, z)


def faded(pattern: Floats, z: Floats) -> Floats:
    """Fade a pattern to 0.5 in the distance, where it would be finer than the pixels."""
    return 0.5 + (pattern - 0.5) * (1 - step(z - 8, 9))


def mixed(under: RGB | Floats, over: RGB, share: Floats) -> Floats:
    """Blend `share` of one colour over another: (3, H, W)."""
    low = (
        np.asarray(under, dtype=np.float32).reshape(3, 1, 1) if isinstance(under, tuple) else under
    )
    high = np.asarray(over, dtype=np.float32).reshape(3, 1, 1)
    return low + (high - low) * share


def ground_places(u: Floats, v: Floats) -> tuple[Floats, Floats, Floats]:
    """Return x (H, W), z (at most 60) and depth (H, 1) of the ground; FAR above the horizon."""
    below = v - HORIZON
    # screen v is HORIZON + EYE / (SPREAD z)
    z = np.where(below > 1e-3, EYE / 0.5 / np.maximum(below, 1e-3), FAR).astype(np.float32)
    near = np.minimum(z, 60.0)
    return 0.5 * u * near, near, z


def clouded_sky(u: Floats, v: Floats, colours: tuple[RGB, RGB, RGB], at: float) -> Floats:
    """Draw a sky with a few clouds around x = `at`; colours: top, horizon and clouds."""
    high, low, cloud = colours
    colour = mixed(high, low, ease((v + 1) * (1 / (HORIZON + 1))) + 0 * u)
    puffs: Floats = np.zeros((1, 1), dtype=np.float32)
    for across, down, wide, tall in (
        (at - 0.55, -0.86, 0.22, 0.055), (at - 0.42, -0.9, 0.13, 0.06),
        (at - 0.66, -0.845, 0.12, 0.035),
        (at + 0.45, -0.78, 0.19, 0.04), (at + 0.55, -0.805, 0.11, 0.045),
    ):  # fmt: skip
        a, b = (u - across) * (1 / wide), (v - down) * (1 / tall)
        puffs = np.maximum(puffs, ease(1.5 * (1 - a * a - b * b)))
    return mixed(colour, cloud, 0.85 * puffs)


def hill(u: Floats, v: Floats, middle: float, width: float, height: float) -> Floats:
    """Mark what is below a parabola that stands on the horizon: (H, W), 0 or 1."""
    a = (u - middle) * (1 / width)
    return (v > HORIZON - height * (1 - a * a)).astype(np.float32)


def peak(u: Floats, v: Floats, middle: float, width: float, height: float) -> Floats:
    """Mark what is below a triangle that stands on the horizon: (H, W), 0 or 1."""
    a = np.abs(u - middle) * (1 / width)
    return (v > HORIZON - height * (1 - a)).astype(np.float32)
