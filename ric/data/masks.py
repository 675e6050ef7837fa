"""Edit masks: read from files that are white on black, or derived from what changed.

Choice 14: the paper does not mention HumanEdit's traps (its own masks are read in erased_masks.py).
Its targets carry a coloured signature in the bottom-right corner, so that strip is left out of
every derived mask. A missing mask is derived: difference in Lab after a 3 px median, Otsu's
threshold but at least 20 levels, opening, components of at least 0.5 % of the image, dilated by
1 %. Plain thresholds give boxes of 90 to 100 % of the image on real pairs, because their
backgrounds are re-encoded.

An ordinary mask is white on black, or black and one other value, as masks of 0 and 1 and indexed
ones are. A photo is never thresholded into one: at least 90 % of a mask's pixels lie within 32
levels of black or white, which smoothed edges and JPEG pass, and 99 % are grey, their channels
equal within 16 levels.

Choice 2, masks: they are shrunk by maximum, so that a thin one survives any training size.

Shapes: a mask is bool (H, W), True where the picture is to be edited.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from ric.data.images import ImageError, to_8_bit

Mask = NDArray[np.bool_]

SIGNATURE_WIDTH = 0.12  # choice 14: right 12 %, bottom 3.5 %
SIGNATURE_HEIGHT = 0.035
COMPONENT = 0.005  # choice 14: 0.5 % of the image
DILATION = 0.01  # choice 14: 1 % of the longer side
MIN_LEVELS = 20.0  # choice 14: of 255
# Above this a pixel has changed for sure; without the cap one white object against a dark one
# raises Otsu's threshold until it cuts off the fainter parts of the same edit.
MAX_LEVELS = 100.0
NEAR = 32  # levels: smoothing and JPEG leave a mask's pixels this close to black or white
NEAR_SHARE = 0.9
GREY = 16  # levels between the channels of a grey pixel, at most
GREY_SHARE = 0.99
FEW = 16  # values: an error lists up to this many
FULL_COVER = 0.99  # choice 2: a mask over this share of the picture says nothing
WORKING_SIDE = 1024  # HumanEdit's own size; larger pairs are compared at this size


def mask_from_image(image: Image.Image) -> Mask:
    """Read an ordinary mask: white (128 and over) on black; transparent pixels are black.

    Where a mask is black except for one other value (such as 0 and 1), that value marks the edit.

    Args:
        image: Grey, RGB, 1-bit, palette or 16-bit grey, with or without alpha; floats only if they
            are 0 and one other value.

    Raises:
        ImageError: It is transparent everywhere; none of its values is white; or it is a photo:
            under 90 % of its pixels are within 32 levels of black or white, or under 99 % grey.
    """
    return white_on_black(image, "a mask is white where to edit and black elsewhere")


def white_on_black(image: Image.Image, wanted: str) -> Mask:
    """Read an ordinary mask as `mask_from_image` does; its errors end with `wanted`."""
    refuse_transparent(image)
    is_wide = image.mode in ("I", "F") or image.mode.startswith("I;")
    values = np.asarray(image) if is_wide else np.asarray(on_black(image))
    other = _other_than_black(values)
    if other is not None:
        return other
    image = on_black(to_8_bit(image))
    levels = np.asarray(image.convert("L"))
    near = float(((levels <= NEAR) | (levels >= 255 - NEAR)).mean())
    grey = 1.0
    if image.mode == "RGB":
        channels = np.asarray(image)
        grey = float((channels.max(-1) - channels.min(-1) <= GREY).mean())
    if near < NEAR_SHARE or grey < GREY_SHARE:
        held = _held(values)
        raise ImageError(
            f"The mask {f'holds {held}' if held else 'looks like a photo'}: {_percent(near)} of its"
            f" pixels are near black or white and {_percent(grey)} are grey; {wanted}."
        )
    if _is_labels(levels, values):
        raise ImageError(f"The mask holds {_held(values) or 'no white'}; {wanted}.")
    return levels >= 128


def refuse_useless(mask: Mask) -> None:
    """Raise ImageError where a mask is empty, or covers over 99 % of the picture."""
    share = float(mask.mean())
    if share == 0:
        raise ImageError("The mask is empty: it marks no pixel to edit.")
    if share > FULL_COVER:
        raise ImageError(
            f"The mask covers {share:.1%} of the picture; the limit is {FULL_COVER:.0%}."
        )


def refuse_transparent(image: Image.Image) -> None:
    """Raise ImageError where no pixel has an alpha of 128 or more."""
    image = to_8_bit(image) if image.mode.startswith("I;") else image
    if not image.has_transparency_data:
        return
    if (np.asarray(image.convert("RGBA").getchannel("A")) < 128).all():
        raise ImageError("The mask is transparent everywhere: it does not say where to edit.")


def on_black(image: Image.Image) -> Image.Image:
    """Convert to L or RGB, transparent pixels to black."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _other_than_black(values: NDArray) -> Mask | None:
    """Mark the single value or colour other than black; None if there is not exactly one."""
    coloured: Mask = np.asarray(values.any(-1) if values.ndim == 3 else values != 0)
    others = values[coloured]
    if coloured.all() or not len(others) or (others[0] < 0).any() or (others != others[0]).any():
        return None
    return coloured


def _is_labels(levels: NDArray[np.uint8], values: NDArray) -> bool:
    """Tell whether the values are class numbers: none is white, or small ones outnumber white."""
    if (levels < 128).all():
        return bool(values.any())
    # only small numbers beside exact black and white: JPEG would blur the white too
    small = (levels > 0) & (levels <= NEAR)
    return bool((levels[~small] % 255 == 0).all() and small.sum() > (levels == 255).sum() > 0
                and (levels == 0).any())  # fmt: skip


def _held(values: NDArray) -> str | None:
    """List the values or colours of a mask; None if there are more than `FEW`."""
    if values.ndim == 3:
        values = values.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
        named = [f"#{value:06x}" for value in np.unique(values)]
        kind = "colour"
    else:
        named = [f"{value:g}" for value in np.unique(values)]
        kind = "value"
    if len(named) > FEW:
        return None
    *first, last = named
    return f"the {kind}s {', '.join(first)} and {last}" if first else f"the {kind} {last} alone"


def _percent(share: float) -> str:
    return f"{math.floor(share * 100 + 1e-9)}%"  # never rounded up to a share that would pass


def derive_mask(source: Image.Image, target: Image.Image) -> Mask:
    """Find what an edit changed (choice 14).

    Args:
        source: The picture before; resized to the target's size where they differ.
        target: The picture after.

    Returns:
        bool (H, W) of the target; all False where nothing stands out.
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
    mask = _dilated(without_small(changed, COMPONENT))
    return without_signature(resize_mask(mask, height, width))


def signature_box(width: int, height: int) -> tuple[int, int, int, int]:
    """Return (left, top, right, bottom) in pixels of the corner strip that holds the signature."""
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
    """Return a copy of (H, W) whose signature strip is 0 (False in a mask)."""
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


def without_small(mask: Mask, share: float) -> Mask:
    """Keep the 8-connected components that cover at least `share` of the image."""
    from scipy import ndimage  # 0.2 s that given masks need not pay

    if not mask.any():
        return mask
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
