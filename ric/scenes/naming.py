"""Phrases that point to one thing of a scene: "the left one of two red cubes"."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ric.scenes.layout import screen_x
from ric.scenes.relations import BESIDE, MOVES, PHRASES, SHADED, holds, might

if TYPE_CHECKING:
    from ric.scenes.draws import Draws
    from ric.scenes.scene import Scene
    from ric.scenes.things import Thing

NUMBERS = ("no", "one", "two", "three", "four", "five", "six")
_RANKS = {
    "left": ("the left one of two", "the leftmost of"),
    "right": ("the right one of two", "the rightmost of"),
    "front": ("the front one of two", "the nearest of"),
    "back": ("the back one of two", "the farthest of"),
}


@dataclass(frozen=True)
class Phrase:
    """A phrase and what it says, so that what it points to can be looked up.

    Attributes:
        words: Such as "the left one of two red cubes"; it names kind and colour.
        colour: The colour it names.
        kind: The kind it names.
        size: The size it names, or "".
        material: The material it names, or "".
        rank: `left`, `right`, `front` or `back` of its group, or "".
        relation: A relation of relations.RELATIONS, or "".
        anchor: The number of the other thing of that relation, or None.
    """

    words: str
    colour: str
    kind: str
    size: str = ""
    material: str = ""
    rank: str = ""
    relation: str = ""
    anchor: int | None = None

    def points_to(self, scene: Scene) -> list[int]:
        """List the numbers of all things that it could mean."""
        fits = [
            number
            for number, thing in enumerate(scene.things)
            if thing.look == (self.colour, self.kind)
            and self.size in ("", thing.size)
            and self.material in ("", thing.material)
        ]
        if self.rank:
            return _at_the(self.rank, scene, fits)
        if self.anchor is not None:
            other = scene.things[self.anchor]
            return [
                number
                for number in fits
                if number != self.anchor
                and might(self.relation, scene.things[number], other, scene.light)
            ]
        return fits


def plural(kind: str, count: int = 2) -> str:
    """Return a kind's name for this many."""
    return kind if count == 1 else f"{kind}s"


def count_like(scene: Scene, thing: Thing) -> int:
    """Count the scene's things of a thing's colour and kind."""
    return sum(one.look == thing.look for one in scene.things)


def name_look(thing: Thing) -> str:
    """Name a thing by colour and kind."""
    return f"{thing.colour} {thing.kind}"


def with_article(words: str) -> str:
    """Put "a" or "an" before words."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def name_thing(
    draws: Draws,
    scene: Scene,
    number: int,
    *,
    hidden: frozenset[str] = frozenset(),
    related: bool = True,
) -> tuple[Phrase, Phrase] | None:
    """Choose a phrase that points to one thing, and one that does so where there are no shadows.

    Args:
        draws: Choose among the phrases that do.
        scene: Where the thing is.
        number: Which thing.
        hidden: Relations that may not be mentioned.
        related: Whether it may refer to another thing at all.

    Returns:
        The phrase and its stand-in, mostly the same; None if no phrase points to the thing alone.
    """
    plain, close, ranked = (
        [phrase for phrase in group if phrase.points_to(scene) == [number]]
        for group in _phrases(scene, number)
    )
    close = [phrase for phrase in close if related and phrase.relation not in hidden]
    shaded = [phrase for phrase in close if phrase.relation == SHADED]
    close = [phrase for phrase in close if phrase.relation != SHADED]
    pick, order, by_shadow = draws.fraction(), draws.fraction(), draws.chance(0.8)
    alone = bool(plain) and not plain[0].size
    orders = ((close, plain, ranked), (plain, close, ranked)) if alone else (
        (close, ranked, plain), (ranked, plain, close)
    )  # fmt: skip
    fits = next((group for group in orders[int(order < 0.55)] if group), None)
    if fits is None:
        return None
    phrase = fits[int(pick * len(fits))]
    return (shaded[0] if shaded and by_shadow else phrase), phrase


def _phrases(scene: Scene, number: int) -> tuple[list[Phrase], list[Phrase], list[Phrase]]:
    """List possible phrases: by its own looks, by a neighbour, by its place in its group."""
    thing = scene.things[number]
    phrase = partial(Phrase, colour=thing.colour, kind=thing.kind)
    name = name_look(thing)
    group = [other for other in scene.things if other.look == thing.look]
    plain = [phrase(f"the {name}")] if len(group) == 1 else []
    plain.append(phrase(f"the {thing.size} {name}", size=thing.size))
    plain.append(phrase(f"the {thing.material} {name}", material=thing.material))
    close = []
    for anchor, other in enumerate(scene.things):
        unique = sum(third.look == other.look for third in scene.things) == 1
        if anchor == number or not unique or other.look == thing.look:
            continue
        close += [
            phrase(
                f"the {name} {PHRASES[relation]} the {name_look(other)}",
                relation=relation, anchor=anchor,
            )
            for relation in (SHADED, BESIDE, *MOVES)
            if holds(relation, thing, other, scene.light)
        ]  # fmt: skip
    ranked = []
    count = len(group)
    if count > 1:
        many = f"{NUMBERS[count]} {thing.colour} {plural(thing.kind)}"
        for rank, (of_two, of_more) in _RANKS.items():
            words = f"{of_two}{many.removeprefix('two')}" if count == 2 else f"{of_more} {many}"
            ranked.append(phrase(words, rank=rank))
    return plain, close, ranked


def _at_the(rank: str, scene: Scene, fits: list[int]) -> list[int]:
    """List the things at one end of their group; two where they are too close to call."""
    depthwise = rank in ("front", "back")
    sign = -1.0 if rank in ("right", "back") else 1.0

    def place(number: int) -> float:
        thing = scene.things[number]
        return sign * (thing.z if depthwise else screen_x(thing))

    first = min(map(place, fits), default=0.0)
    return [number for number in fits if place(number) < first + (0.5 if depthwise else 0.12)]
