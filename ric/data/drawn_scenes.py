"""Scenes as DATA: `scenes:COUNT[@SIZE][#SEED]`, drawn as they are read and never stored.

COUNT is the number of samples in all splits together; their ids, texts and splits do not depend on
it or on SIZE, so a longer stream begins with the shorter one. Pictures are drawn on access,
and encoded as PNG so that a sample is the same as one from a folder.
"""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ric.data.edit_sample import EditSample, Pictures
from ric.errors import RicError
from ric.scenes.edits import TYPES, edit_of, type_of
from ric.scenes.held_out import sample_id, split_of_sample
from ric.scenes.render import Pair, render_pair
from ric.scenes.words import texts_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from ric.scenes.edit import Edit

SMALLEST, LARGEST, USUAL_SIZE = 64, 512, 64
MOST = 10_000_000  # samples; an index has to fit its id
MARK = "scenes.txt"  # names the stream that a folder holds; written before its first picture
RECIPE = 2  # bumped whenever the same seed and index would give another picture or text

HOW = "Write scenes:COUNT, scenes:COUNT@SIZE or scenes:COUNT@SIZE#SEED, such as scenes:300@64#7."


@dataclass(frozen=True, kw_only=True)
class SceneStream:
    """A selection of samples to draw.

    Attributes:
        count: How many samples, over all splits.
        size: Width and height in pixels.
        seed: Names the stream.
        shadows: Draw shadows and mirror images, and speak of them.
        photos: Put photographs behind the scenes.
    """

    count: int
    size: int = USUAL_SIZE
    seed: int = 0
    shadows: bool = True
    photos: bool = False

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            RicError: A number is out of its range.
        """
        if not 1 <= self.count <= MOST:
            raise RicError(f"{self.count} scenes: the count may be 1 to {MOST:,}.", HOW)
        if not SMALLEST <= self.size <= LARGEST:
            raise RicError(
                f"Scenes of {self.size} pixels: the size may be {SMALLEST} to {LARGEST}.", HOW
            )
        if self.seed < 0:
            raise RicError(f"The seed is {self.seed}; it must be 0 or greater.", HOW)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that determines the samples."""
        return hashlib.sha256(f"scenes recipe {RECIPE}: {self}".encode()).hexdigest()

    def __iter__(self) -> Iterator[EditSample]:
        """Iterate over all samples; pictures are drawn on access."""
        return self.of_split("all")

    def of_split(self, split: str) -> Iterator[EditSample]:
        """Iterate over the samples of `train`, `val`, `test` or `all`."""
        for index in range(self.count):
            if split in ("all", split_of_sample(self.seed, index)):
                yield self.sample(index)

    def ids_of_split(self, split: str) -> Iterator[str]:
        """Iterate over the ids of these samples: a thousand times as quick."""
        for index in range(self.count):
            if split in ("all", split_of_sample(self.seed, index)):
                yield sample_id(self.seed, index)

    def sample(self, index: int) -> EditSample:
        """Return sample `index`, its pictures not drawn yet."""
        edit = edit_of(self.seed, index, photos=self.photos)
        name = sample_id(self.seed, index)
        return EditSample(
            id=name,
            **vars(texts_of(edit, self.seed, index, shadows=self.shadows)),
            editing_type=edit.type,
            split=edit.split,
            group_id=name,
            pictures=DrawnPictures(self, index),
        )

    def draw(self, index: int) -> tuple[Edit, Pair]:
        """Draw edit `index` and its pixels."""
        edit = edit_of(self.seed, index, photos=self.photos)
        return edit, render_pair(edit.source, edit.target, self.size, shadows=self.shadows)


def parse_scenes(text: str) -> SceneStream:
    """Read `scenes:COUNT[@SIZE][#SEED]`.

    Raises:
        RicError: The text has another form, or a number is out of its range.
    """
    found = re.fullmatch(r"scenes:([0-9]{1,12})(?:@([0-9]{1,6}))?(?:#([0-9]{1,18}))?", text)
    if not found:
        raise RicError(f"{text!r} is not a valid stream of scenes.", HOW)
    count, size, seed = found.groups()
    return SceneStream(count=int(count), size=int(size or USUAL_SIZE), seed=int(seed or 0))


def is_scenes(data: str) -> bool:
    """Tell whether DATA is drawn scenes: a stream, or a folder that `ric scenes` wrote."""
    return data.startswith("scenes:") or (Path(data) / MARK).is_file()


def edit_of_sample(name: str, *, photos: bool = False) -> Edit:
    """Rebuild the edit of a sample from its id, such as `scene-7-000012`.

    Raises:
        RicError: The id is not that of a scene.
    """
    found = re.fullmatch(r"scene-([0-9]+)-([0-9]+)", name)
    if not found:
        raise RicError(f"{name!r} is not the id of a scene.", "An id looks like scene-7-000012.")
    return edit_of(int(found[1]), int(found[2]), photos=photos)


def first_of_type(stream: SceneStream, kind: str, count: int) -> list[int]:
    """List the first `count` indices of an edit type; `stream.count` does not limit them.

    Raises:
        RicError: There is no such type.
    """
    if kind not in TYPES:
        raise RicError(f"Unknown edit type {kind!r}.", f"Choose one of: {', '.join(TYPES)}.")
    found: list[int] = []
    index = 0
    while len(found) < count:
        if type_of(stream.seed, index) == kind:
            found.append(index)
        index += 1
    return found


class DrawnPictures(Pictures):
    """Pictures that are drawn on access, and drawn again once they have left a small cache."""

    def __init__(self, stream: SceneStream, index: int) -> None:
        """Store what to draw."""
        # the fields of a frozen data class; those that are not set keep their defaults
        object.__setattr__(self, "stream", stream)
        object.__setattr__(self, "index", index)
        object.__setattr__(self, "described_in", "the scenes")


def _drawn(name: str) -> Any:
    """Make a property that draws one picture."""
    return property(lambda pictures: _encoded(pictures.stream, pictures.index)[name])


for _name in ("source", "target", "mask", "context_mask"):
    setattr(DrawnPictures, _name, _drawn(_name))


@lru_cache(maxsize=16)
def _encoded(stream: SceneStream, index: int) -> dict[str, bytes]:
    """Draw one sample's pictures as PNG; the last few are cached, as each is read by itself."""
    _, pair = stream.draw(index)
    return {name: as_png(pixels) for name, pixels in vars(pair).items()}


def as_png(values: NDArray[np.uint8] | NDArray[np.bool_]) -> bytes:
    """Encode pixels (H, W, 3) or a mask (H, W) as PNG."""
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "PNG", compress_level=1)
    return stream.getvalue()
