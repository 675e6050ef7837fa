"""The protocol of editors. A new one is a file here and a row of `registry.EDITORS`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PIL.Image import Image

    from ric.data.masks import Mask
    from ric.errors import SampleError


@dataclass(frozen=True)
class EditRequest:
    """One picture and what to do with it.

    Attributes:
        id: Names the edit; what is drawn for an edit is a function of the seed and this id.
        image: RGB, any size.
        instruction: An imperative sentence, not empty; "" where the editor reads captions alone.
        source_text: A caption of the picture, for editors that go from one caption to another.
        target_text: A caption of the edit.
        mask: Where to edit, bool (H, W) of the image, True in the mask and its feather; None:
            everywhere. `ric edit` puts the source back outside it, whatever the editor does there;
            an editor may heed it too, so that what it makes inside fits.
        seed: Of this edit (`--seeds`); None: `config.seed`, which holds for all.
    """

    id: str
    image: Image
    instruction: str
    source_text: str = ""
    target_text: str = ""
    mask: Mask | None = None
    seed: int | None = None


def never_stop() -> None:
    """Do nothing: the default of what an editor calls between steps."""


class Editor(Protocol):
    """Edits pictures. `ric edit` calls nothing else.

    It may also have

    - `cuts(request) -> bool`, if it truncates long texts: edits for which it returns True are
      marked and counted;
    - `working_size(width, height)`, if it resizes: the size that it edits such a picture at, which
      is recorded; enlarging back is reported;
    - `caveat: str`: a line that is shown before the first edit, unless it is empty;
    - `facts(request) -> dict`: what the row of an edit of the last call records besides;
    - `intermediates(request) -> dict[str, Image]`: the pictures on the way to such an edit, by
      name, which `--save-intermediates` keeps.
    """

    def edit(
        self, requests: Sequence[EditRequest], between_steps: Callable[[], None] = never_stop
    ) -> Sequence[Image | SampleError | None]:
        """Return one RGB picture per request, in the size of its source.

        A request's result does not depend on the others in the batch. It is None where the model's
        output is not finite, and an error where the editor finds nothing to edit.

        Args:
            requests: Pictures of any sizes.
            between_steps: Called before each step. It raises when a stop was requested, and the
                editor must not catch that: a resumed run repeats the whole call.
        """

    def describe(self) -> dict[str, object]:
        """Return the settings to record beside each edit: steps, scales, sizes."""
