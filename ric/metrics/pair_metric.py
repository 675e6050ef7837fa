"""The protocol of metrics that score one edited picture at a time: ric's own, and yours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL import Image

    from ric.metrics.pairs import Pair


class PairMetric(Protocol):
    """A number for each edited picture; the table shows its mean with an interval.

    Yours is created once per evaluation, as `Name(None, config, device)` from `--metrics
    my_file.py:Name`. It must also define `higher_is_better`, and may define `heading` (the column's
    title; by default its name), `digits` (4) and `needs`.

    Attributes:
        definition: What the number is, in one line.
        needs: `reference` (the default): the edited picture is passed at the reference's size.
            `mask` or `source`: it is passed at the source's size.
    """

    @property
    def definition(self) -> str:
        """See the class."""

    def score(self, pair: Pair, reference: Image.Image | None) -> float | None:
        """Score one edited picture; called from several threads at once.

        Args:
            pair: `edited`, and the sample's own `source`, `target`, `mask` and `text`, each None
                where the sample has none.
            reference: What outputs are compared with, `pair.source` or `pair.target`; None where
                the sample has none.

        Returns:
            A finite number; None where this picture has no such score.
        """
