"""What a metric is that looks at one edited picture at a time: ric's own of pixels, and yours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL import Image

    from ric.metrics.pairs import Pair


class PairMetric(Protocol):
    """A number of each edited picture; the table shows its mean with an interval.

    One of your own is made by `Name(None, config, device)` from `--metrics my_file.py:Name`, once
    an evaluation. It must say `higher_is_better`, and may say `heading` (its column's title; else
    its name), `digits` (4) and `needs`.

    Attributes:
        definition: What the number is, in one line.
        needs: `reference` (where it is left out): the edited picture comes at the size of what
            outputs are held against. Or `mask`, or `source`: it comes at the source's size.
    """

    @property
    def definition(self) -> str:
        """See the class."""

    def score(self, pair: Pair, reference: Image.Image | None) -> float | None:
        """Score one edited picture; called in several threads at once.

        Args:
            pair: `edited`, and the sample's own `source`, `target`, `mask` and `text`, each None
                where the sample has none.
            reference: What outputs are held against, `pair.source` or `pair.target`.

        Returns:
            A finite number; None where this picture has no such score.
        """
