"""The samples a recipe works on: checked, squared; those that fail are listed and skipped.

Their pictures are 8-bit views into a memory-mapped file (`squares`): training loops never decode.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ric.errors import RicError, SampleError
from ric.inputs.squares import UNLOCALISED, Squares, Squaring, decode_squares, is_unlocalised

if TYPE_CHECKING:
    from torch import Tensor

    from ric.config import CommandConfig, Fit, RegionText, SplitName
    from ric.method.region_box import Box
    from ric.runs.descriptions import Descriptions
    from ric.runs.run import RunDir
    from ric.work import Work


@dataclass(frozen=True)
class Example:
    """A sample ready for training.

    Attributes:
        source: uint8 (3, S, S); None where only the target is used.
        target: uint8 (3, S, S).
        box: The region in pixels of the square; None if the derived one is unlocalised, the mask is
            unusable, or regions play no part.
        region_text: t_r, None when the sample has none.
        scene_text: t_f, None when the sample has none.
        bad_mask: Why its mask is unusable; None if it is usable, or masks are not read.
    """

    id: str
    group: str
    instruction: str
    source: Tensor | None
    target: Tensor
    box: Box | None
    region_text: str | None
    scene_text: str | None
    bad_mask: str | None = None


@dataclass(frozen=True)
class Needs:
    """A recipe's requirements of its samples.

    Attributes:
        size: S of the squares.
        fit: `squash` or `crop`.
        region_text: Which text is t_r; None when region texts and boxes play no part.
        descriptions: Texts in place of the data's own. If they hold any t_f, a sample without one
            there has none; likewise t_r.
        require: Some of `region_text`, `scene_text`, `box`: a sample that lacks one is a failure.
            Where no box is required, a sample with a bad mask only loses its box.
        sources: Whether the sources are kept after masks are derived from them.
    """

    size: int
    fit: Fit = "squash"
    region_text: RegionText | None = None
    descriptions: Descriptions | None = None
    require: tuple[str, ...] = ()
    sources: bool = True


def load_examples(
    config: CommandConfig, work: Work, split: SplitName, needs: Needs
) -> list[Example]:
    """Load every usable sample of a split; their pictures are views of the mapped squares.

    A split beside the command's own, which is only measured, is left out with a note where the
    descriptions are of none of its samples.

    Args:
        config: DATA's limits and columns.
        work: DATA; its run gets a failure row per sample that cannot be used.
        split: Which samples.
        needs: Their size, texts and boxes.

    Raises:
        RicError: the data as a whole cannot be read, or `--ignore-signature` meets `--fit crop`.
    """
    if config.ignore_signature and needs.fit == "crop":
        raise RicError(
            "--ignore-signature needs --fit squash: a crop moves the signature.",
            "Omit one of the two.",
        )
    how = Squaring(
        size=needs.size,
        fit=needs.fit,
        masks="ignored"
        if needs.region_text is None
        else "required"
        if "box" in needs.require
        else "wanted",
        keep_source=needs.sources,
        ignore_signature=config.ignore_signature,
    )
    squares = decode_squares(config, work, split, how)
    if split != config.split and (lacking := _undescribed(squares, needs)):
        work.progress.note(f"Nothing is measured on split {split}: {lacking}")
        return []
    for error in squares.failures:
        work.run.fail(error)
    examples = []
    for place in range(len(squares.rows)):
        example = _described(_example_at(place, squares, needs.region_text), needs)
        try:
            _refuse_incomplete(example, needs)
        except SampleError as error:
            work.run.fail(error)
            continue
        examples.append(example)
    _note_large(examples, needs.size, work)
    return examples


def _note_large(examples: list[Example], size: int, work: Work) -> None:
    """Note samples whose given mask is so large that a derived one would be left out (choice 2)."""
    large = [item.id for item in examples if item.box and is_unlocalised(item.box, size)]
    if large:
        known = work.run.record.get("large_masks", ())
        work.run.note(large_masks=sorted({*known, *large}))
        work.progress.note(
            f"{len(large)} samples have a given mask whose box covers over {UNLOCALISED:.0%} of the"
            " picture: their region is most of it (large_masks in run.json)"
        )


def _example_at(place: int, squares: Squares, region_text: RegionText | None) -> Example:
    row = squares.rows[place]
    return Example(
        id=row["id"],
        group=row["group"],
        instruction=row["instruction"],
        source=squares.sources[place] if squares.sources is not None else None,
        target=squares.targets[place],
        box=tuple(row["box"]) if row["box"] else None,
        region_text=row["instruction" if region_text == "instruction" else "region_text"],
        scene_text=row["scene_text"],
        bad_mask=row["bad_mask"],
    )


def _described(example: Example, needs: Needs) -> Example:
    """Put described texts in the place of the data's own."""
    if needs.descriptions is None:
        return example
    texts = needs.descriptions.texts
    if "scene_text" in texts:
        example = replace(example, scene_text=texts["scene_text"].get(example.id))
    # otherwise an instruction takes its place, or nothing
    if "region_text" in texts and needs.region_text == "region_text":
        example = replace(example, region_text=texts["region_text"].get(example.id))
    return example


def _undescribed(squares: Squares, needs: Needs) -> str | None:
    """Say which required text descriptions have of no sample; None if there is none."""
    if needs.descriptions is None or not squares.rows:
        return None
    ids = {row["id"] for row in squares.rows}
    for name in needs.require:
        if name in needs.descriptions.texts and ids.isdisjoint(needs.descriptions.texts[name]):
            return f"{needs.descriptions.origin} has no {name} of its samples"
    return None


def _refuse_incomplete(example: Example, needs: Needs) -> None:
    """Raise SampleError if an example lacks a required attribute."""
    for name in needs.require:
        if getattr(example, name) is None:
            if needs.descriptions is not None and name in needs.descriptions.texts:
                reason = f"it has no {name} in {needs.descriptions.origin}"
                raise SampleError(example.id, "texts", reason)
            raise SampleError(example.id, *_MISSING[name])


# by missing attribute: the stage and the reason of the failure row
_MISSING = {
    "region_text": (
        "texts",
        "it has no region_text (use --region-text instruction, or add the column)",
    ),
    "scene_text": (
        "texts",
        "it has no scene_text (make one with ric describe, or add the column)",
    ),
    "box": (
        "mask",
        f"its derived mask's box covers over {UNLOCALISED:.0%} of the picture: unlocalised",
    ),
}


def enough(examples: list[Example], run: RunDir, least: int = 2) -> list[Example]:
    """Return the examples when there are at least `least`.

    Raises:
        RicError: there are fewer; it says how many were lost and why.
    """
    if len(examples) < least:
        reasons = [f"{row['id']}: {row['reason']}" for row in run.rows("failures")]
        lost = f" {len(reasons)} were lost: {'; '.join(reasons[:3])}" if reasons else ""
        raise RicError(
            f"{len(examples)} usable samples in {run.record['config']['data']} "
            f"(split {run.record['config']['split']}); at least {least} are needed.{lost}",
            "See failures.jsonl in the run, or choose another split: --split all",
        )
    return examples
