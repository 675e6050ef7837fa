"""Check that an edit was carried out: a classifier of drawn scenes reads its result.

A thing that changes in place is read where the exact target has it. The requested attribute must be
read there; its kind and colour, unless requested, must be read as they are, or as the classifier,
which can err, reads them in the exact target. A thing that is added or moved may stand wherever the
instruction allows: all such places are tried, and it must be read at one where the source does not
show it. A thing that is removed or moved away must no longer be read where it was. Of a group that
becomes smaller any may go, but as many must be left as in the exact target.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image

from ric.metrics.scene_labels import NOTHING, group_ranges
from ric.metrics.scene_net import INPUT_SIZE
from ric.scenes.camera import FAR_Z, NEAR_Z, SPREAD
from ric.scenes.layout import Outline, in_frame, outline
from ric.scenes.relations import might

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ric.metrics.scene_net import SceneNet
    from ric.scenes.edit import Edit
    from ric.scenes.things import Thing

MARGIN = 0.12  # of the longer side, around a thing that is read
ROWS, COLUMNS = 9, 17  # of the places that are tried for a thing
APART = 0.5  # places whose boxes overlap by more show the same thing


class Reading(NamedTuple):
    """The classifier's reading of one crop; `kind` may be `nothing`."""

    kind: str
    colour: str
    material: str
    state: str


def crop_of_thing(image: Image.Image, box: Outline) -> Image.Image:
    """Crop a square around a box, with a margin, and resize it to the classifier's input.

    Args:
        image: RGB, any size.
        box: Shares of the picture; beyond the edge the crop is black.
    """
    width, height = image.size
    left, top, right, bottom = box[0] * width, box[1] * height, box[2] * width, box[3] * height
    half = max(right - left, bottom - top) * (0.5 + MARGIN)
    x, y = (left + right) / 2, (top + bottom) / 2
    corners = (x - half, y - half, x + half, y + half)
    side = (INPUT_SIZE, INPUT_SIZE)
    return image.transform(side, Image.Transform.EXTENT, corners, resample=Image.Resampling.BICUBIC)


class EditChecker:
    """Tells whether edits of drawn scenes were carried out.

    Args:
        net: The scene classifier; its config names what each output stands for.
    """

    def __init__(self, net: SceneNet) -> None:
        """Store the classifier."""
        self.net = net
        # each group's outputs and their labels
        self._groups = {
            group: (place, [label.partition(": ")[2] for label in net.labels[place]])
            for group, place in group_ranges(net.labels).items()
        }

    def succeeded(
        self, edit: Edit, edited: Image.Image, source: Image.Image, target: Image.Image
    ) -> bool:
        """Tell whether `edited` shows what was requested.

        Args:
            edit: What was requested.
            edited: The output, any size.
            source: The picture before.
            target: One exact answer.
        """
        if edit.type == "Counting" and edit.before:
            return self._as_many_are_left(edit, edited, target)
        gone = self._is_gone(edit, edited, target)
        if edit.type in ("Action", "Replace"):
            return gone and self._has_become(edit, edited, target)
        return gone and self._is_there(edit, edited, source)

    def _is_gone(self, edit: Edit, edited: Image.Image, target: Image.Image) -> bool:
        """Tell whether the vacated places read as empty, or as those of the exact target.

        The target may show there what stood behind.
        """
        stays = set(edit.after) & set(edit.before) if edit.type != "Relation" else set()
        gone = [edit.source.things[number] for number in edit.before if number not in stays]
        boxes = [outline(thing) for thing in gone]
        pairs = zip(self.read(edited, boxes), self.read(target, boxes), strict=True)
        return all(
            read.kind == NOTHING or (read.colour, read.kind) == (right.colour, right.kind)
            for read, right in pairs
        )

    def _as_many_are_left(self, edit: Edit, edited: Image.Image, target: Image.Image) -> bool:
        """Tell whether as many of a group are read in their places as in the exact target."""
        one = edit.source.things[edit.before[0]]
        boxes = [outline(thing) for thing in edit.source.things if thing.look == one.look]
        now, right = (
            sum(_shows(read, one) for read in self.read(image, boxes)) for image in (edited, target)
        )
        return now == right

    def _has_become(self, edit: Edit, edited: Image.Image, target: Image.Image) -> bool:
        """Tell whether each thing that had to change in place has the requested attribute."""
        asked = edit.wanted.attribute
        things = [edit.target.things[number] for number in edit.after]
        boxes = [outline(thing) for thing in things]
        rows = zip(self.read(edited, boxes), self.read(target, boxes), things, strict=True)
        return all(
            getattr(read, asked) == getattr(thing, asked)
            and all(
                getattr(read, name) in (getattr(thing, name), getattr(right, name))
                for name in ("kind", "colour")
                if name != asked
            )
            for read, right, thing in rows
        )

    def _is_there(self, edit: Edit, edited: Image.Image, source: Image.Image) -> bool:
        """Tell whether every added or moved thing is read."""
        things = [edit.target.things[number] for number in edit.after]
        if not things:
            return True
        # all added things have one look
        places = allowed_places(edit, things[0])
        boxes = [outline(place) for place in (*things, *places)]
        pairs = zip(self.read(edited, boxes), self.read(source, boxes), boxes, strict=True)
        seen: list[Outline] = []
        for now, before, box in pairs:
            new = _shows(now, things[0]) and not _shows(before, things[0])
            if new and all(overlap(box, other) < APART for other in seen):
                seen.append(box)
        return len(seen) >= len(things)

    def read(self, image: Image.Image, boxes: Sequence[Outline]) -> list[Reading]:
        """Classify what stands in each box."""
        if not boxes:
            return []
        logits = self.net.logits([crop_of_thing(image, box) for box in boxes])
        words = []
        for group in Reading._fields:
            place, labels = self._groups[group]
            best = logits[:, place].argmax(dim=1).tolist()
            words.append([labels[index] for index in best])
        return [Reading(*row) for row in zip(*words, strict=True)]


def _shows(read: Reading, thing: Thing) -> bool:
    """Tell whether a reading is of this thing's kind and colour."""
    return (read.colour, read.kind) == thing.look


def allowed_places(edit: Edit, thing: Thing) -> list[Thing]:
    """List where an added or moved thing may stand: in the frame, in the requested relation."""
    anchor = None if edit.anchor is None else edit.source.things[edit.anchor]
    places = []
    for row in range(ROWS):
        z = NEAR_Z + (FAR_Z - NEAR_Z) * row / (ROWS - 1)
        for column in range(COLUMNS):
            x = (2 * column / (COLUMNS - 1) - 1) * SPREAD * z
            place = replace(thing, x=x, z=z)
            # a relation that a viewer could see is enough
            related = anchor is None or might(edit.relation, place, anchor, edit.source.light)
            if related and in_frame(place):
                places.append(place)
    return places


def overlap(box: Outline, other: Outline) -> float:
    """Return the share of `box` that `other` covers."""
    wide = min(box[2], other[2]) - max(box[0], other[0])
    high = min(box[3], other[3]) - max(box[1], other[1])
    area = (box[2] - box[0]) * (box[3] - box[1])
    return max(wide, 0.0) * max(high, 0.0) / area if area > 0 else 0.0
