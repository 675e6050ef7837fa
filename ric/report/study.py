"""A human study: a page of blind pairs of edits, and the key that says who made which.

The page must not tell. Both edits of a pair are brought to their source's size and encoded alike;
the page holds neither labels, names of files, ids of samples nor the seed; sides and order are
shuffled.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from ric.data.images import ImageError, open_image
from ric.errors import RicError, SampleError
from ric.metrics.pairs import fit_to, has_shape_of
from ric.report.arms import output_of
from ric.report.page import render
from ric.report.study_pairs import StudyPair, choose_pairs, pairs_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ric.data.edit_sample import EditSample
    from ric.progress import Progress
    from ric.report.arms import Arm, Side
    from ric.report.thumbs import Thumbs


@dataclass(frozen=True)
class Asked:
    """A study to be made: how many pairs, by which seed, of the first `limit` samples."""

    count: int
    seed: int = 0
    limit: int | None = None


class Study(NamedTuple):
    """A page and its key.

    Attributes:
        hash: Names the study: of all that the page shows.
        page: HTML.
        key: What `ric.scoring.votes.read_key` reads.
        failures: A line for each pair that cannot be shown.
    """

    hash: str
    page: str
    key: dict[str, Any]
    failures: list[str]


def make_study(side: Side, asked: Asked, thumbs: Thumbs, progress: Progress) -> Study:
    """Choose pairs, copy their pictures, and write page and key.

    Args:
        side: The editors and their samples.
        asked: How many pairs, and which.
        thumbs: Puts pictures into their addresses.
        progress: Counts the pairs.

    Raises:
        RicError: DATA cannot be read, there are not two editors with sources, or fewer pairs than
            `asked` wants.
    """
    _refuse_unfit(side)
    failures: list[str] = []

    def fail(error: SampleError) -> None:
        failures.append(f"{error.sample_id}: {error.reason}")

    held = {
        sample.id: [arm.label for arm in side.arms if output_of(arm, sample)]
        for sample in islice(side.samples(fail), asked.limit)
    }
    if (there := pairs_in(held)) < asked.count:
        raise RicError(
            f"There are {there} pairs of edits of one sample, and --study asks for {asked.count}.",
            f"Use --study {there}" if there else "Name runs that edited the same samples.",
        )
    pairs = choose_pairs(held, asked.count, seed=asked.seed)
    shown: dict[StudyPair, dict[str, Any]] = {}
    photos: dict[str, str] = {}
    with progress.stage("copying pairs", len(pairs), unit="pairs") as stage:
        for sample in islice(side.samples(lambda error: None), asked.limit):
            for pair in pairs:
                if pair.sample != sample.id:
                    continue
                try:
                    shown[pair] = _shown(pair, sample, side.arms, thumbs)
                    photos[sample.id] = sample.group()
                except (SampleError, ImageError) as error:
                    reason = error.reason if isinstance(error, SampleError) else error.message
                    failures.append(f"{sample.id}: {reason}")
                stage.advance()
    if not shown:
        raise RicError(f"No pair can be shown: {failures[0]}", "Fix the pictures and repeat.")
    return _written(side, asked, [pair for pair in pairs if pair in shown], shown, photos)._replace(
        failures=failures
    )


def _refuse_unfit(side: Side) -> None:
    """Refuse runs that no study can be made of (RicError)."""
    if side.compares_two:
        raise RicError(
            "A study shows edits beside their sources, and these runs compare two folders.",
            "Score with --source or --data: ric eval A=DIR B=DIR --source DIR",
        )
    if len(side.arms) < 2:
        names = ", ".join(arm.label for arm in side.arms) or "none"
        raise RicError(
            f"A study compares two editors or more, and these runs have {names}.",
            "Name another edit run, or an eval run of several editors.",
        )


def _shown(
    pair: StudyPair, sample: EditSample, arms: Sequence[Arm], thumbs: Thumbs
) -> dict[str, Any]:
    """Copy a pair's three pictures, all at the source's size."""
    source = sample.load_source()
    about = {
        "instruction": sample.instruction,
        "size": thumbs.size_of(source),
        "source": thumbs.add(source, "source", 0),
    }
    files = {arm.label: output_of(arm, sample) for arm in arms}
    for place, label in (("a", pair.a), ("b", pair.b)):
        file = files[label]
        assert file is not None  # `choose_pairs` was told so
        edit = open_image(file, max_pixels=sample.pictures.max_pixels)
        if not has_shape_of(edit.size, source.size):
            reason = (
                f"the edit by {label} is {edit.width}x{edit.height}, of another shape than its"
                f" source, {source.width}x{source.height}"
            )
            raise SampleError(sample.id, "edit", reason)
        about[place] = thumbs.add(fit_to(edit, source.size), place, 0)
    return about


def _written(
    side: Side,
    asked: Asked,
    pairs: Sequence[StudyPair],
    shown: dict[StudyPair, dict[str, Any]],
    photos: dict[str, str],
) -> Study:
    """Write the page and its key."""
    content = [shown[pair] for pair in pairs]
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    page = render("study", "img-src data:", study={"study": digest, "pairs": content})
    key = {
        "study": digest,
        "seed": asked.seed,
        "editors": [arm.label for arm in side.arms],
        "pairs": [{**pair._asdict(), "photo": photos[pair.sample]} for pair in pairs],
    }
    return Study(digest, page, key, [])
