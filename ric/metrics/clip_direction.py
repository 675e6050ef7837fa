"""CLIP directional similarity: whether a picture changed as its caption did.

Gal et al. 2022 (StyleGAN-NADA, Eq. 2, as a loss); as a score Brooks et al. 2023 (InstructPix2Pix).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn.functional import cosine_similarity

if TYPE_CHECKING:
    from torch import Tensor

DEFINITION = (
    "cosine between edited less source and target_text less source_text, each a vector of length 1"
    " before it is subtracted; 0 for an unchanged picture"
)
# Embeddings of one picture in two batches differ by some 1e-6 of rounding, whose direction is
# arbitrary; one level of one pixel moves them further.
NO_CHANGE = 1e-5


def clip_direction(
    edited: Tensor, source: Tensor, target_text: Tensor, source_text: Tensor
) -> float | None:
    """Return the cosine of the change of the picture and that of its caption, in [-1, 1].

    Args:
        edited: (P,) CLIP's embedding of the output, of length 1; the others likewise.
        source: Of the picture before the edit.
        target_text: Of what the edit should show.
        source_text: Of what the source shows.

    Returns:
        0 where the picture did not change; None where the captions do not differ.
    """
    of_picture = edited.double() - source.double()
    of_text = target_text.double() - source_text.double()
    if of_text.norm() < NO_CHANGE:
        return None
    if of_picture.norm() < NO_CHANGE:
        return 0.0
    return float(cosine_similarity(of_picture, of_text, dim=0))
