"""HumanEdit's six types of edit, as changes of a scene: the request and the exact answer.

`edit_of(seed, index)` is the whole benchmark: every sample follows from these two numbers. An
attempt that fails (no free spot, something hidden, no phrase that points to one thing) is dropped
and drawn again under the next attempt number.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ric.scenes.draws import Draws
from ric.scenes.edit import Edit, Wanted
from ric.scenes.held_out import COUNTS_OF_OTHERS, hidden_relations, may_be_shown, split_of_sample
from ric.scenes.layout import apart, in_frame, outline, place_somewhere, well_seen
from ric.scenes.making import MOST_THINGS, Lot, empty_scene, furnish, like, new_thing, places_for
from ric.scenes.naming import Phrase, name_thing
from ric.scenes.photos import PHOTOS
from ric.scenes.relations import BESIDE, MOVES, SHADED, holds, might, propose
from ric.scenes.things import COLOURS, STATES, Thing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ric.scenes.scene import Scene
    from ric.splits import Split

TYPES = ("Action", "Add", "Counting", "Relation", "Remove", "Replace")
ACTIVE_KINDS = tuple(STATES)
_COUNTS = (1, 2, 2, 3, 3, 3, 4, 4, 5)
_SHADED_SHARE = 0.15  # of scenes: the edited thing stands in another's shadow
_BULKY = {"lamp": 0.1, "boat": 0.1}  # kinds whose shadow has room for little
_TRIES = 4000


def edit_of(seed: int, index: int, *, photos: bool = False) -> Edit:
    """Return sample `index` of the stream `seed`.

    Args:
        seed: Names the stream; 0 or more.
        index: Which sample; 0 or more, without an upper limit.
        photos: Put photographs behind the scenes; all else stays the same.
    """
    split = split_of_sample(seed, index)
    kind = type_of(seed, index)
    # drawn once, so that scenes that need more attempts are not rarer
    first = Draws(seed, index, "count")
    count, shaded = first.choice(_COUNTS), first.chance(_SHADED_SHARE)
    for tried in range(_TRIES):
        lot = Lot(Draws(seed, index, tried), split, count, shaded=shaded)
        edit = _MAKERS[kind](lot)
        if edit and _is_good(edit, split):
            photo = Draws(seed, index, "photo").choice(tuple(PHOTOS)) if photos else ""
            return replace(
                edit,
                split=split,
                source=replace(edit.source, photo=photo),
                target=replace(edit.target, photo=photo),
            )
    raise AssertionError(f"no {kind} for {seed}:{index}")  # never seen


def type_of(seed: int, index: int) -> str:
    """Return the type of a sample's edit without drawing it."""
    return Draws(seed, index, "type").choice(TYPES)


def scene_of(seed: int, index: int, *, photos: bool = False) -> Scene:
    """Return the scene before the edit of sample `index` of the stream `seed`."""
    return edit_of(seed, index, photos=photos).source


def _is_good(edit: Edit, split: Split) -> bool:
    return (
        may_be_shown(edit.source, split)
        and may_be_shown(edit.target, split)
        and not edit.relation_counts & COUNTS_OF_OTHERS[split]
        and well_seen(edit.source.things, edit.before)
        and well_seen(edit.target.things, edit.after)
    )


# --- the six types -------------------------------------------------------------------------------


def _action(lot: Lot) -> Edit | None:
    """Turn a thing, tip it over, let it lean, open or close it."""
    kind = lot.draws.choice(ACTIVE_KINDS)
    source = _furnished(lot, places_for([kind]), [kind])
    if source is None:
        return None
    thing = source.things[0]
    others = [state for state in STATES[thing.kind] if state != thing.state]
    changed = replace(thing, state=lot.draws.choice(others))
    manner = {
        "facing left": "turn", "facing right": "turn", "leaning left": "tilt",
        "leaning right": "tilt", "lying": "tilt", "open": "open", "closed": "close",
    }.get(changed.state, "straighten")  # fmt: skip
    return _changed(lot, "Action", manner, source, changed)


def _replace(lot: Lot) -> Edit | None:
    """Change a thing's kind, colour or material."""
    draws = lot.draws
    source = _furnished(lot)
    if source is None:
        return None
    thing = source.things[0]
    manner = draws.choice(("kind", "kind", "colour", "colour", "material"))
    if manner == "kind":
        kind = draws.choice([k for k in source.setting.kinds if k != thing.kind])
        states = STATES.get(kind, ("",))
        changed = replace(
            thing, kind=kind, state=thing.state if thing.state in states else states[0]
        )
    elif manner == "colour":
        poor = (*source.setting.poor, thing.colour)
        changed = replace(thing, colour=draws.choice([c for c in COLOURS if c not in poor]))
    else:
        changed = replace(thing, material="matte" if thing.material == "glossy" else "glossy")
    return _changed(lot, "Replace", manner, source, changed)


def _remove(lot: Lot) -> Edit | None:
    """Take a thing away."""
    source = _furnished(lot)
    if source is None:
        return None
    # what is left keeps its number: the edited thing is put last
    source = source.having((*source.things[1:], source.things[0]))
    last = len(source.things) - 1
    phrase = _name(lot, source, last, len(source.things))
    if phrase is None:
        return None
    target = source.having(source.things[:last])
    wanted = _wanted("absence", source.things[last], target)
    return Edit("Remove", "remove", source, target, (last,), (), phrase, None, wanted)


def _add(lot: Lot) -> Edit | None:
    """Put a new thing beside, before or behind another, or just into the picture."""
    draws = lot.draws
    source = furnish(lot, scene := empty_scene(lot), _company(lot, scene, min(lot.count, 4)))
    if source is None:
        return None
    thing = new_thing(lot, source, hero=True)
    thing = _ordinary(thing)
    count = len(source.things)
    hidden = hidden_relations(lot.split, count)
    asked: list[tuple[str, int | None]] = [("", None)]
    if draws.chance(0.85):
        sides = [name for name in (*MOVES, BESIDE) if name not in hidden]
        asked = [(side, anchor) for side in sides for anchor in _unique(source)]
    for relation, anchor in draws.shuffled(asked)[:5]:
        placed = place_related(draws, thing, source, source.things, (relation, anchor))
        if placed:
            break
    else:
        return None
    target = source.having((*source.things, placed))
    seen = _name(lot, target, count, count)
    wanted = _wanted("presence", placed, target, relation, anchor)
    return Edit("Add", "add", source, target, (), (count,), None, seen, wanted, relation, anchor)


def _relation(lot: Lot) -> Edit | None:
    """Move a thing to another side of another one."""
    draws = lot.draws
    source = _furnished(replace(lot, count=min(lot.count, 4), shaded=False), least=2)
    if source is None:
        return None
    thing, rest, count = source.things[0], source.things[1:], len(source.things)
    # "move the ball beside the cube to the left of ..." could be read in two ways
    phrase = _name(lot, source, 0, count, related=False)
    if phrase is None:
        return None
    hidden = hidden_relations(lot.split, count)
    asked = [
        (relation, anchor)
        for relation in MOVES
        for anchor in _unique(source)
        if anchor
        and relation not in hidden
        and not might(relation, thing, source.things[anchor], source.light)
    ]
    for relation, anchor in draws.shuffled(asked)[:5]:
        placed = place_related(draws, thing, source, rest, (relation, anchor - 1))
        if placed and apart(placed, [thing]):
            break
    else:
        return None
    target = source.having((placed, *rest))
    seen = _name(lot, target, 0, count)
    wanted = _wanted("place", placed, target, relation, anchor)
    return Edit(
        "Relation", "move", source, target, (0,), (0,), phrase, seen, wanted, relation, anchor
    )


def _counting(lot: Lot) -> Edit | None:
    """Add one or two things to a group of like ones, or remove them."""
    draws = lot.draws
    have = draws.integer(4) + 1
    change = draws.choice((1, 1, -1, -1, 2, -2))
    if not 1 <= have + change <= MOST_THINGS:
        return None
    scene = empty_scene(lot)
    first = _ordinary(new_thing(lot, scene, hero=True))
    if max(have, have + change) > 2:
        first = replace(first, size="small")
    most = max(have, have + change)
    group = [first, *(like(lot, first, exactly=True) for _ in range(most - 1))]
    room = MOST_THINGS - most
    company = _company(lot, scene.having((first,)), min(max(lot.count - have, 0), room))
    ends = range(len(company) + most - abs(change), len(company) + most)
    full = furnish(lot, scene, [*company, *group], ends)
    if full is None:
        return None
    # added or removed things stand at the end, so that all others keep their numbers
    fewer = full.having(full.things[: len(full.things) - abs(change)])
    edited = tuple(range(len(fewer.things), len(full.things)))
    source, target = (fewer, full) if change > 0 else (full, fewer)
    before, after = ((), edited) if change > 0 else (edited, ())
    wanted = _wanted("count", full.things[edited[0]], target)
    manner = f"{change:+d}"
    return Edit("Counting", manner, source, target, before, after, None, None, wanted)


_MAKERS: dict[str, Callable[[Lot], Edit | None]] = {
    "Action": _action, "Add": _add, "Counting": _counting, "Relation": _relation,
    "Remove": _remove, "Replace": _replace,
}  # fmt: skip


# --- what they share -----------------------------------------------------------------------------


def _furnished(
    lot: Lot, places: Sequence[str] = (), kinds: Sequence[str] = (), least: int = 1
) -> Scene | None:
    """Draw a scene whose first thing is the one to edit; sometimes it has a twin."""
    draws = lot.draws
    scene = empty_scene(lot, places) if places else empty_scene(lot)
    first = new_thing(lot, scene, kinds=kinds, hero=True)
    count = max(least, lot.count)
    twins = [like(lot, first)] if count > 1 + (least > 1) and draws.chance(0.4) else []
    if twins and count > 3 and draws.chance(0.4):
        twins.append(like(lot, first))
    company = _company(lot, scene.having((first,)), count - 1 - len(twins))
    rest = [*twins, *company]
    if company and lot.shaded:
        # put it into the shadow of another, which chance alone would seldom do
        shading = max(rest, key=lambda thing: _BULKY.get(thing.kind, 1.0) * thing.height)
        rest.remove(shading)
        first, shading = replace(first, size="small"), replace(shading, size="large")
        begun = furnish(lot, scene, [shading])
        if begun is None:
            return None
        placed = place_related(draws, first, begun, begun.things, (SHADED, 0))
        if placed is None:
            return None
        return furnish(lot, begun.having((placed, *begun.things)), rest, (0,))
    return furnish(lot, scene, [first, *rest], (0,))


def _ordinary(thing: Thing) -> Thing:
    """Stand it upright and close it, as no instruction asks otherwise; it may face either way."""
    states = STATES.get(thing.kind, ("",))
    return thing if thing.state.startswith("facing") else replace(thing, state=states[0])


def _company(lot: Lot, scene: Scene, count: int) -> list[Thing]:
    """Draw things whose looks differ from each other and from the scene's."""
    company: list[Thing] = []
    for _ in range(count):
        thing = new_thing(lot, scene)
        company.append(thing)
        scene = scene.having((*scene.things, thing))
    return company


def _unique(scene: Scene) -> list[int]:
    """List the things whose colour and kind no other has."""
    looks = [thing.look for thing in scene.things]
    return [number for number, look in enumerate(looks) if looks.count(look) == 1]


def _changed(lot: Lot, kind: str, manner: str, source: Scene, changed: Thing) -> Edit | None:
    """Put a changed thing in the place of the first."""
    attribute = "state" if kind == "Action" else manner
    count = len(source.things)
    phrase = _name(lot, source, 0, count)
    if phrase is None or not in_frame(changed) or not apart(changed, source.things[1:]):
        return None
    target = source.having((changed, *source.things[1:]))
    seen = _name(lot, target, 0, count)
    wanted = _wanted(attribute, changed, target)
    return Edit(kind, manner, source, target, (0,), (0,), phrase, seen, wanted)


def _name(
    lot: Lot, scene: Scene, number: int, count: int, *, related: bool = True
) -> tuple[Phrase, Phrase] | None:
    """Name a thing by relations that the split may mention among `count` things in the source."""
    hidden = hidden_relations(lot.split, count)
    return name_thing(lot.draws, scene, number, hidden=hidden, related=related)


def place_related(
    draws: Draws,
    thing: Thing,
    scene: Scene,
    others: Sequence[Thing],
    asked: tuple[str, int | None],
) -> Thing | None:
    """Find a free spot for a thing; None if twenty tries find none.

    Args:
        draws: The random draws.
        thing: What to place; it will be the last of the things.
        scene: Its light is the picture's.
        others: What stands there already.
        asked: The relation it must have to one of `others`, and which one; None: anywhere.
    """
    relation, anchor = asked
    if anchor is None:
        return place_somewhere(draws, thing, others, (len(others),))
    other = others[anchor]
    for _ in range(20):
        placed = propose(draws, relation, thing, other, scene.light)
        related = holds(relation, placed, other, scene.light)
        free = related and in_frame(placed) and apart(placed, others)
        if free and well_seen((*others, placed), (len(others),)):
            return placed
    return None


def _wanted(
    attribute: str, thing: Thing, target: Scene, relation: str = "", anchor: int | None = None
) -> Wanted:
    other = target.things[anchor] if anchor is not None else None
    left, upper, right, lower = (min(max(edge, 0.0), 1.0) for edge in outline(thing))
    return Wanted(
        attribute, thing.kind, thing.colour, thing.material, thing.size, thing.state,
        sum(one.look == thing.look for one in target.things), (left, upper, right, lower),
        relation, (other.kind, other.colour) if other else None,
    )  # fmt: skip
