"""Requests to a describer: a kind of text about a sample, with pictures and a prompt."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from PIL import ImageDraw

from ric.method.region_box import grow_box, tightest_box

if TYPE_CHECKING:
    from PIL.Image import Image

    from ric.config import Reference, What
    from ric.data.sample import EditSample
    from ric.method.region_box import Box

# a region is shown as two pictures, each of at most this size: DeepSeek-VL2 has room for both
REGION_PIXELS = 768 * 768
LEAST_CROP = 1 / 8  # of the picture's sides, so that a small region is seen with what it touches
OF_SOURCE = ("target-caption", "source-caption", "explicit-instruction")


@dataclass(frozen=True)
class Request:
    """One text that is asked for.

    Attributes:
        sample: What it is about.
        what: The kind of text.
        prompt: Filled with the sample's instruction.
        image: Which of the sample's pictures is shown.
        seed: Of the command; with a repeated question it decides how the answer is drawn.
        refused: What was wrong with earlier answers. The first answer is greedy.
    """

    sample: EditSample
    what: What
    prompt: str
    image: Reference
    seed: int = 0
    refused: tuple[str, ...] = ()

    @property
    def attempt(self) -> int:
        """The attempt that this request is, counted from 1."""
        return len(self.refused) + 1

    @property
    def answer_seed(self) -> int | None:
        """The seed of this answer, the same in every process; None: greedy."""
        if not self.refused:
            return None
        words = f"{self.seed}\0{self.sample.id}\0{self.what}\0{self.attempt}"
        return int.from_bytes(hashlib.sha256(words.encode()).digest()[:4]) >> 1

    @property
    def shown(self) -> tuple[str, ...]:
        """Name the pictures: requests of which this is the same show the same ones."""
        return (self.sample.id, self.image, *(["region"] if self.what == "region" else []))

    def asked_again(self, fault: str) -> Request:
        """Return the request for another answer, since the last one has a fault."""
        return replace(self, refused=(*self.refused, fault))

    def load_pictures(self) -> list[Image]:
        """Decode the pictures: one, and for a region two, RGB.

        Raises:
            SampleError: one cannot be read, or there is no region.
        """
        sample = self.sample
        picture = sample.load_target() if self.image == "target" else sample.load_source()
        if self.what != "region":
            return [picture]
        box = tightest_box(sample.load_mask())
        box = grow_box(box, picture.height, picture.width, LEAST_CROP)
        return [fitted(one, REGION_PIXELS) for one in (with_box(picture, box), picture.crop(box))]


def picture_of(what: What, image: Reference) -> Reference:
    """Return which picture a text is about: captions and instructions are written before the edit.

    Args:
        what: The kind of text.
        image: The one that `--image` names.
    """
    return "source" if what in OF_SOURCE else image


def with_box(picture: Image, box: Box) -> Image:
    """Draw a red box round a region; its line, 1/200 of the longer side, lies outside."""
    marked = picture.copy()
    width = max(2, max(picture.size) // 200)
    x_min, y_min, x_max, y_max = box
    outside = (x_min - width, y_min - width, x_max - 1 + width, y_max - 1 + width)
    ImageDraw.Draw(marked).rectangle(outside, outline=(255, 0, 0), width=width)
    return marked


def fitted(picture: Image, pixels: int) -> Image:
    """Scale a picture down to at most so many pixels; a smaller one is returned as it is."""
    width, height = picture.size
    if width * height <= pixels:
        return picture
    scale = (pixels / (width * height)) ** 0.5
    return picture.resize((max(1, int(width * scale)), max(1, int(height * scale))))
