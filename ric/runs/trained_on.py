"""Refusing to score a model on pictures it was trained on.

Every run that trains lists its samples; edit and eval runs descend from those runs. Samples are
compared by their group (an IMAGE_ID, or the source's pixels), so another edit of the same photo
counts too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ric.errors import RicError, SampleError
from ric.runs.finished import LISTED
from ric.runs.record import parents_of, read_record
from ric.runs.rows import read_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from ric.data.sample import Samples
    from ric.runs.run import RunDir

TRAINS = (
    "fit-clip", "fit-blip", "train-unet",
    "tiny-vae", "tiny-clip", "tiny-captioner", "tiny-classifier", "tiny-prior",
)  # fmt: skip


class Grouped(Protocol):
    """A sample with an id and a group."""

    @property
    def id(self) -> str:
        """The sample's id."""

    @property
    def group(self) -> str:
        """Equal for samples of the same picture."""


def list_trained_on(examples: Iterable[Grouped], run: RunDir) -> None:
    """List a run's training samples in it, for `trained_groups`."""
    for example in examples:
        run.append(LISTED, {"id": example.id, "group": example.group})


def trained_groups(run: Path) -> set[str]:
    """Collect the groups that `run` and all its ancestors were trained on.

    Raises:
        RicError: a record cannot be read, or a list of samples is damaged.
    """
    groups: set[str] = set()
    todo, seen = [run], set()
    while todo:
        path = todo.pop()
        if path in seen or not (path / "run.json").is_file():
            continue
        seen.add(path)
        record = read_record(path)
        if record["command"] in TRAINS:
            for row in read_rows(path, LISTED):
                if not isinstance(group := row.get("group"), str):
                    # skipped, it would count as one that was not trained on
                    raise RicError(f"{path}/{LISTED}.jsonl is damaged: {row['id']!r} has no group.")
                groups.add(group)
        todo += parents_of(path, record)
    return groups


def groups_of(samples: Samples) -> Iterator[str]:
    """Yield the group of every readable sample; the recipe lists the others as failures."""
    for sample in samples.glance():
        try:
            yield sample.group()
        except SampleError:
            continue


def refuse_overlap(trained: set[str], groups: Callable[[], Iterable[str]], what: str) -> None:
    """Refuse to edit or score samples that were trained on.

    Args:
        trained: The groups that were trained on.
        groups: Yields the group of each sample; called only if `trained` holds any, since it may
            have to decode every source.
        what: Names the model.

    Raises:
        RicError: at least one was; says how many.
    """
    asked = [group in trained for group in groups()] if trained else []
    if any(asked):
        raise RicError(
            f"{sum(asked)} of {len(asked)} samples were in the training data of {what}.",
            "Score on --split test, or accept the overlap with --allow-overlap.",
        )
