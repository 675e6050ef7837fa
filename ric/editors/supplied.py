"""Parts of a request beside its sample: texts of describe runs, masks found by a text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from PIL.Image import Image

    from ric.data.masks import Mask


@dataclass(frozen=True)
class Supplied:
    """See the file.

    Attributes:
        captions: By sample id, what describe runs have of the texts that the editor reads.
        find_mask: Finds where to edit in an RGB picture, bool (H, W); None: masks are the data's.
    """

    captions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    find_mask: Callable[[Image], Mask] | None = None
