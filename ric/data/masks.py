"""Where the edit is: masks read from files, from erased pictures, or from what changed.

Choice 14: the paper says nothing of HumanEdit's traps. Its MASK_IMG is the source with the edit
region erased (alpha 0, or exact black), so alpha is preferred and otherwise exact black counts once
specks, which are black things in the photo, are gone. Its targets carry a coloured signature in the
bottom-right corner, so that strip is left out of every derived mask. A missing mask is derived:
difference in Lab after a 3 px median, Otsu's threshold but at least 20 levels, opening, components
of at least 0.5 % of the image, dilated by 1 %. Plain thresholds give boxes of 90 to 100 % of the
image on real pairs, because their backgrounds are re-encoded.

An ordinary mask is white on black, and a photo is never thresholded into one: of a mask's pixels
90 % lie within 32 levels of black or white, so smoothed edges and JPEG pass, and 99 % are grey:
their channels are equal within 16 levels. Data whose columns nobody knows may hold masks of either
kind; there alpha that holds both 0 and 255 tells an erased picture.

Choice 2, masks: they shrink by maximum, so that a thin one survives any training size.

Shapes: a mask is bool (H, W), True where the picture is to be edited.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from ric.data.images import ImageError, to_8_bit

Mask = NDArray[np.bool_]

SIGNATURE_WIDTH = 0.12  # choice 14: right 12 %, bottom 3.5 %
SIGNATURE_HEIGHT = 0.035
SPECK = 0.001  # erased regions are larger than 0.1 % of the image; black dots are not
COMPONENT = 0.005  # choice 14: 0.5 % of the image
DILATION = 0.01  # choice 14: 1 % of the longer side
MIN_LEVELS = 20.0  # choice 14: of 255
# Above this a pixel has changed for sure; without the cap one white object against a dark one
# raises Otsu's threshold until it cuts off the fainter parts of the same edit.
MAX_LEVELS = 100.0
NEAR = 32  # levels from black or white that smoothing and JPEG leave a mask's pixels within
NEAR_SHARE = 0.9
GREY = 16  # levels between the channels of a grey pixel
GREY_SHARE = 0.99
WORKING_SIDE = 1024  # HumanEdit's own size; larger pairs are compared at this size


def mask_from_image(image: Image.Image) -> Mask:
    """Read an ordinary mask: white (128 and over) on black; transparent pixels are black.

    Args:
        image: Grey, RGB, 1-bit, palette or 16-bit grey, with or without alpha.

    Raises:
        ImageError: A mode whose white is not defined, or a photo: under 90 % of its pixels are
            within 32 levels of black or white, or under 99 % are grey.
    """
    return _white_on_black(image, "a mask is white where to edit and black elsewhere")


def mask_of_unknown_kind(image: Image.Image) -> Mask:
    """Read a mask that is either erased or ordinary, by what its own pixels say.

    Alpha that holds both 0 and 255 makes it a picture whose edit region is erased; anything else
    has to be white on black.

    Raises:
        ImageError: As `mask_from_image`; or white paint on transparent, which is an ordinary mask
            to some programs and a blank picture with an erased region to others.
    """
    image = to_8_bit(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = np.asarray(image.getchannel("A"))
        if (alpha == 0).any() and (alpha == 255).any():
            opaque = np.asarray(image)[alpha == 255, :3]
            if (opaque == 255).all():
                raise ImageError(
                    "The mask is plain white and transparent, which does not say which of the two"
                    " is to be edited: save it as white, where to edit, on black."
                )
            return mask_from_erased(image)
    return _white_on_black(
        image,
        "a mask is white where to edit and black elsewhere, or the picture with that region erased"
        " (alpha 0)",
    )


def _white_on_black(image: Image.Image, wanted: str) -> Mask:
    image = to_8_bit(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, "black")
        image = Image.alpha_composite(black, image)
    levels = np.asarray(image.convert("L"))
    near = float(((levels <= NEAR) | (levels >= 255 - NEAR)).mean())
    grey = 1.0
    if image.mode not in ("1", "L"):
        channels = np.asarray(image.convert("RGB"))
        grey = float((channels.max(-1) - channels.min(-1) <= GREY).mean())
    if near < NEAR_SHARE or grey < GREY_SHARE:
        raise ImageError(
            f"The mask looks like a photo: {_percent(near)} of its pixels are near black or white"
            f" and {_percent(grey)} are grey; {wanted}."
        )
    return levels >= 128


def _percent(share: float) -> str:
    return f"{math.floor(share * 100 + 1e-9)}%"  # never rounded up to the least that passes


def mask_from_erased(image: Image.Image, erased: Literal["black", "white"] = "black") -> Mask:
    """Read a mask given as the source picture with the edit region erased (choice 14).

    An alpha channel that holds both erased and kept pixels decides. Otherwise exact black (or
    white) pixels are erased, in components of at least 0.1 % of the image.

    Args:
        image: HumanEdit's MASK_IMG or MagicBrush's mask_img.
        erased: The colour of erased pixels where there is no alpha: black in HumanEdit.
    """
    image = to_8_bit(image)
    if image.has_transparency_data:
        opaque = np.asarray(image.convert("RGBA").getchannel("A")) >= 128
        if opaque.any() and not opaque.all():
            return ~opaque
    level = 0 if erased == "black" else 255
    exact = (np.asarray(image.convert("RGB")) == level).all(-1)
    return _without_small(exact, SPECK)


def derive_mask(source: Image.Image, target: Image.Image) -> Mask:
    """Find what an edit changed (choice 14).

    Args:
        source: The picture before; resized to the target's size where they differ.
        target: The picture after.

    Returns:
        (H, W) of the target; all False where nothing stands out.
    """
    from skimage.color import rgb2lab  # 0.4 s that given masks need not pay
    from skimage.filters import threshold_otsu

    width, height = target.size
    scale = min(1.0, WORKING_SIDE / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    lab_before, lab_after = (
        rgb2lab(np.asarray(_sized(picture, size).filter(ImageFilter.MedianFilter(3))))
        for picture in (source.convert("RGB"), target.convert("RGB"))
    )
    # lightness runs to 100 in Lab and to 255 in levels
    difference = np.linalg.norm(lab_before - lab_after, axis=-1) * 2.55
    difference = without_signature(np.minimum(difference, MAX_LEVELS))
    flat = difference.min() == difference.max()
    threshold = MIN_LEVELS if flat else max(float(threshold_otsu(difference)), MIN_LEVELS)
    changed = without_signature(_opened(difference >= threshold))
    mask = _dilated(_without_small(changed, COMPONENT))
    return without_signature(resize_mask(mask, height, width))


def signature_box(width: int, height: int) -> tuple[int, int, int, int]:
    """Give (left, top, right, bottom) in pixels of the corner strip that holds the signature."""
    left = width - math.ceil(width * SIGNATURE_WIDTH)
    top = height - math.ceil(height * SIGNATURE_HEIGHT)
    return left, top, width, height


def signature_mask(size: int) -> Mask:
    """Mark the signature strip of a picture squashed to (size, size): True inside the strip."""
    left, top, _, _ = signature_box(size, size)
    strip = np.zeros((size, size), dtype=bool)
    strip[top:, left:] = True
    return strip


def without_signature(mask: NDArray) -> NDArray:
    """Give a copy of (H, W) whose signature strip is 0 (False in a mask)."""
    height, width = mask.shape
    left, top, _, _ = signature_box(width, height)
    mask = mask.copy()
    mask[top:, left:] = 0
    return mask


def shrink_mask(mask: Mask, size: int) -> Mask:
    """Resize (H, W) to (size, size): by maximum where it shrinks, by nearest where it grows."""
    return resize_mask(mask, size, size)


def resize_mask(mask: Mask, height: int, width: int) -> Mask:
    """Resize a mask to (height, width), each axis as `shrink_mask` says."""
    if mask.shape == (height, width):
        return mask
    return _resize_rows(_resize_rows(mask, height).T, width).T


def _resize_rows(mask: Mask, count: int) -> Mask:
    have = mask.shape[0]
    cells = np.arange(count)
    if count >= have:
        return mask[(2 * cells + 1) * have // (2 * count)]
    # row i of the result covers rows [i*have/count, (i+1)*have/count), rounded outwards
    first, last = cells * have // count, -(-(cells + 1) * have // count)
    set_so_far = np.zeros((have + 1, mask.shape[1]), dtype=np.int32)
    np.cumsum(mask, axis=0, out=set_so_far[1:])
    return set_so_far[last] > set_so_far[first]


def _sized(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    return picture if picture.size == size else picture.resize(size, Image.Resampling.BICUBIC)


def _opened(mask: Mask) -> Mask:
    """Drop lines and grain thinner than about 1/170 of the longer side: re-encoded edges."""
    from scipy import ndimage  # 0.2 s that given masks need not pay

    radius = max(1, round(max(mask.shape) / 512))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = x**2 + y**2 <= radius**2 + 0.5
    return ndimage.binary_opening(mask, disc)


def _without_small(mask: Mask, share: float) -> Mask:
    """Keep the 8-connected components that cover at least `share` of the image."""
    from scipy import ndimage  # 0.2 s that given masks need not pay

    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    keep = np.bincount(labels.ravel()) >= share * mask.size
    keep[0] = False
    return keep[labels]


def _dilated(mask: Mask) -> Mask:
    from scipy import ndimage  # 0.2 s that given masks need not pay

    if not mask.any():
        return mask
    radius = max(1, round(DILATION * max(mask.shape)))
    return ndimage.distance_transform_edt(~mask) <= radius
