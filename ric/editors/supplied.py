"""Parts of a request beside its sample: texts of describe runs, masks found by a text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from PIL.Image import Image

    from ric.data.masks import Mask
    from ric.editors.candidates import Chooser


@dataclass(frozen=True)
class Supplied:
    """See the file.

    Attributes:
        captions: By sample id, what describe runs have of the texts that editor and judges read.
        find_mask: Finds where to edit in an RGB picture, bool (H, W); None: masks are the data's.
        chooser: Chooses among candidates; None: there is one.
    """

    captions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    find_mask: Callable[[Image], Mask] | None = None
    chooser: Chooser | None = None
