"""The texts of an edit: the instruction, the region, and a paragraph about each picture.

The paragraphs follow the paper's Table 4: setting and light, then every thing with its colour,
material, size and place, then how things stand to one another, and the edited region by itself.
Things are described from left to right, so that a text's order, too, can be seen in its picture.
Without shadows the texts are the same, less what only a shadow or a mirror image shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ric.scenes.draws import Draws
from ric.scenes.instructions import where, write_instruction
from ric.scenes.layout import screen_x
from ric.scenes.naming import NUMBERS, count_like, name_look, plural, with_article
from ric.scenes.relations import BEHIND, BESIDE, FRONT, LEFT, MOVES, PHRASES, RIGHT, holds

if TYPE_CHECKING:
    from ric.scenes.edit import Edit
    from ric.scenes.naming import Phrase
    from ric.scenes.scene import Scene
    from ric.scenes.things import Thing


@dataclass(frozen=True)
class Texts:
    """All texts of a sample.

    Attributes:
        instruction: What to do.
        region_text: What is seen in the edited region afterwards (t_r).
        scene_text: A paragraph about the target (t_f).
        source_text: The same about the source.
        target_text: One short sentence about the target, for models that read 77 tokens.
    """

    instruction: str
    region_text: str
    scene_text: str
    source_text: str
    target_text: str


def texts_of(edit: Edit, seed: int, index: int, *, shadows: bool = True) -> Texts:
    """Write the texts of an edit; they depend on nothing but these arguments."""
    named = edit.phrase[0 if shadows else 1].words if edit.phrase else ""
    seen = edit.seen and edit.seen[0 if shadows else 1]
    instruction = write_instruction(Draws(seed, index, "words"), edit, named)
    region = _region(edit, seen)
    return Texts(
        instruction=instruction,
        region_text=region,
        scene_text=_paragraph(edit, edit.target, region, shadows=shadows),
        source_text=_paragraph(edit, edit.source, "", shadows=shadows),
        target_text=_caption(edit.target),
    )


# --- the region ----------------------------------------------------------------------------------


def _region(edit: Edit, phrase: Phrase | None) -> str:
    if not edit.after:
        return _emptied(edit)
    thing = edit.target.things[edit.after[0]]
    if edit.type == "Counting":
        many = f"{NUMBERS[count_like(edit.target, thing)]} {thing.colour} {plural(thing.kind)}"
        new = len(edit.after)
        return f"{NUMBERS[new]} of {many}, {thing.size} and {thing.material}"
    if edit.relation:
        words = f"{with_article(name_look(thing))}{where(edit)}"
    elif phrase and (phrase.relation or phrase.rank):
        words = phrase.words
    else:
        words = with_article(name_look(thing))
    seen = ", ".join(part for part in (_state_words(thing), thing.material) if part)
    return f"{words}, {seen}"


def _emptied(edit: Edit) -> str:
    """Describe the spot where something was: the ground, and what is near it."""
    gone = edit.source.things[edit.before[0]]
    scene = edit.target
    ground = f"empty {scene.setting.ground}"
    if edit.type == "Counting":
        count = count_like(scene, gone)
        left = f"{NUMBERS[count]} {gone.colour} {plural(gone.kind, count)}"
        return f"{ground} near {left}" if count > 1 else f"{ground} near a single {name_look(gone)}"
    looks = [thing.look for thing in scene.things]
    for relation in (BEHIND, FRONT, BESIDE, LEFT, RIGHT):
        if relation in edit.hidden:
            continue
        for thing in scene.things:
            alone = looks.count(thing.look) == 1
            if alone and holds(relation, gone, thing, scene.light):
                return f"{ground} {PHRASES[relation]} the {name_look(thing)}"
    return f"{ground} {_place_words(gone)}"


# --- the paragraphs ------------------------------------------------------------------------------


def _paragraph(edit: Edit, scene: Scene, region: str, *, shadows: bool) -> str:
    parts = [
        f"The picture shows {scene.setting.words} {_light_words(scene)}.",
        f"{_capital(scene.setting.texture)}.",
        f"{_behind(scene)}.",
        *_things(scene),
        *_relations(edit, scene),
    ]
    if shadows and scene.things:
        parts += _shadow_words(scene)
    if region:
        parts.append(f"The eye is drawn to {region}.")
    return " ".join(parts)


def _light_words(scene: Scene) -> str:
    light = scene.light
    kind = "soft light that falls in low" if light.height == "low" else "hard light from high up"
    depth = "front" if light.depth == "front" else "back"
    return f"in {kind} from the {light.side} {depth}"


def _behind(scene: Scene) -> str:
    if scene.photo:
        from ric.scenes.photos import PHOTOS  # only where there is one

        return f"Behind it hangs {PHOTOS[scene.photo][0]}"
    return scene.setting.behind


def _things(scene: Scene) -> list[str]:
    """Describe what and where each thing is; for a group, first say how many there are."""
    if not scene.things:
        return [f"Nothing stands {scene.setting.on}."]
    sentences = []
    said = set()
    for thing in _left_to_right(scene):
        count = count_like(scene, thing)
        if count > 1 and thing.look not in said:
            sentences.append(f"There are {NUMBERS[count]} {thing.colour} {plural(thing.kind)}.")
        said.add(thing.look)
        which = with_article(f"{thing.size} {thing.material} {name_look(thing)}")
        sentences.append(
            f"{_capital(which)} {_verb(scene, thing)} {_place_words(thing)}, {_skin(thing)}."
        )
    return sentences


def _relations(edit: Edit, scene: Scene) -> list[str]:
    """Describe how neighbours are related, each thing once; held-out pairs are left out."""
    sentences = []
    things = _left_to_right(scene)
    looks = [thing.look for thing in things]
    for number, thing in enumerate(things):
        for other in things[number + 1 :]:
            found = [r for r in reversed(MOVES) if holds(r, thing, other, scene.light)]
            unique = looks.count(thing.look) == looks.count(other.look) == 1
            if unique and found and found[0] not in edit.hidden:
                sentences.append(f"The {name_look(thing)} is {PHRASES[found[0]]} the"
                                 f" {name_look(other)}.")  # fmt: skip
                break
    return sentences


def _shadow_words(scene: Scene) -> list[str]:
    light = scene.light
    side = "right" if light.side == "left" else "left"
    depth = "back" if light.depth == "front" else "front"
    kind = "long soft shadow" if light.height == "low" else "short sharp shadow"
    what = "Each thing casts" if len(scene.things) > 1 else "It casts"
    words = [f"{what} a {kind} to the {side} and the {depth} {scene.setting.on}."]
    if scene.setting.mirror:
        how = "rippled" if scene.setting.is_water else "dim"
        whose = "Their" if len(scene.things) > 1 else "Its"
        plural_s = "s are" if len(scene.things) > 1 else " is"
        words.append(f"{whose} {how} mirror image{plural_s} seen in the {scene.setting.ground}.")
    return words


def _place_words(thing: Thing) -> str:
    across = screen_x(thing)
    side = "left" if across < -0.33 else "right" if across > 0.33 else ""
    if thing.z < 5.6:
        return f"in the {side or 'central'} foreground"
    if thing.z > 6.8:
        return f"in the {side or 'central'} background"
    return f"on the {side}, halfway back" if side else "in the middle of the picture"


def _verb(scene: Scene, thing: Thing) -> str:
    state = _state_words(thing)
    if scene.setting.is_water:
        return f"floats{' ' + state if state else ''}"
    if thing.kind == "ball" or thing.state == "lying":
        return f"lies{' ' + state if state else ''}"
    return f"stands{' ' + state if state else ''}"


def _state_words(thing: Thing) -> str:
    if thing.state == "upright":
        return "upright" if thing.kind != "tree" else ""
    if thing.state == "lying":
        return "on its side"
    if thing.state.startswith("leaning"):
        return f"leaning to the {thing.state.removeprefix('leaning ')}"
    return thing.state


def _skin(thing: Thing) -> str:
    if thing.material == "glossy":
        return "smooth and shiny with a bright highlight"
    return "its surface dull and even"


def _caption(scene: Scene) -> str:
    """List in one sentence what the scene holds."""
    counted: dict[tuple[str, str], int] = {}
    for thing in _left_to_right(scene):
        counted[thing.look] = counted.get(thing.look, 0) + 1
    named = [
        with_article(f"{colour} {kind}") if count == 1
        else f"{NUMBERS[count]} {colour} {plural(kind)}"
        for (colour, kind), count in counted.items()
    ]  # fmt: skip
    if not named:
        return f"{_capital(scene.setting.words)} with nothing on it."
    listed = named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"
    return f"{_capital(scene.setting.words)} with {listed}."


def _left_to_right(scene: Scene) -> list[Thing]:
    return sorted(scene.things, key=lambda thing: (screen_x(thing), thing.z))


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
