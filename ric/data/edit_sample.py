"""One edit: an instruction, a picture before, perhaps one after, and where the edit is.

Pictures are decoded on access and never cached. Every failure is a `SampleError` that names the
sample and what was being read, so that one broken file costs one row of failures.jsonl.

Choice 14, sizes: the three pictures of a sample can differ in size; source and mask are resized to
the target's. Choice 2, masks: an empty mask, or one that covers nearly everything, is an error of
that sample, never a silent box around the full image.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypedDict

from ric.data.erased_masks import mask_from_erased, mask_of_unknown_kind
from ric.data.images import (
    MAX_PIXELS,
    ImageError,
    PictureSource,
    open_image,
    open_raw,
    picture_size,
    pixel_hash,
)
from ric.data.masks import (
    derive_mask,
    mask_from_image,
    refuse_useless,
    resize_mask,
    without_signature,
)
from ric.errors import SampleError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from PIL import Image

    from ric.config import Decode
    from ric.data.masks import Mask

    Result = TypeVar("Result")


class _Opening(TypedDict):
    """Arguments with which each of a sample's pictures is opened."""

    max_pixels: int
    decode: Decode


MaskKind = Literal["image", "erased-black", "erased-white", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """The places of a sample's pictures (paths, fsspec URLs, encoded bytes), and their reading."""

    source: PictureSource
    target: PictureSource | None = None
    mask: PictureSource | None = None
    context_mask: PictureSource | None = None
    mask_kind: MaskKind = "image"  # white, an erased region, or what its pixels say
    described_in: str = "metadata.jsonl"  # what the errors name
    mask_column: str = "mask_file_name"  # what to add where there is no mask
    target_column: str = "target_file_name"
    max_pixels: int = MAX_PIXELS
    ignore_signature: bool = False  # choice 14: the corner strip is no part of any mask
    decode: Decode = "ric"  # see `open_image`


@dataclass(frozen=True, kw_only=True)
class EditSample:
    """A triplet (source, instruction, target) with its mask, texts and provenance."""

    id: str  # unique in its data set and safe as a file name
    instruction: str
    region_text: str | None = None  # t_r: a short description of the edited region
    scene_text: str | None = None  # t_f: a paragraph about the target
    source_text: str | None = None
    target_text: str | None = None
    editing_type: str | None = None
    split: str | None = None  # the dataset's own: train, val or test
    group_id: str | None = None  # samples of one photo share it
    row: str | None = None  # where it stands in its table, such as metadata.jsonl:7
    pictures: Pictures = field(repr=False)

    @property
    def has_target(self) -> bool:
        """True if there is a picture of the edit's result."""
        return self.pictures.target is not None

    @property
    def has_mask(self) -> bool:
        """True if the data has a mask; `load_mask` derives one where there is only a target."""
        return self.pictures.mask is not None

    @property
    def mask_origin(self) -> Literal["file", "derived"] | None:
        """The origin of `load_mask`'s mask; None where there is no mask."""
        if self.has_mask:
            return "file"
        return "derived" if self.has_target else None

    def decoded(self, decode: Decode) -> EditSample:
        """Return the sample with its pictures decoded as `open_image` says of `decode`."""
        if self.pictures.decode == decode:
            return self
        pictures = copy(self.pictures)  # which may be drawn on access, and not have all fields
        object.__setattr__(pictures, "decode", decode)
        return replace(self, pictures=pictures)

    def made_from(self, first: EditSample) -> EditSample:
        """Return the sample as an edit of another one's source, without its mask."""
        pictures = replace(
            self.pictures, source=first.pictures.source, mask=None, context_mask=None
        )
        return replace(self, pictures=pictures)

    def load_source(self, *, own_size: bool = False) -> Image.Image:
        """Decode the source as RGB, resized to the target's size where there is a target.

        Args:
            own_size: Do not resize it.

        Raises:
            SampleError: It cannot be read, or the target's size cannot.
        """
        source = self._decode("source", self.pictures.source)
        return source if own_size else self.at_target_size(source)

    def at_target_size(self, source: Image.Image) -> Image.Image:
        """Resize a source to the target's size; return it as it is where there is no target.

        Raises:
            SampleError: The target's size cannot be read.
        """
        if not self.has_target:
            return source
        size = self.picture_size()
        return source if source.size == size else source.resize(size)

    def load_target(self) -> Image.Image:
        """Decode the target as RGB.

        Raises:
            SampleError: It cannot be read, or the sample has none.
        """
        if self.pictures.target is None:
            where, column = self.pictures.described_in, self.pictures.target_column
            raise SampleError(self.id, "target", f"No target in {where}. Add {column} to that row.")
        return self._decode("target", self.pictures.target)

    def load_mask(self, *, pair: tuple[Image.Image, Image.Image] | None = None) -> Mask:
        """Return the region to edit, True inside.

        The given mask, else one derived from source and target (choice 14).

        Args:
            pair: Source and target, if already decoded; saves decoding them again.

        Returns:
            bool (H, W) at the target's size, or at the source's where there is no target.

        Raises:
            SampleError: There is neither a mask nor a target, the mask is a photo, is empty or
                covers over 99 % of the picture, or a picture cannot be read.
        """
        if self.pictures.mask is not None:
            mask = self._read_mask(self.pictures.mask, self.pictures.mask_kind)
        elif self.has_target:
            source, target = pair or (self.load_source(), self.load_target())
            mask = derive_mask(source, target)
        else:
            about = self.pictures
            raise SampleError(
                self.id,
                "mask",
                f"No mask for sample {self.id!r} in {about.described_in}. Add {about.mask_column}"
                f" to that row, or {about.target_column} to derive it from.",
            )
        if self.pictures.ignore_signature:
            mask = without_signature(mask)
        self._refuse_useless(mask)
        return mask

    def load_given_mask(self) -> Mask | None:
        """Return the data's own mask, even if it is empty or full; None without one.

        Raises:
            SampleError: It cannot be read, or is a photo.
        """
        given = self.pictures.mask
        return None if given is None else self._read_mask(given, self.pictures.mask_kind)

    def load_context_mask(self) -> Mask | None:
        """Return the region of the edit's context, bool (H, W) as `load_mask`; None without one.

        Raises:
            SampleError: It cannot be read, or is a photo.
        """
        context, kind = self.pictures.context_mask, self.pictures.mask_kind
        if context is None:
            return None
        # an erased mask says nothing about the kind of another column
        return self._read_mask(context, "image" if kind == "image" else "unknown")

    def group(self, source: Image.Image | None = None) -> str:
        """Return the key of the splits and of the train/test overlap check (choice 5).

        The data's own group, such as HumanEdit's IMAGE_ID, else a hash of the source's pixels.

        Args:
            source: The source at its own size, if already decoded; saves decoding it again.

        Raises:
            SampleError: There is no group_id and the source cannot be read.
        """
        if self.group_id:
            return self.group_id
        return self._source_hash if source is None else pixel_hash(source)

    @cached_property
    def _source_hash(self) -> str:
        return pixel_hash(self._decode("source", self.pictures.source))

    def _read_mask(self, given: PictureSource, kind: MaskKind) -> Mask:
        opening = self._opening

        def read() -> Mask:
            image = open_raw(given, **opening)
            if kind == "image":
                return mask_from_image(image)
            # erased pixels are found by comparison with the source
            beside = self.pictures.source
            source = self._guarded("source", lambda: open_raw(beside, **opening))
            if kind == "unknown":
                return mask_of_unknown_kind(image, source)
            return mask_from_erased(image, source, "black" if kind == "erased-black" else "white")

        width, height = self.picture_size()
        return resize_mask(self._guarded("mask", read), height, width)

    def _refuse_useless(self, mask: Mask) -> None:
        if self.mask_origin == "derived" and not mask.any():
            reason = "No mask can be derived: source and target differ too little."
            raise SampleError(self.id, "mask", reason)
        self._guarded("mask", lambda: refuse_useless(mask))

    def picture_size(self) -> tuple[int, int]:
        """Read (width, height) of the target, or of the source where there is no target.

        No pixel is decoded.

        Raises:
            SampleError: It cannot be read.
        """
        stage, picture = "target", self.pictures.target
        if picture is None:
            stage, picture = "source", self.pictures.source
        opening = self._opening
        return self._guarded(stage, lambda: picture_size(picture, **opening))

    def _decode(self, stage: str, picture: PictureSource) -> Image.Image:
        opening = self._opening
        return self._guarded(stage, lambda: open_image(picture, **opening))

    @property
    def _opening(self) -> _Opening:
        return {"max_pixels": self.pictures.max_pixels, "decode": self.pictures.decode}

    def _guarded(self, stage: str, read: Callable[[], Result]) -> Result:
        try:
            return read()
        except ImageError as error:
            raise SampleError(self.id, stage, error.message, error.hint) from None
