"""Any picture a user may pass, as 8-bit sRGB; anything but a still picture fails with one line.

Formats are recognised by content, never by extension. The size is read from the header and checked
against the pixel limit before a single pixel is decoded. Only formats that decode in process are
opened: PostScript, for one, would start another program.
"""

from __future__ import annotations

import hashlib
import io
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image, ImageCms

from ric.config import CommandConfig, Decode
from ric.data import png_chunks
from ric.data.open_file import fetch, is_url, why_no_file
from ric.data.plug_in_formats import formats_of, why_unread
from ric.errors import RicError

if TYPE_CHECKING:
    from collections.abc import Iterator

PictureSource = str | bytes | Path | Image.Image

MAX_PIXELS = CommandConfig.max_pixels  # 64 million: 8000 x 8000

_FORMATS = (
    "PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "AVIF", "JPEG2000", "PPM", "TGA", "DIB",
)  # fmt: skip
_WEB_SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "MPO": ".jpg", "WEBP": ".webp"}
_ORIENTATION = 0x0112  # the EXIF tag; below, what turns a picture of each value upright
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = (5, 6, 7, 8)  # these swap width and height
_SAY_ORIENTATION = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")
_ICC_SPACES = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK", "LAB": "Lab "}

# Held while Pillow's own size limit, one global for the whole process, is lifted.
_pillow_limit_lock = threading.Lock()


class ImageError(RicError):
    """A picture that cannot be used: missing, broken, animated or too large."""


def open_image(
    source: PictureSource, *, max_pixels: int = MAX_PIXELS, decode: Decode = "ric"
) -> Image.Image:
    """Decode a picture as 8-bit sRGB.

    EXIF orientation is applied, an ICC profile converted to sRGB, transparency composited on
    white; CMYK, grey, palette and 16-bit grey pictures are converted. A profile that cannot be read
    or that belongs to another kind of picture is ignored, as in browsers.

    Args:
        source: A path, an fsspec URL, a file's bytes, or a Pillow picture.
        max_pixels: The largest width x height that is decoded.
        decode: `plain` for what Pillow's `open(source).convert("RGB")` gives: no orientation, no
            profile, transparency dropped.

    Returns:
        A mode RGB picture that carries no metadata.

    Raises:
        ImageError: The picture is missing, unreadable, truncated, empty, animated or too large.
    """
    image = open_raw(source, max_pixels=max_pixels, decode=decode)
    try:
        return _plain(image) if decode == "plain" else as_srgb(image)
    except ImageError as error:
        raise ImageError(f"{label(source)}: {error.message}") from None
    except Exception as error:  # a palette or profile that Pillow cannot apply
        raise ImageError(f"{label(source)} cannot become sRGB: {_one_line(error)}.") from None


def open_raw(
    source: PictureSource, *, max_pixels: int = MAX_PIXELS, decode: Decode = "ric"
) -> Image.Image:
    """Decode a picture in its own mode, so that a mask keeps its alpha channel.

    EXIF orientation is applied, unless `decode` is `plain`. Args and errors as `open_image`.
    """
    with opened(source, max_pixels) as image:
        turned = decoded_upright(image, source, turn=decode == "ric")
        # a Pillow picture passed in belongs to the caller: never return the same object
        return turned.copy() if turned is source else turned


def picture_size(
    source: PictureSource, *, max_pixels: int = MAX_PIXELS, decode: Decode = "ric"
) -> tuple[int, int]:
    """Read (width, height) in pixels from the header alone: the size that `open_image` gives.

    Raises:
        ImageError: As `open_image`, except that broken pixels go unnoticed.
    """
    with opened(source, max_pixels) as image:
        width, height = image.size
        if decode == "plain":
            return width, height
        swapped = orientation(image) in SIDEWAYS
        if image.format == "TIFF":  # Pillow has already swapped its size by the TIFF's own tag
            swapped ^= getattr(image, "tag_v2", {}).get(_ORIENTATION) in SIDEWAYS
        return (height, width) if swapped else (width, height)


def web_suffix(source: PictureSource, *, max_pixels: int = MAX_PIXELS) -> str | None:
    """Return the extension of a PNG, JPEG or WEBP file by its content; None for other formats.

    Raises:
        ImageError: As `picture_size`.
    """
    with opened(source, max_pixels) as image:
        return _WEB_SUFFIXES.get(image.format or "")


def pixel_hash(image: Image.Image) -> str:
    """Return the SHA-256 of a picture's size and RGB bytes, in hexadecimal."""
    rgb = image.convert("RGB")
    digest = hashlib.sha256(f"{rgb.width}x{rgb.height}:".encode())
    digest.update(rgb.tobytes())
    return digest.hexdigest()


def content_hash(source: PictureSource) -> str:
    """Return the SHA-256 of a picture's file, in hexadecimal; "" where it cannot be read.

    Nothing is decoded; of a picture without a file, size and pixels count.
    """
    if isinstance(source, Image.Image):
        return pixel_hash(source)
    try:
        if isinstance(source, bytes) or is_url(source):
            return hashlib.sha256(read_bytes(source)).hexdigest()
        with _open_file(Path(source)) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except ImageError:
        return ""


def read_bytes(source: str | bytes | Path) -> bytes:
    """Read a picture's file, undecoded.

    Raises:
        ImageError: The file is missing, empty or cannot be read.
    """
    if isinstance(source, bytes):
        data = source
    elif is_url(source):
        try:
            data = fetch(str(source))
        except Exception as error:  # each file system behind fsspec has its own errors
            raise ImageError(_unreadable(source, error)) from None
    else:
        with _open_file(Path(source)) as stream:
            data = stream.read()
    if not data:
        raise ImageError(f"{label(source)} is empty (0 bytes).")
    return data


# --- opening -------------------------------------------------------------------------------------


@contextmanager
def opened(source: PictureSource, max_pixels: int) -> Iterator[Image.Image]:
    """Open a picture's header and check it; pixels are not decoded yet.

    Raises:
        ImageError: As `open_image`, except that broken pixels go unnoticed.
    """
    if isinstance(source, Image.Image):
        _check(source, source, max_pixels)
        yield source
        return
    if isinstance(source, bytes) or is_url(source):
        stream: BinaryIO = io.BytesIO(read_bytes(source))
    else:
        stream = _open_file(Path(source))
    with stream:
        try:
            image = _header(stream)
        except Image.UnidentifiedImageError:
            raise ImageError(f"{label(source)} {why_unread(stream)}.") from None
        except Exception as error:  # a crafted header can raise nearly anything
            raise ImageError(f"{label(source)} is broken: {_one_line(error)}.") from None
        _check(image, source, max_pixels)
        yield image


def decoded_upright(image: Image.Image, source: PictureSource, *, turn: bool = True) -> Image.Image:
    """Decode an opened picture's pixels, in its own mode, and turn them upright where asked.

    Raises:
        ImageError: The pixels are broken or truncated.
    """
    try:
        image.load()
        return _upright(image) if turn else image
    except Exception as error:  # Pillow's decoders raise errors of every kind
        reason = _one_line(error)
        raise ImageError(f"{label(source)} is broken or truncated: {reason}.") from None


def _open_file(path: Path) -> io.BufferedReader:
    if reason := why_no_file(path):
        raise ImageError(reason)
    try:
        if path.stat().st_size == 0:
            raise ImageError(f"'{path}' is empty (0 bytes).")
        return path.open("rb")
    except OSError as error:
        raise ImageError(_unreadable(path, error)) from None


def _header(stream: BinaryIO) -> Image.Image:
    """Let Pillow read the header without its own size warning: ours names the flag."""
    Image.init()
    known = [name for name in _FORMATS if name in Image.OPEN]
    beside: dict[str, Any] = {}
    if stream.read(8) == png_chunks.SIGNATURE:
        stream, beside = png_chunks.readable_png(stream)
    stream.seek(0)
    known += formats_of(stream)
    with _pillow_limit_lock:
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            image = Image.open(stream, formats=known)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    image.info.update(beside)
    return image


def _check(image: Image.Image, source: PictureSource, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(
            f"{label(source)} has {width}x{height} = {width * height:,} pixels,"
            f" over the limit of {max_pixels:,}. Raise it with --max-pixels."
        )
    # a phone's JPEG may carry a depth map as a second picture (MPO): not an animation
    if image.format != "MPO" and getattr(image, "is_animated", False):
        raise ImageError(f"{label(source)} is animated: it holds more than one frame.")


# --- converting ----------------------------------------------------------------------------------


def orientation(image: Image.Image) -> int:
    """Read the orientation, 1 to 8; 1 where it is missing or invalid."""
    try:
        value = image.getexif().get(_ORIENTATION)
        return value if value in _TURNS else 1
    except Exception:  # broken EXIF says nothing about the pixels
        return 1


def _upright(image: Image.Image) -> Image.Image:
    turn = _TURNS.get(orientation(image))
    if turn is None or image.format == "TIFF":  # Pillow turns a TIFF as it loads it
        return image
    turned = image.transpose(turn)
    for name in _SAY_ORIENTATION:  # or it would be turned a second time
        turned.info.pop(name, None)
    return turned


def as_srgb(image: Image.Image) -> Image.Image:
    """Convert an upright picture to 8-bit sRGB as `open_image` does.

    Raises:
        ImageError: Its mode has no defined colours.
    """
    icc = image.info.get("icc_profile")
    image = to_8_bit(image)
    alpha = None
    if image.has_transparency_data:
        image = image if image.mode == "LA" else image.convert("RGBA")
        alpha = image.getchannel("A")
        image = image.convert(image.mode[:-1])
    elif image.mode in ("P", "YCbCr", "HSV", "RGBX"):
        image = image.convert("RGB")
    elif image.mode == "1":
        image = image.convert("L")
    rgb = _through_profile(image, icc) if icc else None
    if rgb is None:
        if image.mode not in ("RGB", "L", "CMYK"):
            raise ImageError(f"Mode {image.mode} has no defined colours here.")
        rgb = image.convert("RGB")
    if alpha is not None:
        rgb = Image.composite(rgb, Image.new("RGB", rgb.size, "white"), alpha)
    # a profile or an orientation left in `info` would be written, and applied, a second time
    return Image.frombytes("RGB", rgb.size, rgb.tobytes())


def _plain(image: Image.Image) -> Image.Image:
    """Convert a picture to RGB as Pillow alone does, without what its metadata says."""
    rgb = image.convert("RGB")
    return Image.frombytes("RGB", rgb.size, rgb.tobytes())


def to_8_bit(image: Image.Image) -> Image.Image:
    """Bring 16-bit grey to mode L (65535 becomes 255), or LA where one value is transparent.

    Other modes are returned as they are.

    Raises:
        ImageError: Integers over 16 bits or floats: what is white there is not defined.
    """
    if image.mode not in ("F", "I") and not image.mode.startswith("I;"):
        return image
    values = np.asarray(image)
    if image.mode == "F" or (values.size and (values.min() < 0 or values.max() > 65535)):
        raise ImageError(f"Mode {image.mode} does not define which value is white.")
    grey = Image.fromarray(np.round(values / 257).astype(np.uint8))
    if (transparent := image.info.get("transparency")) is not None:
        # compared at 16 bits: its neighbours, which look the same at 8, are not transparent
        grey.putalpha(Image.fromarray((values != transparent).astype(np.uint8) * 255))
    return grey


def _through_profile(image: Image.Image, icc: bytes) -> Image.Image | None:
    """Convert to sRGB by an ICC profile; None where the profile does not fit the picture."""
    profile = profile_for(image.mode, icc)
    return None if profile is None else _converted(image, profile, _srgb(), "RGB")


def into_profile(image: Image.Image, icc: bytes, mode: str) -> Image.Image | None:
    """Convert an sRGB picture by an ICC profile of `mode`; None where the profile does not fit."""
    profile = profile_for(mode, icc)
    return None if profile is None else _converted(image, _srgb(), profile, mode)


def profile_for(mode: str, icc: bytes) -> ImageCms.ImageCmsProfile | None:
    """Read an ICC profile; None where it cannot be read or is one of another kind of picture."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        return profile if profile.profile.xcolor_space == _ICC_SPACES.get(mode) else None
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _converted(
    image: Image.Image, ours: ImageCms.ImageCmsProfile, theirs: ImageCms.ImageCmsProfile, mode: str
) -> Image.Image | None:
    try:
        return ImageCms.profileToProfile(image, ours, theirs, outputMode=mode)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


# --- words ---------------------------------------------------------------------------------------


def label(source: PictureSource) -> str:
    """Name a picture in a message."""
    return f"'{source}'" if isinstance(source, (str, Path)) else "The picture"


def _unreadable(source: str | Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"'{source}' does not exist."
    return f"'{source}' cannot be read: {_one_line(error)}."


def _one_line(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split()).rstrip(".")
