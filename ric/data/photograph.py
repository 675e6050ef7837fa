"""A photo as its file holds it: an edit is put into its own colours, and the rest is kept.

An editor sees 8-bit sRGB. What it makes is converted back to the photo's own space and put into the
photo's own pixels, so that a pixel that is not edited is never converted at all. EXIF, ICC profile,
alpha and resolution are kept; XMP and IPTC are not. Of 16-bit colours Pillow reads the upper half.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, JpegImagePlugin

from ric.data.exif import of_upright_edit
from ric.data.images import (
    SIDEWAYS,
    ImageError,
    as_srgb,
    decoded_upright,
    into_profile,
    label,
    opened,
    orientation,
    profile_for,
    to_8_bit,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ric.config import PhotoFormat
    from ric.data.images import PictureSource

Box = tuple[int, int, int, int]  # left, top, right, bottom, in pixels

FORMATS: dict[PhotoFormat, str] = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}
# The formats that are written: their suffixes, and Pillow's modes that they hold. Photos in others
# become PNG.
SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif",),
    "BMP": (".bmp", ".dib"),
}
_MODES = {
    "JPEG": ("RGB", "L", "CMYK"),
    "PNG": ("RGB", "RGBA", "L", "LA", "I;16"),
    "WEBP": ("RGB", "RGBA"),
    "TIFF": ("RGB", "RGBA", "L", "LA", "CMYK", "I;16"),
    "AVIF": ("RGB", "RGBA"),
    "BMP": ("RGB", "L"),
}
_QUALITY = {"JPEG": 95, "AVIF": 95}  # where there is no --quality; WebP is then lossless
_LOSSLESS_TIFF = ("raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits")
# of a TIFF's tags, those that describe the photo and not the file: description, make, model,
# software, time, artist, copyright, EXIF and GPS
_EXIF, _GPS = 0x8769, 0x8825
_ABOUT = (270, 271, 272, 305, 306, 315, 33432, _EXIF, _GPS)


def heeds_quality(name: str) -> bool:
    """Tell whether `--quality` changes a file, by its suffix: JPEG, WebP and AVIF have one."""
    suffix = PurePath(name).suffix.lower()
    return any(suffix in SUFFIXES[form] for form in ("WEBP", *_QUALITY))


@dataclass(frozen=True)
class Photograph:
    """A picture in its own colours, and what its file holds beside them.

    Attributes:
        pixels: Upright: RGB, L, CMYK or I;16 (16-bit grey).
        alpha: Mode L; None where the picture is opaque.
        icc: The ICC profile of `pixels`; None for sRGB.
        format: Pillow's name of the file's format.
        beside: EXIF, resolution, and how the file was compressed, as Pillow's `save` takes them.
    """

    pixels: Image.Image
    alpha: Image.Image | None = None
    icc: bytes | None = None
    format: str = "PNG"
    beside: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.pixels.size

    def as_srgb(self, box: Box) -> Image.Image:
        """Convert a part to RGB in sRGB, transparency composited on white."""
        return as_srgb(self.as_image(box))

    def with_edit(self, edited: Image.Image, box: Box, weights: NDArray | None) -> Photograph:
        """Put an edit into the picture; alpha stays as it is.

        Args:
            edited: RGB in sRGB, of the box's size.
            box: Where it goes.
            weights: Its share in each pixel, float (H, W) in [0, 1]; where it is 0 the pixel is
                not touched. None: 1 everywhere.
        """
        part = self._from_srgb(edited)
        if weights is not None:
            before, after = np.asarray(self.pixels.crop(box)), np.asarray(part, dtype=np.float32)
            weights = weights[..., None] if before.ndim == 3 else weights
            mixed = np.rint(before + weights * (after - before)).astype(before.dtype)
            part = Image.frombytes(part.mode, part.size, mixed.tobytes())
        pixels = self.pixels.copy()
        pixels.paste(part, box)
        return replace(self, pixels=pixels)

    def as_image(self, box: Box | None = None) -> Image.Image:
        """Return the picture, or a part of it, with its alpha and its profile, as Pillow has it."""
        image = self.pixels.crop(box) if box else self.pixels.copy()
        if self.alpha:
            image.putalpha(self.alpha.crop(box) if box else self.alpha)
        image.info = {"icc_profile": self.icc} if self.icc else {}
        return image

    def _from_srgb(self, edited: Image.Image) -> Image.Image:
        mode = _eight_bit(self.pixels.mode)
        part = into_profile(edited, self.icc, mode) if self.icc else None
        part = part or edited.convert(mode)
        if mode == self.pixels.mode:
            return part
        return Image.fromarray(np.asarray(part).astype(np.uint16) * 257)

    def encoded(self, form: str, quality: int | None) -> bytes:
        """Write a file of the format `form`, a key of `SUFFIXES`.

        Args:
            form: What it cannot hold, such as alpha in a JPEG, is converted as for an editor.
            quality: From 1 to 100. None: for a JPEG of a JPEG its own tables, which repeat its
                own rounding; 95 for others; WebP is lossless.

        Raises:
            ImageError: The format cannot hold the picture, such as one that is too large for it.
        """
        image = self.as_image()
        if image.mode not in _MODES[form]:
            image = self._converted(keeps_alpha="RGBA" in _MODES[form])
        options = {"icc_profile": image.info.get("icc_profile")}
        options |= {name: self.beside[name] for name in ("exif", "dpi") if name in self.beside}
        options |= self._compression(form, quality, same_mode=image.mode == self.pixels.mode)
        stream = io.BytesIO()
        try:
            image.save(stream, form, **options)
        except Exception as error:  # Pillow's encoders raise errors of every kind
            raise ImageError(f"It cannot be written as {form}: {error}") from None
        return stream.getvalue()

    def _converted(self, *, keeps_alpha: bool) -> Image.Image:
        if self.alpha is None or not keeps_alpha:
            return as_srgb(self.as_image())
        image = as_srgb(replace(self, alpha=None).as_image())
        image.putalpha(self.alpha)
        return image

    def _compression(self, form: str, quality: int | None, *, same_mode: bool) -> dict[str, Any]:
        if form == "WEBP":
            return {"lossless": True, "exact": True} if quality is None else {"quality": quality}
        if form == "TIFF":
            return {"compression": self.beside.get("compression", "tiff_lzw")}
        if form not in _QUALITY:
            return {}
        if form == "JPEG" and quality is None and same_mode and "qtables" in self.beside:
            return {name: self.beside[name] for name in ("qtables", "subsampling")}
        subsampling: dict[str, Any] = {"subsampling": 0 if form == "JPEG" else "4:4:4"}
        return {"quality": quality or _QUALITY[form], **subsampling}


def open_photograph(source: PictureSource, *, max_pixels: int) -> Photograph:
    """Open a photo for editing.

    Grey becomes RGB, so that an edit can bring colours, unless it has a grey profile or 16 bits; a
    palette becomes RGB, too. Modes that have no place in photo files become sRGB.

    Raises:
        ImageError: As `ric.data.images.open_image`.
    """
    with opened(source, max_pixels) as image:
        sideways = orientation(image) in SIDEWAYS
        upright = decoded_upright(image, source)
        beside = _beside(image, sideways=sideways)
        form = "JPEG" if image.format == "MPO" else str(image.format)
    try:
        pixels, alpha, icc = _own_colours(upright)
    except ImageError as error:
        raise ImageError(f"{label(source)}: {error.message}") from None
    except Exception as error:  # a palette that Pillow cannot apply
        raise ImageError(f"{label(source)} has no colours that can be edited: {error}.") from None
    return Photograph(pixels, alpha, icc, form, beside)


def _own_colours(image: Image.Image) -> tuple[Image.Image, Image.Image | None, bytes | None]:
    """Split an upright picture into pixels, alpha and the profile, None where it does not fit."""
    icc, alpha = image.info.get("icc_profile"), None
    if image.mode.startswith("I") and (image.mode != "I;16" or image.has_transparency_data):
        image = to_8_bit(image)
    if image.has_transparency_data:
        image = image if image.mode == "LA" else image.convert("RGBA")
        alpha = image.getchannel("A")
        image = image.convert(image.mode[:-1])
    elif image.mode in ("1", "P"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    if image.mode not in ("RGB", "L", "CMYK", "I;16"):
        return as_srgb(image), alpha, None
    icc = icc if icc and profile_for(_eight_bit(image.mode), icc) else None
    grey = image.mode == "L" and icc is None
    plain = image.convert("RGB") if grey else image.copy()
    plain.info = {}
    return plain, alpha, icc


def _eight_bit(mode: str) -> str:
    return "L" if mode == "I;16" else mode


def _beside(image: Image.Image, *, sideways: bool) -> dict[str, Any]:
    """Collect what `Photograph.beside` holds from a decoded picture."""
    found: dict[str, Any] = {}
    exif = image.info.get("exif")
    if image.format == "TIFF":
        tags = image.getexif()
        for tag in [tag for tag in tags if tag not in _ABOUT]:
            del tags[tag]
        exif = tags.tobytes() if tags else None
        # Pillow cannot compress a TIFF that has EXIF or GPS
        compressed = image.info.get("compression") if not {_EXIF, _GPS} & tags.keys() else "raw"
        found["compression"] = compressed if compressed in _LOSSLESS_TIFF else "tiff_lzw"
    if isinstance(exif, bytes):
        found["exif"] = of_upright_edit(exif)
    dpi = image.info.get("dpi")
    if isinstance(dpi, tuple) and len(dpi) == 2 and min(dpi) > 0:
        found["dpi"] = dpi[::-1] if sideways else dpi
    tables = getattr(image, "quantization", None)
    if image.format in ("JPEG", "MPO") and tables:
        found |= _jpeg_tables(image, tables, sideways=sideways)
    return found


def _jpeg_tables(image: Image.Image, tables: Any, *, sideways: bool) -> dict[str, Any]:
    """Give a JPEG's own quantization, turned with its picture, and its sampling of colours."""
    halves = JpegImagePlugin.get_sampling(image)
    square = {number: np.reshape(table, (8, 8)) for number, table in tables.items()}
    turned = {number: table.T if sideways else table for number, table in square.items()}
    return {
        "qtables": {number: table.flatten().tolist() for number, table in turned.items()},
        # colours halved along one side only cannot be turned with the picture: keep them whole
        "subsampling": 0 if sideways and halves == 1 else halves,
    }
