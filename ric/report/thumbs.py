"""Small copies of pictures for a page: files beside it, or part of it."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFilter

if TYPE_CHECKING:
    from pathlib import Path

    from ric.data.masks import Mask

FOLDER = "thumbs"
SMALL = 160  # pixels: up to this a picture is copied as it is, to the bit
QUALITY = 85  # of WebP
MASK = (226, 29, 72)  # rose
CONTEXT = (24, 105, 220)  # blue
FILLED = 96  # opacity of a region, of 255; its outline is opaque


class Thumbs:
    """Writes small copies and returns their addresses.

    Args:
        folder: The page's; None puts the pictures into their addresses.
        side: Their longest side in pixels.
    """

    def __init__(self, folder: Path | None, side: int) -> None:
        """Write nothing yet; see the class."""
        self.folder, self.side = folder, side

    def size_of(self, picture: Image.Image) -> tuple[int, int]:
        """Return the width and height that a picture's copy gets."""
        scale = min(1.0, self.side / max(picture.size))
        width, height = (max(1, round(side * scale)) for side in picture.size)
        return width, height

    def add(self, picture: Image.Image, kind: str, number: int) -> str:
        """Copy a picture.

        Args:
            picture: RGB, or RGBA, which is kept without loss.
            kind: Of which there is one a sample, such as `source`: the folder.
            number: The sample's: the file's name.
        """
        size = self.size_of(picture)
        small = picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS)
        exact = max(picture.size) <= SMALL or picture.mode == "RGBA"
        stream = io.BytesIO()
        if exact:
            small.save(stream, format="PNG")
        else:
            small.save(stream, format="WEBP", quality=QUALITY)
        form = "png" if exact else "webp"
        if self.folder is None:
            return f"data:image/{form};base64,{base64.b64encode(stream.getvalue()).decode()}"
        name = f"{FOLDER}/{kind}/{number:06d}.{form}"
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_bytes(stream.getvalue())
        return name


def overlay(mask: Mask | None, context: Mask | None, size: tuple[int, int]) -> Image.Image:
    """Draw the mask in rose and the context mask in blue, clear elsewhere.

    Args:
        mask: bool (H, W); None where there is none.
        context: Likewise.
        size: Width and height of the picture that it will lie over.
    """
    drawn = Image.new("RGBA", size)
    for region, colour in ((context, CONTEXT), (mask, MASK)):
        if region is None:
            continue
        inside = Image.fromarray(region).convert("L").resize(size, Image.Resampling.NEAREST)
        core = inside.filter(ImageFilter.MinFilter(3))
        opacity = np.where(np.asarray(core) > 0, FILLED, 255) * (np.asarray(inside) > 0)
        layer = Image.new("RGBA", size, (*colour, 0))
        layer.putalpha(Image.fromarray(opacity.astype(np.uint8)))
        drawn.alpha_composite(layer)
    return drawn
