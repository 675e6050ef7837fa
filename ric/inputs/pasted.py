"""Edits that do not belong to their picture: a target's region pasted into its source.

Choice 21: with `--pasted-negatives`, the picture that shows the target in the region's box, and the
source around it, is a further negative of the sample's own text in Eq. 11. A judge that tells the
two apart has to look at what surrounds the region: its shadow, its mirror image, the light on it.
Where the target differs from its source in the box alone, as after inpainting, the pasted picture
is the target itself, and counts for nothing.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from ric.inputs.examples import Example
    from ric.inputs.fit_set import FitSet

APART = 16  # of 255, in any channel: more than what JPEG does to a picture
LEAST = 0.002  # share of the picture's pixels that have to be so far apart


def pasted(item: Example) -> Tensor:
    """Return the source with the target's pixels in the box: (3, S, S), uint8.

    Without a box or a source it is the target.
    """
    if item.box is None or item.source is None:
        return item.target
    x_min, y_min, x_max, y_max = item.box
    picture = item.source.clone()
    picture[:, y_min:y_max, x_min:x_max] = item.target[:, y_min:y_max, x_min:x_max]
    return picture


def of_changing_surroundings(data: FitSet) -> frozenset[str]:
    """List the ids of a fit's examples whose surroundings change, comparing each once."""
    every = chain(data.fitted, *data.measured.values())
    return frozenset(item.id for item in every if surroundings_change(item))


def surroundings_change(item: Example) -> bool:
    """Tell whether the target differs from the pasted picture, so that this one is a negative."""
    apart = (pasted(item).short() - item.target.short()).abs().amax(dim=0) > APART
    return apart.float().mean().item() >= LEAST
