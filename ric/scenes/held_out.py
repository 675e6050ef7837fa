"""The splits of drawn scenes, and the combinations that train never shows.

A sample's split is that of its id (choice 5: 85 % train, 5 % val, 10 % test). Two kinds of pairs
are held out: looks (a colour with a kind) and counts (a relation with the number of things in the
picture before the edit). A look held out for test appears in no train or val picture, before or
after the edit; a count held out for test is mentioned in no train or val text. Val works likewise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ric.splits import Split, split_of

if TYPE_CHECKING:
    from ric.scenes.scene import Scene

Look = tuple[str, str]  # colour, kind
Count = tuple[str, int]  # relation, number of things

HELD_OUT_LOOKS: dict[Split, frozenset[Look]] = {
    "train": frozenset(),
    "val": frozenset(
        {("purple", "ball"), ("yellow", "cone"), ("red", "pyramid"), ("orange", "house"),
         ("black", "lamp"), ("green", "chest")}
    ),
    "test": frozenset(
        {("orange", "ball"), ("purple", "cube"), ("red", "cone"), ("yellow", "cylinder"),
         ("blue", "pyramid"), ("blue", "tree"), ("red", "house"), ("green", "boat"),
         ("purple", "lamp"), ("white", "chest"), ("orange", "car")}
    ),
}  # fmt: skip

HELD_OUT_COUNTS: dict[Split, frozenset[Count]] = {
    "train": frozenset(),
    "val": frozenset({("right of", 4), ("in front of", 2)}),
    "test": frozenset({("left of", 3), ("behind", 2), ("beside", 4), ("right of", 5)}),
}

LOOKS_OF_OTHERS: dict[Split, frozenset[Look]] = {
    split: frozenset().union(*(looks for other, looks in HELD_OUT_LOOKS.items() if other != split))
    for split in HELD_OUT_LOOKS
}
COUNTS_OF_OTHERS: dict[Split, frozenset[Count]] = {
    split: frozenset().union(*(pairs for other, pairs in HELD_OUT_COUNTS.items() if other != split))
    for split in HELD_OUT_COUNTS
}


def sample_id(seed: int, index: int) -> str:
    """Name sample `index` of the stream `seed`; independent of the stream's length."""
    return f"scene-{seed}-{index:06d}"


def split_of_sample(seed: int, index: int) -> Split:
    """Return a sample's split, determined by its id alone."""
    return split_of(sample_id(seed, index))


def hidden_relations(split: Split, count: int) -> frozenset[str]:
    """Return the relations that an edit of this split may not mention among `count` things."""
    return frozenset(name for name, number in COUNTS_OF_OTHERS[split] if number == count)


def may_be_shown(scene: Scene, split: Split) -> bool:
    """Tell whether a picture of this split may show all that is in the scene."""
    return not LOOKS_OF_OTHERS[split] & {thing.look for thing in scene.things}
