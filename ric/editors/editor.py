"""What an editor is. A new one is a file here and a row of `registry.EDITORS`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PIL.Image import Image


@dataclass(frozen=True)
class EditRequest:
    """One picture and what to do with it.

    Attributes:
        id: Names the edit; the noise of an edit is a function of the seed and this id.
        image: RGB, any size.
        instruction: An imperative sentence, not empty.
    """

    id: str
    image: Image
    instruction: str


def never_stop() -> None:
    """Do nothing: what an editor calls between steps where nobody may ask it to stop."""


class Editor(Protocol):
    """Edits pictures. `ric edit` calls nothing else.

    One that does not read all of a long instruction may also have `cuts(instruction) -> bool`: the
    edits it is true of are marked and counted.
    """

    def edit(
        self, requests: Sequence[EditRequest], between_steps: Callable[[], None] = never_stop
    ) -> list[Image | None]:
        """Return one RGB picture per request, in the size of its source.

        A request's result does not depend on which others it comes with. Where the model's numbers
        are not finite there is no picture but None.

        Args:
            requests: Pictures of any sizes.
            between_steps: Called before each step. It raises where a stop was asked for, and the
                editor lets that through: the whole call is repeated when the run goes on.
        """

    def describe(self) -> dict[str, object]:
        """Give the settings to record beside each edit: steps, scales, sizes."""
