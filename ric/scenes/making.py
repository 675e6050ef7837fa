"""Draw a random scene: a place, a light, and things that fit both."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ric.scenes.held_out import HELD_OUT_LOOKS, LOOKS_OF_OTHERS
from ric.scenes.layout import place_somewhere
from ric.scenes.scene import BEARINGS, Light, Scene
from ric.scenes.settings import PLACES, SETTINGS, VARIANTS
from ric.scenes.shapes import YAWS
from ric.scenes.things import COLOURS, MATERIALS, SIZES, STATES, Thing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ric.scenes.draws import Draws
    from ric.splits import Split

MOST_THINGS = 5
_RARE_SHARE = 0.5  # of val and test edits are about a held-out look, where the place allows one


@dataclass(frozen=True)
class Lot:
    """The random draws of a sample, and what they must respect.

    Attributes:
        draws: The random draws.
        split: The sample's split, whose held-out looks may be used.
        count: How many things the picture should hold before the edit.
        shaded: Whether the edited thing should stand in the shadow of another.
    """

    draws: Draws
    split: Split
    count: int
    shaded: bool = False


def empty_scene(lot: Lot, places: Sequence[str] = PLACES) -> Scene:
    """Draw a place and its light; nothing stands in it yet."""
    draws = lot.draws
    place, variant = draws.choice(places), draws.integer(VARIANTS)
    light = Light(
        draws.choice(("left", "right")), draws.choice(("front", "front", "back")),
        "low" if lot.shaded else draws.choice(("low", "high")), draws.integer(len(BEARINGS)),
    )  # fmt: skip
    return Scene(place, variant, light, ())


def new_thing(
    lot: Lot, scene: Scene, *, kinds: Sequence[str] = (), hero: bool = False, unlike: bool = True
) -> Thing:
    """Draw a thing that may stand in a scene; it has no position yet.

    Args:
        lot: The sample's draws.
        scene: The scene, with what already stands in it.
        kinds: Choose among these only.
        hero: The edit is about it, so a held-out look is welcome.
        unlike: Avoid the looks of what already stands there.
    """
    draws, setting = lot.draws, scene.setting
    kinds = [kind for kind in setting.kinds if kind in kinds] if kinds else setting.kinds
    colours = [colour for colour in COLOURS if colour not in setting.poor]
    rare = [
        look for look in sorted(HELD_OUT_LOOKS[lot.split])
        if look[0] in colours and look[1] in kinds
    ]  # fmt: skip
    taken = {thing.look for thing in scene.things} if unlike else set()
    take_rare = hero and draws.chance(_RARE_SHARE)
    look = draws.choice(rare) if rare and take_rare else None
    for _ in range(40):
        if look and look not in taken and look not in LOOKS_OF_OTHERS[lot.split]:
            break
        look = (draws.choice(colours), draws.choice(kinds))
    assert look is not None
    colour, kind = look
    return Thing(
        kind, colour, draws.choice(MATERIALS), any_size(lot), 0.0, 0.0,
        draws.integer(len(YAWS)), any_state(draws, kind),
    )  # fmt: skip


def any_size(lot: Lot) -> str:
    """Draw a size; where there are many things, most are small."""
    return lot.draws.choice(SIZES if lot.count < 4 else ("small", "small", "small", "large"))


def any_state(draws: Draws, kind: str) -> str:
    """Draw a kind's state: mostly its ordinary one; either side for a kind that faces one."""
    states = STATES.get(kind, ("",))
    other = draws.choice(states)
    return other if states[0].startswith("facing") or draws.chance(0.25) else states[0]


def like(lot: Lot, thing: Thing, *, exactly: bool = False) -> Thing:
    """Draw another of the same look; unless `exactly`, of any size and material."""
    draws = lot.draws
    material, size = draws.choice(MATERIALS), any_size(lot)
    # an even turn stays even: it decides the shape of a tree
    twin = replace(thing, turn=(thing.turn + 2 * draws.integer(len(YAWS) // 2)) % len(YAWS))
    return twin if exactly else replace(twin, material=material, size=size)


def furnish(
    lot: Lot, scene: Scene, things: Sequence[Thing], edited: Sequence[int] = ()
) -> Scene | None:
    """Put things into a scene, each in a free spot; None if one finds no spot.

    Args:
        lot: The sample's draws.
        scene: The scene; what already stands in it comes first.
        things: What to put there, in this order.
        edited: The numbers of the things that the edit is about: these must be clearly visible.
    """
    for count, thing in enumerate(things, start=len(scene.things) + 1):
        about = [number for number in edited if number < count]
        placed = place_somewhere(lot.draws, thing, scene.things, about)
        if placed is None:
            return None
        scene = scene.having((*scene.things, placed))
    return scene


def places_for(kinds: Sequence[str]) -> list[str]:
    """List the places where one of these kinds may stand."""
    return [place for place in PLACES if set(SETTINGS[place].kinds) & set(kinds)]
