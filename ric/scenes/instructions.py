"""The instruction of an edit: one sentence that points to one thing.

Wordings that could be read in two ways are left out: "turn the boat to the right of the ball" could
ask for another direction or for another boat.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ric.scenes.naming import NUMBERS, count_like, name_look, plural, with_article
from ric.scenes.relations import PHRASES

if TYPE_CHECKING:
    from ric.scenes.draws import Draws
    from ric.scenes.edit import Edit
    from ric.scenes.things import Thing

_PLACE_NAMES = {"table": "table top"}


def write_instruction(draws: Draws, edit: Edit, them: str) -> str:
    """Write the instruction; `them` is the phrase for the edited thing, or ""."""
    if edit.type == "Add":
        thing = edit.target.things[edit.after[0]]
        what = with_article(f"{thing.size} {thing.material} {name_look(thing)}")
        if thing.state.startswith("facing"):
            what = f"{what} {thing.state}"
        spot = where(edit) or draws.choice(
            [
                f" {edit.target.setting.on}",
                f" to the {_PLACE_NAMES.get(edit.target.place, edit.target.place)}",
            ]
        )
        verb = "Put" if not spot.startswith(" to the") else "Add"
        return f"{draws.choice((verb, 'Add')) if edit.relation else verb} {what}{spot}."
    if edit.type == "Counting":
        return _count_instruction(draws, edit)
    if edit.type == "Relation":
        return draws.choice((f"Move {them}{where(edit)}.", f"Put {them}{where(edit)}."))
    if edit.type == "Remove":
        return draws.choice((f"Remove {them}.", f"Take {them} away.", f"Take away {them}."))
    thing = edit.target.things[edit.after[0]]
    if edit.type == "Action":
        return _action_instruction(draws, thing, them)
    new = {
        "kind": with_article(f"{thing.colour} {thing.kind}"),
        "colour": thing.colour,
        "material": thing.material,
    }[edit.manner]
    if edit.manner == "kind":
        turn = "Replace {} with {}." if " to the " in them else "Turn {} into {}."
        return draws.choice(("Replace {} with {}.", turn)).format(them, new)
    verb = draws.choice(("Make", "Paint" if edit.manner == "colour" else "Make"))
    return f"{verb} {them} {new}."


def where(edit: Edit) -> str:
    """Write the relation that the edit asks for, with a leading space; "" without one."""
    if edit.anchor is None:
        return ""
    anchor = edit.source.things[edit.anchor]
    return f" {PHRASES[edit.relation]} the {name_look(anchor)}"


def _action_instruction(draws: Draws, thing: Thing, them: str) -> str:
    state = thing.state
    if state.startswith("facing"):
        side = state.removeprefix("facing ")
        # "turn the boat to the right of ..." could be read as turning it to the right
        turn = f"Make {them} face" if " to the " in them else f"Turn {them} around to face"
        return draws.choice((f"{turn} {side}.", f"Make {them} face {side}."))
    if state.startswith("leaning"):
        side = state.removeprefix("leaning ")
        return draws.choice(
            (f"Tilt {them} so that it leans {side}.", f"Make {them} lean to the {side}.")
        )
    return {
        "lying": draws.choice((f"Tip {them} over onto its side.", f"Lay {them} on its side.")),
        "upright": draws.choice((f"Stand {them} upright.", f"Set {them} upright.")),
        "open": f"Open {them}.",
        "closed": f"Close {them}.",
    }[state]


def _count_instruction(draws: Draws, edit: Edit) -> str:
    thing = (edit.source if edit.before else edit.target).things[(edit.before or edit.after)[0]]
    have, want = count_like(edit.source, thing), count_like(edit.target, thing)
    before = f"{NUMBERS[have]} {thing.colour} {plural(thing.kind, have)}"
    after = f"{NUMBERS[want]} {thing.colour} {plural(thing.kind, want)}"
    group = f"{thing.colour} {plural(thing.kind)}"
    if have == 1:
        return draws.choice((f"Change the one {name_look(thing)} to {after}.",
                             f"Make it {after} instead of one."))  # fmt: skip
    return draws.choice(
        (f"Change the number of {group} from {NUMBERS[have]} to {NUMBERS[want]}.",
         f"Make it {after} instead of {NUMBERS[have]}.",
         f"Change the {before} to {NUMBERS[want]}.")
    )  # fmt: skip
