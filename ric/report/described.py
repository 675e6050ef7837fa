"""The first texts of a describe run, each beside the picture that it is about."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ric.config import TEXT_OF
from ric.errors import SampleError
from ric.runs.samples import opened_data

if TYPE_CHECKING:
    from PIL.Image import Image

    from ric.config import DescribeConfig
    from ric.data.sample import EditSample
    from ric.runs.run import RunDir


class Described(NamedTuple):
    """A sample with its texts.

    Attributes:
        id: The sample's.
        picture: The one that `--image` names; None where it cannot be read.
        place: Its file; None where it lies in a table or is drawn.
        texts: By kind of text.
    """

    id: str
    picture: Image | None
    place: str | None
    texts: dict[str, str]


def first_described(config: DescribeConfig, run: RunDir, count: int) -> list[Described]:
    """Return the first samples of DATA that have a text, at most `count`.

    Raises:
        RicError: DATA cannot be read.
    """
    texts: dict[str, dict[str, str]] = {}
    for row in run.rows("descriptions"):
        what = row.get("what", "scene")
        text = row.get(TEXT_OF.get(what, ""))
        if isinstance(text, str) and (row["id"] in texts or len(texts) < count):
            texts.setdefault(row["id"], {})[what] = text
    found: dict[str, Described] = {}
    # without instructions too: which of them a text needed was settled when it was written
    samples = opened_data(config, run, need_instruction=False).samples if texts else None
    for sample in samples.glance() if samples else ():
        if sample.id in texts:
            found[sample.id] = _described(sample, config, texts[sample.id])
            if len(found) == len(texts):
                break
    return list(found.values())


def _described(sample: EditSample, config: DescribeConfig, texts: dict[str, str]) -> Described:
    is_target = config.image == "target" and sample.has_target
    place = sample.pictures.target if is_target else sample.pictures.source
    try:
        picture = sample.load_target() if is_target else sample.load_source()
    except SampleError:
        picture = None
    return Described(sample.id, picture, str(place) if _is_path(place) else None, texts)


def _is_path(place: object) -> bool:
    # others are encoded bytes, or draw a scene
    return isinstance(place, str) or hasattr(place, "__fspath__")
