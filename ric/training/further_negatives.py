"""The further negatives that a fit's pairs have in Eq. 11 (choices 21 and 22).

A picture that is wrong for a pair's text: its source, or the region pasted into its source. A text
that is wrong for a pair's picture: its own with one attribute changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from ric.inputs.pasted import of_changing_surroundings, pasted
from ric.inputs.wrong_texts import wrong_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from ric.config import FitBlipConfig, FitClipConfig
    from ric.inputs.examples import Example
    from ric.inputs.fit_set import FitSet

WRONG_TEXT = "wrong_text"  # of the further negatives, the only one that is a text


@dataclass(frozen=True)
class FurtherNegatives:
    """The further negatives of a fit's pairs; without arguments there are none.

    Attributes:
        picture_of: Returns an example's wrong picture (3, S, S), uint8.
        text_of: Returns an example's wrong text; None if it has none.
        counts: By name (`source` or `pasted`, then `WRONG_TEXT`) whether an example's counts.
    """

    picture_of: Callable[[Example], Tensor] | None = None
    text_of: Callable[[Example], str | None] | None = None
    counts: Mapping[str, Callable[[Example], bool]] = field(default_factory=dict)


NONE = FurtherNegatives()


def further_negatives(
    config: FitClipConfig | FitBlipConfig, data: FitSet, text_of: Callable[[Example], str]
) -> FurtherNegatives:
    """Return the further negatives that a config asks for.

    Args:
        config: The fit's.
        data: All examples that will be embedded; their sources were loaded.
        text_of: Returns the text that an example is compared with.
    """
    counts: dict[str, Callable[[Example], bool]] = {}
    picture_of, wrong_of = None, None
    if getattr(config, "source_negatives", False):
        picture_of = source_of
        counts["source"] = lambda item: True
    elif config.pasted_negatives:
        changing = of_changing_surroundings(data)
        picture_of = pasted
        counts["pasted"] = lambda item: item.id in changing
    if config.attribute_negatives:

        def wrong_of(item: Example) -> str | None:
            return wrong_text(text_of(item), config.seed, item.id)

        counts[WRONG_TEXT] = lambda item: wrong_of(item) is not None
    return FurtherNegatives(picture_of, wrong_of, counts)


def source_of(item: Example) -> Tensor:
    """Return an example's source: (3, S, S), uint8."""
    return cast("Tensor", item.source)  # `Needs` asked for it
