"""One edit as data: the scene before and after, what changes, and what must be seen afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ric.scenes.held_out import hidden_relations

if TYPE_CHECKING:
    from ric.scenes.naming import Phrase
    from ric.scenes.scene import Scene
    from ric.splits import Split


@dataclass(frozen=True)
class Wanted:
    """The requested result of an edit, which a classifier checks in the target's region.

    Attributes:
        attribute: What must have changed: `state`, `presence`, `absence`, `count`, `place`, `kind`,
            `colour` or `material`.
        kind: The edited thing's kind in the target (in the source if it is gone).
        colour: Its colour there.
        material: Its material there.
        size: Its size there.
        state: Its state there, or "".
        count: How many things of that kind and colour the target shows.
        box: Left, top, right, bottom of its outline in the target, as shares of the picture, or of
            where it was if it is gone.
        relation: The relation it must have, or "".
        anchor: Kind and colour of the thing that the relation refers to, or None.
    """

    attribute: str
    kind: str
    colour: str
    material: str
    size: str
    state: str
    count: int
    box: tuple[float, float, float, float]
    relation: str = ""
    anchor: tuple[str, str] | None = None


@dataclass(frozen=True)
class Edit:
    """One edit of one scene.

    Attributes:
        type: One of edits.TYPES.
        manner: Its sub-kind, such as `turn` or `colour`.
        source: The scene before.
        target: The scene after.
        before: The numbers of the things that change, in the source.
        after: Their numbers in the target; what is gone has none.
        phrase: Two phrases that point to the thing in the source, the second without shadows; None
            for Add and Counting.
        seen: The same in the target; None where the thing is gone, and for Counting.
        wanted: What must be seen in the target.
        relation: The relation that the instruction asks for, or "".
        anchor: The number of the thing that `relation` refers to, the same in both scenes.
        split: The sample's split.
    """

    type: str
    manner: str
    source: Scene
    target: Scene
    before: tuple[int, ...]
    after: tuple[int, ...]
    phrase: tuple[Phrase, Phrase] | None
    seen: tuple[Phrase, Phrase] | None
    wanted: Wanted
    relation: str = ""
    anchor: int | None = None
    split: Split = "train"

    @property
    def relation_counts(self) -> set[tuple[str, int]]:
        """The relations that it mentions, each with the number of things in the source."""
        phrases = (*(self.phrase or ()), *(self.seen or ()))
        said = {self.relation, *(phrase.relation for phrase in phrases)} - {""}
        return {(relation, len(self.source.things)) for relation in said}

    @property
    def hidden(self) -> frozenset[str]:
        """The relations that its texts may not mention: those held out for another split."""
        return hidden_relations(self.split, len(self.source.things))
