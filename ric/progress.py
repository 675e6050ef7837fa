"""Progress reporting of recipes, independent of the listener (a terminal, a log, a notebook)."""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


class Stage(Protocol):
    """One counted piece of work, such as an epoch's steps or a folder's images."""

    def advance(self, count: int = 1, **values: float) -> None:
        """Count `count` more units done and show `values` (losses, rates) beside the bar."""


class Progress(Protocol):
    """The listener that a recipe reports to."""

    def stage(
        self, name: str, total: int | None = None, done: int = 0, unit: str = "steps"
    ) -> AbstractContextManager[Stage]:
        """Open a stage of `total` units (None: unknown), of which `done` are finished."""

    def note(self, message: str) -> None:
        """Show one line that stays readable after the bars are gone."""


class Silent:
    """The listener that shows nothing: the default of every recipe called from Python."""

    def advance(self, count: int = 1, **values: float) -> None:
        """Ignore the count."""

    @contextmanager
    def stage(
        self, name: str, total: int | None = None, done: int = 0, unit: str = "steps"
    ) -> Iterator[Stage]:
        """Yield itself: a stage that ignores its counts."""
        yield self

    def note(self, message: str) -> None:
        """Ignore the message."""
