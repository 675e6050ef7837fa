"""The protocol of describers, and how one is loaded; `registry.DESCRIBERS` lists them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import islice
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import torch

from ric.describers.quality import Answer
from ric.errors import RicError, SampleError, first_line
from ric.registry import load_part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path
    from typing import Any

    from ric.config import DescribeConfig
    from ric.data.sample import EditSample
    from ric.describers.requests import Request

    Answered = Iterator[tuple[Request, Answer | SampleError]]

PreparedT = TypeVar("PreparedT")

WINDOW = 4  # batches that are sorted together


class Describer(Protocol):
    """Writes texts about samples. `ric describe` calls nothing else.

    Attributes:
        is_model: Whether another seed gives another answer, so that a bad one is requested again.
            Otherwise texts are taken as they are.
        reads_prompt: Whether the answer depends on the prompt; otherwise no prompt is recorded.
    """

    is_model: bool
    reads_prompt: bool

    def answer(self, requests: Iterable[Request], between_steps: Callable[[], None]) -> Answered:
        """Answer requests, in any order, as soon as each is done.

        Args:
            requests: Read when there is room for more: reading one claims it.
            between_steps: Called often; raises if the command is to stop.

        Returns:
            Each request with its answer, or the error of one that cannot be answered.

        Raises:
            RicError: no further one can be answered.
        """


class OneByOne:
    """Adapts your own describer, a class whose `describe(sample)` returns the scene paragraph.

    Args:
        own: An instance of it.
    """

    is_model = False
    reads_prompt = False

    def __init__(self, own: Any) -> None:
        """Keep it."""
        self.own = own

    def answer(self, requests: Iterable[Request], between_steps: Callable[[], None]) -> Answered:
        """Describe one sample after the other."""
        for request in requests:
            between_steps()
            try:
                yield request, Answer(self.own.describe(request.sample))
            except SampleError as error:
                yield request, error


class CannotAnswer(Exception):  # noqa: N818
    """Requests cannot be answered together; says why."""


class BatchDescriber(ABC, Generic[PreparedT]):
    """Answers several requests at once; those that cannot be prepared or answered fail alone.

    Attributes:
        batch_size: The most requests that are answered together.
    """

    batch_size: int

    def answer(self, requests: Iterable[Request], between_steps: Callable[[], None]) -> Answered:
        """Answer requests; see `Describer`."""
        for batch in in_batches(requests, self.batch_size, self.length):
            between_steps()
            prepared: list[tuple[Request, PreparedT]] = []
            for request in batch:
                try:
                    prepared.append((request, self.prepare(request)))
                except SampleError as error:
                    yield request, error
            if prepared:
                yield from self._answer_together(prepared, between_steps)

    def _answer_together(
        self, batch: Sequence[tuple[Request, PreparedT]], between_steps: Callable[[], None]
    ) -> Answered:
        """Answer prepared requests together, or each alone if that cannot be done."""
        reason = ""
        try:
            answers = self.answer_batch(batch, between_steps)
        except CannotAnswer as error:
            reason = str(error)
        except torch.OutOfMemoryError as error:
            reason = f"there is not enough memory for it: {first_line(error)}"
        # outside the handler, which would keep the failed batch's tensors
        if not reason:
            yield from zip((request for request, _ in batch), answers, strict=True)
        elif len(batch) > 1:
            for one in batch:
                yield from self._answer_together([one], between_steps)
        else:
            yield batch[0][0], SampleError(batch[0][0].sample.id, "texts", reason)

    @abstractmethod
    def length(self, sample: EditSample) -> int:
        """Return the length of a sample's prompt in tokens, or a number that grows with it."""

    @abstractmethod
    def prepare(self, request: Request) -> PreparedT:
        """Read a request's pictures (raises SampleError if it cannot be answered)."""

    @abstractmethod
    def answer_batch(
        self, batch: Sequence[tuple[Request, PreparedT]], between_steps: Callable[[], None]
    ) -> list[Answer]:
        """Answer at least one prepared request.

        Args:
            batch: The requests with what `prepare` made of them.
            between_steps: Called after each token.

        Returns:
            An answer for each request.

        Raises:
            CannotAnswer: they cannot be answered together; of one alone, it cannot be answered.
        """


def in_batches(
    requests: Iterable[Request], size: int, length: Callable[[EditSample], int]
) -> Iterator[list[Request]]:
    """Group requests of similar length into batches, within a window of a few batches.

    Requests about the same pictures stay together. With batches of one, nothing is reordered.

    Args:
        requests: Read as far ahead as a window of batches.
        size: The most requests in a batch.
        length: Returns the length of a sample's prompt in tokens, or a number that grows with it;
            raises SampleError if it is unknown.
    """

    def key(request: Request) -> tuple[int, tuple[str, ...]]:
        try:
            return length(request.sample), request.shown
        except SampleError:
            return 0, request.shown  # it is reported when its pictures are read

    stream = iter(requests)
    while window := list(islice(stream, size if size == 1 else WINDOW * size)):
        if size > 1:
            window.sort(key=key)
        for first in range(0, len(window), size):
            yield window[first : first + size]


def load_describer(
    name: str, model: Path | None, config: DescribeConfig, device: torch.device
) -> Describer:
    """Load the describer called `name`.

    Args:
        name: A name that `ric.registry` describes.
        model: The folder of its model; None where it needs none.
        config: The command's settings.
        device: Where the model runs.

    Raises:
        RicError: there is no such describer, its model cannot be loaded, or it writes scene
            paragraphs alone and another text is asked for.
    """
    describer = load_part("describer", name)(model, config, device)
    if hasattr(describer, "answer"):
        return describer
    if config.what != "scene":
        raise RicError(
            f"--describer {name} has no `answer`: it writes scene paragraphs, not --what"
            f" {config.what}.",
            "See `Describer` in ric/describers/describer.py.",
        )
    return OneByOne(describer)
