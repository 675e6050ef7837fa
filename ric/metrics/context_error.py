"""Measure whether the rest of the picture follows the edit, where the right answer is known.

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
    from typing import Any

    from numpy.typing import NDArray

    from ric.metrics.edit_success import EditChecker
    from ric.metrics.pairs import Pair

# relative error above which the context counts as not edited
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
        edited: The output, any size; it is resized to the target's.
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
    """Return the squared error to the target inside `where`, relative to the source's.

    Returns:
        0 for the exact target, 1 for the source; None where source and target agree in `where`.

    Raises:
        ValueError: sizes differ.
    """
    if len({image.size for image in (edited, source, target)} | {where.shape[::-1]}) > 1:
        raise ValueError("pictures and mask are of different sizes")
    doing_nothing = squared_error(source, target, where)
    if doing_nothing == 0:
        return None
    return squared_error(edited, target, where) / doing_nothing


def l1_inside(a: Image.Image, b: Image.Image, where: NDArray[np.bool_]) -> float:
    """Return the mean absolute difference in [0, 1] inside `where`, over pixels and channels."""
    return float(np.abs(_differences(a, b, where)).mean())


def scene_columns(pair: Pair, checker: EditChecker) -> dict[str, Any]:
    """Score one edit of a drawn scene: a sample's columns of `scores.OF_SCENES`.

    `region_weight` and `context_weight` say how much had to change there and weight the means of
    the relative errors; `sticker_rate` is None unless the edit is right and context must change.

    Args:
        pair: With target, mask, context mask and edit.
        checker: Tells whether the edit was carried out.

    Raises:
        ValueError: the pair lacks one of these, sizes differ, or the two masks overlap.
    """
    if pair.target is None or pair.mask is None or pair.context_mask is None or pair.edit is None:
        raise ValueError(f"{pair.id} is not a complete sample of drawn scenes")
    mask, context = (np.asarray(image) >= 128 for image in (pair.mask, pair.context_mask))
    edited = fit_to(pair.edited, pair.target.size)
    scores = context_scores(edited, pair.source, pair.target, mask, context)
    right = checker.succeeded(pair.edit, edited, pair.source, pair.target)
    inside = mask | context
    error = l1_inside(edited, pair.target, inside)
    return {
        "edit_success": float(right),
        "l1_inside": error,
        "l1_gain": l1_inside(pair.source, pair.target, inside) - error,
        "region_error": scores.region_error,
        "region_weight": squared_error(pair.source, pair.target, mask),
        "context_error": scores.context_error,
        "context_weight": squared_error(pair.source, pair.target, context),
        "sticker_rate": None if not right else _as_number(is_sticker(scores, edit_is_right=True)),
        "psnr_preserved": scores.preserved,
    }


def _as_number(answer: bool | None) -> float | None:
    return None if answer is None else float(answer)


def squared_error(a: Image.Image, b: Image.Image, where: NDArray[np.bool_]) -> float:
    """Return the sum of squared differences in [0, 1] inside `where`."""
    return float(np.square(_differences(a, b, where)).sum())


def _differences(a: Image.Image, b: Image.Image, where: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the differences (N, 3) of the marked pixels' levels in [0, 1]."""
    ours, theirs = (np.asarray(image.convert("RGB"), np.float64)[where] for image in (a, b))
    return (ours - theirs) / 255


def is_sticker(scores: ContextScores, *, edit_is_right: bool) -> bool | None:
    """Tell whether an edit is right in its region and wrong around it.

    Returns:
        None where it does not apply: nothing outside the region must change.
    """
    if scores.context_error is None:
        return None
    return edit_is_right and scores.context_error > STICKER_ABOVE
