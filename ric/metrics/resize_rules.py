"""The resize rule of each published metric: eight rules, not one.

The resize alone moves CLIP-I and DINO by two points, and FID by 1 % and more; so every rule here
is one library's own, named after it and tested against it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import center_crop, resize

from ric.metrics.pairs import as_rgb

if TYPE_CHECKING:
    from numpy.typing import NDArray

INCEPTION_SIZE = 299  # pixels; what the 2015-12-05 graph was trained on


def eight_bit(image: Image.Image) -> Tensor:
    """Return the picture's levels (3, H, W) as they are."""
    # np.array copies: torch warns about memory that PIL says is read-only
    return torch.from_numpy(np.array(as_rgb(image))).permute(2, 0, 1)


def levels(image: Image.Image) -> Tensor:
    """Return the picture's 8-bit levels as float32 (3, H, W) in 0..255."""
    return eight_bit(image).float()


def resize_and_crop(image: Image.Image, short_side: int, crop: int) -> Tensor:
    """Return 8-bit levels (3, crop, crop): OpenAI's and DINO's rule.

    PIL's bicubic on 8-bit pixels brings the short side to `short_side`, then the centre is cropped.
    Both steps are torchvision's, which both papers' code calls: for odd sizes it rounds the crop's
    corner as no other library does.
    """
    resized = resize(as_rgb(image), short_side, interpolation=InterpolationMode.BICUBIC)
    return eight_bit(center_crop(resized, crop))


def resize_and_crop_as_transformers(image: Image.Image, short_side: int, crop: int) -> Tensor:
    """Return 8-bit levels (3, crop, crop): the rule of transformers' processors on Pillow.

    As `resize_and_crop`, but half a pixel of the crop's corner is always rounded down.
    """
    picture = as_rgb(image)
    shortest = min(picture.size)
    width, height = (int(side * short_side / shortest) for side in picture.size)
    resized = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - crop) // 2, (height - crop) // 2
    return eight_bit(resized.crop((left, top, left + crop, top + crop)))


def squash(image: Image.Image, side: int) -> Tensor:
    """Return 8-bit levels (3, side, side), whatever the shape was: dgm-eval's rule.

    PIL's bicubic on 8-bit pixels.
    """
    return eight_bit(as_rgb(image).resize((side, side), Image.Resampling.BICUBIC))


def crop_and_resize(image: Image.Image, side: int) -> Tensor:
    """Return 8-bit levels (3, side, side): CMMD's rule.

    The centre square is cropped first, then PIL's bicubic brings it to `side`.
    """
    picture = as_rgb(image)
    shortest = min(picture.size)
    left, top = ((length - shortest) // 2 for length in picture.size)
    square = picture.crop((left, top, left + shortest, top + shortest))
    return squash(square, side)


def normalise(pixels_BCHW: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Return (pixels - mean) / std, channel by channel."""
    mean_C11, std_C11 = (pixels_BCHW.new_tensor(value).view(-1, 1, 1) for value in (mean, std))
    return (pixels_BCHW - mean_C11) / std_C11


def clean_resize(image: Image.Image) -> Tensor:
    """Return float32 (3, 299, 299) in 0..255: clean-fid's `clean` rule.

    PIL's bicubic on one float channel at a time, clipped and never rounded. PIL widens the filter
    when it shrinks, so nothing aliases (Parmar et al. 2022).
    """
    channels = [
        Image.fromarray(channel).resize((INCEPTION_SIZE,) * 2, Image.Resampling.BICUBIC)
        for channel in np.asarray(as_rgb(image), np.float32).transpose(2, 0, 1)
    ]
    resized_CHW = np.stack([np.asarray(channel) for channel in channels])
    return torch.from_numpy(resized_CHW.clip(0, 255))


def pytorch_fid_resize(image: Image.Image) -> Tensor:
    """Return float32 (3, 299, 299) in 0..255: clean-fid's `legacy_pytorch` rule.

    Bilinear between four neighbours however much it shrinks, so it aliases.
    """
    size = (INCEPTION_SIZE, INCEPTION_SIZE)
    return functional.interpolate(
        levels(image)[None], size, mode="bilinear", align_corners=False
    ).squeeze(0)


def torch_fidelity_resize(image: Image.Image) -> Tensor:
    """Return float32 (3, 299, 299) in 0..255: TensorFlow 1's bilinear, as in torch-fidelity.

    It aliases too, and its grid starts at the corner of the first pixel instead of its centre.
    Equal to the bit: columns are blended first, as there, but only in the rows that are needed.
    """

    def grid(length: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """Return for each output pixel its two neighbours and its distance from the first."""
        place = np.arange(INCEPTION_SIZE, dtype=np.float32) * np.float32(length / INCEPTION_SIZE)
        first = place.astype(np.int64)
        return first, np.minimum(first + 1, length - 1), place - first.astype(np.float32)

    def mix_columns(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        picked_HWC = pixels_HWC[rows]
        a, b = (picked_HWC[:, columns].astype(np.float32) for columns in (left, right))
        return a + (b - a) * across[:, None]

    pixels_HWC = np.asarray(as_rgb(image))
    top, bottom, down = grid(image.height)
    left, right, across = grid(image.width)
    above, below = mix_columns(top), mix_columns(bottom)
    mixed_HWC = above + (below - above) * down[:, None, None]
    return torch.from_numpy(np.ascontiguousarray(mixed_HWC.transpose(2, 0, 1)))
