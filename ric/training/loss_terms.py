"""The terms of `train-unet --loss NAME=WEIGHT`, beside the three of Eq. 10.

Imports nothing heavy.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ric.errors import RicError
from ric.registry import refuse_unknown

if TYPE_CHECKING:
    from collections.abc import Iterable

PAPERS = ("noise", "region", "global")  # the paper's terms, by their names in the log


def refuse_unknown_terms(losses: Iterable[str]) -> None:
    """Refuse a term that is not known.

    Raises:
        RicError: as `weights_of` and `ric.registry.refuse_unknown`.
    """
    for place in weights_of(losses):
        refuse_unknown("loss", place)


def weights_of(losses: Iterable[str]) -> dict[str, float]:
    """Parse NAME=WEIGHT into weights by name; a name alone has the weight 1.

    Raises:
        RicError: a weight is not a number of 0 or more, or two terms share a name in the log.
    """
    weights: dict[str, float] = {}
    taken = set(PAPERS)
    for text in losses:
        place, _, number = text.partition("=")
        try:
            weight = float(number or 1)
        except ValueError:
            weight = math.nan
        if not 0 <= weight < math.inf:
            raise RicError(
                f"--loss {text}: its weight is not a number of 0 or more.",
                "Write it as NAME=WEIGHT, such as outside=0.5.",
            )
        if log_name(place) in taken:
            raise RicError(
                f"--loss {text}: there is already a term {log_name(place)!r}.",
                "Give each its own name; the paper's three are noise, region and global.",
            )
        taken.add(log_name(place))
        weights[place] = weight
    return weights


def log_name(place: str) -> str:
    """Return a term's name in `loss_…` and `grad_norm_…`: the last part of its place."""
    return place.rpartition(":")[2].rpartition(".")[2].lower()
