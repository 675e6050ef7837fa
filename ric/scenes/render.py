"""A scene as pixels, and two scenes as a pair that differs only where it must.

Rendering uses + - * / sqrt and comparisons on float32 arrays, element by element, and sums in a
fixed order, so a scene has the same pixels on every CPU. Several rays per pixel smooth the edges.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import or_
from typing import TYPE_CHECKING

import numpy as np

from ric.scenes.bodies import FAR, Floats, Number
from ric.scenes.camera import EYE, HORIZON, Box, Window
from ric.scenes.colours import LEVELS
from ric.scenes.patterns import ease, wave
from ric.scenes.photos import behind
from ric.scenes.settings import SETTINGS, View
from ric.scenes.shadows import shade, shadow_box
from ric.scenes.shapes import bodies_of
from ric.scenes.tracing import Rays, Seen, look, make_rays, mirror, screen_box

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ric.scenes.scene import Scene
    from ric.scenes.things import Thing

_RIPPLE = 0.016  # how far water bends a mirror image, in dx
_KEPT_UP_TO = 384  # rays along a side; such a view takes 1.8 MB


@dataclass(frozen=True)
class Pair:
    """An edit as pixels.

    Attributes:
        source: uint8 (H, W, 3).
        target: uint8 (H, W, 3); it differs from the source in no pixel outside the two masks.
        mask: bool (H, W): where the things that change are seen before or after; not their shadows
            and mirror images.
        context_mask: bool (H, W): where else the pictures differ.
    """

    source: NDArray[np.uint8]
    target: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    context_mask: NDArray[np.bool_]


def render(scene: Scene, size: int, *, shadows: bool = True) -> NDArray[np.uint8]:
    """Draw a scene.

    Args:
        scene: The scene.
        size: Width and height in pixels.
        shadows: Draw cast shadows and mirror images too.

    Returns:
        uint8 (size, size, 3).
    """
    pixels, _ = _draw(scene, Window.whole(size), shadows=shadows)
    return pixels


def render_pair(source: Scene, target: Scene, size: int, *, shadows: bool = True) -> Pair:
    """Draw a scene before and after an edit.

    The target is drawn anew only in a window around what changes: the things themselves, their
    shadows and their mirror images. A window has the bits that the whole would have.

    Args:
        source: The scene before.
        target: The same place and light with other things.
        size: Width and height in pixels.
        shadows: Draw cast shadows and mirror images too.
    """
    whole = Window.whole(size)
    gone = list((Counter(source.things) - Counter(target.things)).elements())
    come = list((Counter(target.things) - Counter(source.things)).elements())
    before, owners = _draw(source, whole, shadows=shadows)
    mask = _covered(owners, _numbers(source.things, gone))
    after = before.copy()
    boxes = [box for thing in (*gone, *come) for box in _boxes(thing, source, shadows=shadows)]
    window = whole.clip(reduce(or_, boxes)) if boxes else None
    if window:
        place = window.within(whole)
        after[place], owners = _draw(target, window, shadows=shadows)
        mask[place] |= _covered(owners, _numbers(target.things, come))
    differs = (before != after).any(-1)
    return Pair(before, after, mask, differs & ~mask)


def rays_per_pixel(size: int) -> int:
    """Return how many rays a pixel gets along each side: more where pixels are large."""
    return 3 if size <= 160 else 2


def _numbers(things: Sequence[Thing], some: Sequence[Thing]) -> list[int]:
    return [number for number, thing in enumerate(things) if thing in some]


def _covered(owners: NDArray[np.int8], numbers: Sequence[int]) -> NDArray[np.bool_]:
    """Mark pixels in which any ray meets one of these things: (H, W) of (rays, rays, H, W)."""
    found = np.zeros(owners.shape[2:], dtype=bool)
    for number in numbers:
        found |= (owners == number).any(axis=(0, 1))
    return found


def _boxes(thing: Thing, scene: Scene, *, shadows: bool) -> list[Box]:
    boxes = []
    for body in bodies_of(thing):
        boxes.append(screen_box(body))
        if shadows:
            boxes.append(shadow_box(body, scene.light))
        if shadows and scene.setting.mirror:
            image = screen_box(body, mirrored=True)
            bent = _RIPPLE / 0.5
            boxes.append(Box(image.left - bent, image.top, image.right + bent, image.bottom))
    return boxes


def _draw(
    scene: Scene, window: Window, *, shadows: bool
) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
    """Draw a window: its pixels, and each ray's owner as (rays, rays, H, W)."""
    count = rays_per_pixel(window.size)
    rays = make_rays(window.times(count))
    view = _view(scene, rays)
    colour = view.colour.copy()
    shape = colour.shape[1:]
    seen = look(rays, scene.things, scene.light, np.broadcast_to(view.depth, shape).copy())
    shadow = np.zeros(shape, dtype=np.float32)
    if shadows:
        shade(rays, scene.things, scene.light, seen.depth, shadow)
        lit = np.where(view.depth < FAR, 1 - scene.setting.shade * shadow, np.float32(1))
        colour *= lit
        if scene.setting.mirror:
            _add_mirror_images(scene, rays, view, colour)
    _paint(colour, seen, seen.owner >= 0, shadow)
    cells = seen.owner.reshape(shape[0] // count, count, shape[1] // count, count)
    return _averaged(colour, count), cells.transpose(1, 3, 0, 2)


def _view(scene: Scene, rays: Rays) -> View:
    """Draw what is behind all things; small views of a place are cached."""
    if rays.window.size > _KEPT_UP_TO:
        view = scene.setting.draw(rays.u, rays.v, scene.variant)
    else:
        rows, columns = rays.window.within(Window.whole(rays.window.size))
        whole = _whole_view(scene.place, scene.variant, rays.window.size)
        view = View(whole.colour[:, rows, columns], whole.depth[rows], whole.ground[rows])
    return behind(scene.photo, rays, view) if scene.photo else view


@lru_cache(maxsize=32)
def _whole_view(place: str, variant: int, size: int) -> View:
    rays = make_rays(Window.whole(size))
    return SETTINGS[place].draw(rays.u, rays.v, variant)


def _paint(
    colour: Floats,
    seen: Seen,
    where: NDArray[np.bool_],
    shadow: Floats | None,
    share: Floats | None = None,
) -> None:
    """Paint the things' lit colours over `colour`, blended by `share` where that is given.

    Args:
        colour: (3, H, W), 0 to 255 and over; written to.
        seen: The things, (H, W).
        where: (H, W), where to paint.
        shadow: (H, W), or None where there is none.
        share: (N,), one for each of the N points of `where`; None: opaque.
    """
    spots = np.flatnonzero(where)
    if not spots.size:
        return
    lit, shine = seen.direct.ravel()[spots], 255.0 * seen.shine.ravel()[spots]
    if shadow is not None:
        dim = 1 - shadow.ravel()[spots]
        lit, shine = lit * dim, shine * (0.2 + 0.8 * dim)
    lit = lit + seen.ambient.ravel()[spots]
    paint = seen.paint.ravel()[spots]
    for plane, levels in zip(colour, LEVELS, strict=True):
        flat = plane.reshape(-1)
        new = levels[paint] * lit + shine
        if share is not None:
            old = flat[spots]
            new = old + (new - old) * share
        flat[spots] = new


def _add_mirror_images(scene: Scene, rays: Rays, view: View, colour: Floats) -> None:
    """Mix the things' mirror images into the ground."""
    shape = colour.shape[1:]
    water = scene.setting.is_water
    ripple: Number = _RIPPLE * (2 * wave(1.9 * _ground_z(rays)) - 1) if water else np.float32(0)
    below = mirror(rays, ripple)
    image = look(below, scene.things, scene.light, np.full(shape, FAR, dtype=np.float32))
    where = (image.owner >= 0) & view.ground
    # higher parts are mirrored more weakly
    height = (image.depth * below.dy - EYE)[where]
    share = scene.setting.mirror * (1 - 0.55 * ease(height * 0.4))
    _paint(colour, image, where, None, share)


def _ground_z(rays: Rays) -> Floats:
    return EYE / 0.5 / np.maximum(rays.v - HORIZON, 0.05)


def _averaged(colour: Floats, count: int) -> NDArray[np.uint8]:
    """Average each pixel's rays, in a fixed order: uint8 (H, W, 3) of (3, H count, W count)."""
    rows = colour[:, 0::count]
    for first in range(1, count):
        rows = rows + colour[:, first::count]
    total = rows[:, :, 0::count]
    for first in range(1, count):
        total = total + rows[:, :, first::count]
    levels = np.minimum(np.maximum(total * (1 / (count * count)), 0), 255) + 0.5
    # the cast truncates: 255.5 becomes 255
    return np.ascontiguousarray(levels.astype(np.uint8).transpose(1, 2, 0))
