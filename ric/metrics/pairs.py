"""One sample to score: an edited picture with its source, target, text and mask."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from PIL import Image, ImageOps

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ric.config import OutputFit
    from ric.scenes.edit import Edit


MOST_OFF = 0.01  # largest relative difference of an output's aspect ratio to its reference's


@dataclass(frozen=True)
class Pair:
    """One edited picture and what it is compared with.

    Attributes:
        id: The sample's id; unique within one suite.
        edited: The editor's output, any size.
        source: The picture before the edit.
        target: The ground truth, or None where the data has none.
        text: What CLIP-T compares the output with, or None.
        text_kind: Which of the sample's texts that is, such as `region_text`.
        mask: Mode L, white (128 and above) where the edit belongs, or None.
        context_mask: As `mask`, where else a drawn scene must change; None for all other data.
        edit: The edit that a drawn scene was to get; None for all other data.
        source_text: What the source shows, or None.
        target_text: What the edit should show, or None.
        instruction: What the edit was to do, or None.
        editing_type: The data's own type of the edit, or None.
        group: Its group under `--group-by`, or None.
        photo: What the samples of one photo share; None: the photo has no other.
        mask_is_derived: Whether the mask is not the data's own but where source and target differ.
        profile_apart: Whether only one of output and reference has a colour profile that is not
            sRGB's.
        files: The files of edited, source, target and mask, as a table may show them.
    """

    id: str
    edited: Image.Image
    source: Image.Image
    target: Image.Image | None = None
    text: str | None = None
    mask: Image.Image | None = None
    text_kind: str = "text"
    context_mask: Image.Image | None = None
    edit: Edit | None = None
    source_text: str | None = None
    target_text: str | None = None
    instruction: str | None = None
    editing_type: str | None = None
    group: str | None = None
    photo: str | None = None
    mask_is_derived: bool = False
    profile_apart: bool = False
    files: Mapping[str, str] = field(default_factory=dict)


def as_rgb(image: Image.Image) -> Image.Image:
    """Return `image` as 8-bit RGB; itself if it already is."""
    return image if image.mode == "RGB" else image.convert("RGB")


def fit_to(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return `image` as RGB at `size` (width, height): the one way in which outputs are resized.

    PIL's bicubic on 8-bit pixels, which is also what MagicBrush's `image_eval.py` does before L1
    and L2. Editors work at sizes of their own; scores are taken at the reference's size.
    A picture that has that size is returned as it is.
    """
    image = as_rgb(image)
    return image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)


def has_shape_of(size: tuple[int, int], reference: tuple[int, int]) -> bool:
    """Tell whether two sizes (width, height) have one aspect ratio, to a hundredth."""
    return abs(size[0] * reference[1] / (size[1] * reference[0]) - 1) <= MOST_OFF


def fit_shape(image: Image.Image, size: tuple[int, int], how: OutputFit) -> Image.Image:
    """Fit an output of another shape to `size` (width, height) without distorting it.

    Args:
        image: The output.
        size: Of the reference.
        how: `crop` covers `size` and cuts off what exceeds it on two sides; `pad` fits the whole
            output into it, centred on black.
    """
    change = ImageOps.fit if how == "crop" else ImageOps.pad
    return change(as_rgb(image), size, Image.Resampling.BICUBIC)
