"""Requests to a judge about one edit: a prompt and one or two pictures, in one of two orders."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, cast

from ric.data.edit_sample import EditSample, Pictures
from ric.data.images import pixel_hash
from ric.describers.prompt import filled
from ric.describers.requests import Request
from ric.metrics.pairs import as_rgb
from ric.scoring.judge_prompts import EDITED, QUESTIONS, SOURCE, prompt_name, question_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PIL.Image import Image

    from ric.config import What
    from ric.metrics.pairs import Pair

PLACES = ("first", "second")


class Asked(NamedTuple):
    """One question about one editor's picture of one sample.

    Attributes:
        label: The editor's.
        id: The sample's.
        question: A key of `QUESTIONS`.
        swapped: Whether the edit is shown before the source.
    """

    label: str
    id: str
    question: str
    swapped: bool


def order_of(asked: Asked) -> str:
    """Name the order of the pictures: `in_order`, with the source first, or `swapped`."""
    return "swapped" if asked.swapped else "in_order"


@dataclass(frozen=True)
class JudgeRequest(Request):
    """A request whose pictures are in memory already.

    Attributes:
        prompt_name: The prompt's, such as `imgedit-style`.
        pictures: One or two, RGB, in the order in which they are shown.
        digest: Names prompt and pictures: requests of one digest are the same.
    """

    prompt_name: str = ""
    pictures: tuple[Image, ...] = ()
    digest: str = ""

    @property
    def shown(self) -> tuple[str, ...]:
        """Name the pictures, for back-ends that read those of several requests once."""
        return tuple(str(id(one)) for one in self.pictures)

    @property
    def question(self) -> str:
        """The key of `QUESTIONS`."""
        return question_of(self.prompt_name)

    def load_pictures(self) -> list[Image]:
        """Return the pictures."""
        return list(self.pictures)


class AskedAbout(NamedTuple):
    """A pair with the digests of its pictures.

    Attributes:
        pair: The edit.
        source: The SHA-256 of the source's pixels.
        edited: That of the edit's.
    """

    pair: Pair
    source: str
    edited: str

    @property
    def digest(self) -> str:
        """Names pictures and instruction, whoever is asked about them."""
        return digest_of(self.pair.instruction, self.source, self.edited)


def about(pair: Pair, known: dict[int, str]) -> AskedAbout:
    """Hash a pair's pictures; `known` holds the hashes of a batch, by the picture's `id`."""
    for picture in (pair.source, pair.edited):
        if id(picture) not in known:
            known[id(picture)] = pixel_hash(picture)
    return AskedAbout(pair, known[id(pair.source)], known[id(pair.edited)])


def request_for(
    asked: Asked, of: AskedAbout, prompts: Mapping[str, str], seed: int
) -> JudgeRequest | None:
    """Return the request of a question; None where it needs an instruction and there is none."""
    pair, shows_source = of.pair, QUESTIONS[asked.question].shows_source
    if shows_source and not pair.instruction:
        return None
    name = prompt_name(asked.question, pair.editing_type, prompts)
    order = PLACES[::-1] if asked.swapped else PLACES
    prompt = prompts[name]
    for place, word in zip((SOURCE, EDITED), order, strict=True):
        prompt = prompt.replace(place, word)
    prompt = filled(prompt, pair.instruction or "")
    pictures, hashes = [as_rgb(pair.edited)], [of.edited]
    if shows_source:
        pictures, hashes = [as_rgb(pair.source), *pictures], [of.source, *hashes]
    if asked.swapped:
        pictures, hashes = pictures[::-1], hashes[::-1]
    sample = EditSample(
        id=pair.id,
        instruction=pair.instruction or "",
        pictures=Pictures(source=pair.source, target=pair.edited),
    )
    # `what` seeds repeated questions and names the text; a judge's are no kind of `ric describe`
    what = cast("What", f"{name} {order_of(asked)}")
    request = JudgeRequest(sample, what, prompt, "target", seed)
    return replace(
        request,
        prompt_name=name,
        pictures=tuple(pictures),
        digest=digest_of(prompt, *hashes),
    )


def digest_of(*parts: str | None) -> str:
    """Name some texts by the first 16 hex digits of their SHA-256."""
    return hashlib.sha256(repr(parts).encode(errors="backslashreplace")).hexdigest()[:16]
