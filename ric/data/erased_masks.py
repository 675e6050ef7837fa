"""Masks that are the source with the edit region erased, read beside that source (choice 14).

HumanEdit's MASK_IMG and MagicBrush's mask_img are such pictures: what was erased is transparent, or
black (white in MagicBrush). Photos have black, white and transparent parts of their own (a night
sky, a letterbox, a cut-out), so a pixel counts as erased only if it is so in the mask and not in
the source; specks are dropped. Colours are compared within 16 levels, as JPEG and resizing change
them; where most of what a mask keeps equals its source exactly, exactly black pixels count however
dark the source is there.

Such a column may also hold an ordinary mask, white on black: what it keeps is not the source.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image, ImageChops

from ric.data.images import ImageError, to_8_bit
from ric.data.masks import NEAR, on_black, refuse_transparent, white_on_black, without_small

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ric.data.masks import Mask

SPECK = 0.001  # erased regions are larger than 0.1 % of the image; black dots are not
SAME = 16  # levels: JPEG changes nearly every pixel by at most this
ALIKE = 32  # levels: resizing the source changes most pixels by at most this
ALIKE_SHARE = 0.8  # of the pixels that a mask keeps of its source

_WANTED = (
    "a mask is white where to edit and black elsewhere, or the picture with that region erased"
)


def mask_from_erased(
    image: Image.Image, source: Image.Image, erased: Literal["black", "white"] = "black"
) -> Mask:
    """Read a mask given as the source with the edit region erased, or as white on black.

    Args:
        image: HumanEdit's MASK_IMG or MagicBrush's mask_img, with its alpha.
        source: The picture it was made from, with its alpha; squashed to the mask's size.
        erased: The colour of erased pixels where no alpha says so: black in HumanEdit.

    Returns:
        bool (H, W) of `image`; all False where nothing is erased that the source shows.

    Raises:
        ImageError: The mask is transparent or of the erased colour everywhere, or it is neither
            the source nor white on black.
    """
    refuse_transparent(image)
    pair = _Pair.of(image, source)
    transparent = pair.only_mask_is_transparent()
    if transparent is not None:
        # white paint on transparent keeps nothing of its source
        ordinary = None if pair.is_alike(~transparent) else _ordinary(image)
        return transparent if ordinary is None else ordinary
    from_colour = _largest(np.abs(pair.mask.astype(np.int16) - (0 if erased == "black" else 255)))
    kept = from_colour > SAME
    if not kept.any():
        raise ImageError(f"The mask is {erased} everywhere: it does not say where to edit.")
    if not pair.is_alike(kept):
        ordinary = _ordinary(image)
        if ordinary is None:
            raise ImageError(f"What the mask shows is not the source; {_WANTED}.")
        return ordinary
    gone = (from_colour <= SAME) & (pair.apart > SAME)
    if pair.is_alike(kept, within=0):
        gone |= (from_colour == 0) & (pair.apart > 0)
    return without_small(gone & pair.source_is_opaque, SPECK)


def mask_of_unknown_kind(image: Image.Image, source: Image.Image) -> Mask:
    """Read a mask that is either erased or ordinary, as its own pixels tell.

    Transparent parts that the source does not have make it a picture whose edit region is erased,
    unless what it keeps is white and not the source; anything else has to be white on black.

    Raises:
        ImageError: As `mask_from_image`; or white paint on transparent over a source that is white
            there too, which is an ordinary mask to some programs and an erased picture to others.
    """
    refuse_transparent(image)
    pair = _Pair.of(image, source)
    transparent = pair.only_mask_is_transparent()
    if transparent is None:
        return white_on_black(image, f"{_WANTED} (alpha 0)")
    if not (pair.mask[~transparent] == 255).all():
        return transparent
    if pair.is_alike(~transparent):
        raise ImageError(
            "The mask is plain white and transparent, which does not say which of the two is to be"
            " edited: save it as white (where to edit) on black."
        )
    return white_on_black(image, _WANTED)


@dataclass(frozen=True)
class _Pair:
    """A mask picture beside its source, which is squashed to the mask's size.

    Attributes:
        mask: uint8 (H, W, 3), the colours under its alpha.
        mask_is_opaque: bool (H, W), alpha of 128 and over.
        source_is_opaque: bool (H, W).
        apart: uint8 (H, W), the levels between the two in the channel that differs most.
    """

    mask: NDArray[np.uint8]
    mask_is_opaque: Mask
    source_is_opaque: Mask
    apart: NDArray[np.uint8]

    @classmethod
    def of(cls, mask: Image.Image, source: Image.Image) -> _Pair:
        mask, source = (to_8_bit(picture).convert("RGBA") for picture in (mask, source))
        if source.size != mask.size:
            source = source.resize(mask.size, Image.Resampling.BICUBIC)
        difference = ImageChops.difference(mask.convert("RGB"), source.convert("RGB"))
        return cls(
            mask=np.asarray(mask.convert("RGB")),
            mask_is_opaque=np.asarray(mask.getchannel("A")) >= 128,
            source_is_opaque=np.asarray(source.getchannel("A")) >= 128,
            apart=_largest(np.asarray(difference)),
        )

    def only_mask_is_transparent(self) -> Mask | None:
        """Mark where only the mask is transparent; None if that is nothing but specks."""
        gone = without_small(~self.mask_is_opaque & self.source_is_opaque, SPECK)
        return gone if gone.any() else None

    def is_alike(self, kept: Mask, within: int = ALIKE) -> bool:
        """Tell whether the mask shows the source nearly everywhere in `kept`."""
        return bool((self.apart[kept] <= within).mean() >= ALIKE_SHARE)


def _ordinary(image: Image.Image) -> Mask | None:
    """Read a white-on-black mask; None for any other, also one of two other values."""
    if np.asarray(on_black(to_8_bit(image)).convert("L")).max() < 255 - NEAR:
        return None
    try:
        return white_on_black(image, _WANTED)
    except ImageError:
        return None


def _largest(channels: NDArray) -> NDArray:
    """Return the largest of three channels: (H, W, 3) to (H, W)."""
    return np.maximum(np.maximum(channels[..., 0], channels[..., 1]), channels[..., 2])
