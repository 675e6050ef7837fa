"""Does the rest of the picture follow the edit? Measured where the right answer is known.

On drawn scenes the target is exact, and a context mask says where, outside the edited region, the
picture must change too: the cast shadow that goes with a removed tree, the reflection of a boat
that changed its colour. An edit that is right in its region and wrong there is a *sticker*.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from ric.metrics.pairs import fit_to
from ric.metrics.pixel import psnr_outside

if TYPE_CHECKING:
    from numpy.typing import NDArray

# an edit leaves its context as wrong as this share of doing nothing: the context was not edited
STICKER_ABOVE = 0.5


class ContextScores(NamedTuple):
    """One edited picture against its exact target.

    Attributes:
        region_error: Squared error inside the mask, relative to the unedited source's: 0 is the
            exact target, 1 as wrong as doing nothing, more is worse than that. None where source
            and target agree there.
        context_error: The same inside the context mask; None where nothing outside must change.
        preserved: PSNR in dB against the source outside both masks; None where nothing is outside.
    """

    region_error: float | None
    context_error: float | None
    preserved: float | None


def context_scores(
    edited: Image.Image,
    source: Image.Image,
    target: Image.Image,
    mask: NDArray[np.bool_],
    context_mask: NDArray[np.bool_],
) -> ContextScores:
    """Score one edit of a drawn scene.

    Args:
        edited: The output, any size; it is brought to the target's.
        source: The picture before.
        target: The exact answer, of the source's size.
        mask: (H, W), True in the edited object's region.
        context_mask: (H, W), True where else the picture must change.

    Raises:
        ValueError: sizes differ, or the two masks overlap.
    """
    if np.any(mask & context_mask):
        raise ValueError("the mask and the context mask overlap")
    edited = fit_to(edited, target.size)
    either = Image.fromarray(mask | context_mask).convert("L")
    return ContextScores(
        region_error=relative_error(edited, source, target, mask),
        context_error=relative_error(edited, source, target, context_mask),
        preserved=psnr_outside(edited, source, either),
    )


def relative_error(
    edited: Image.Image, source: Image.Image, target: Image.Image, where: NDArray[np.bool_]
) -> float | None:
    """Return the squared error to the target inside `where`, relative to the source's."""
    pictures = [np.asarray(image.convert("RGB"), np.float64) for image in (edited, source, target)]
    if len({picture.shape[:2] for picture in pictures} | {where.shape}) > 1:
        raise ValueError("pictures and mask are of different sizes")
    made, before, right = (picture[where] for picture in pictures)
    doing_nothing = np.square(before - right).sum()
    if doing_nothing == 0:
        return None
    return float(np.square(made - right).sum() / doing_nothing)


def is_sticker(scores: ContextScores, *, edit_is_right: bool) -> bool | None:
    """Tell whether an edit is right in its region and wrong around it.

    Returns:
        None where the question does not arise: nothing outside the region must change.
    """
    if scores.context_error is None:
        return None
    return edit_is_right and scores.context_error > STICKER_ABOVE
