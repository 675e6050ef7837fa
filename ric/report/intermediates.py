"""The pictures on the way to an edit: each in a file of its own, and all of them side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from ric.runs.rows import save_png

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

INTERMEDIATES = "intermediates"  # in an edit run: a folder for each edit
STRIP = "strip.png"
GAP, CAPTION = 4, 14  # pixels


def write_intermediates(pictures: Mapping[str, Image.Image], folder: Path) -> None:
    """Save pictures as NAME.png, and a strip that shows them in their order.

    Args:
        pictures: By name, all of one size; none, no folder.
        folder: Where they go; it is made.
    """
    if not pictures:
        return
    for name, picture in pictures.items():
        save_png(picture, folder / f"{name}.png")
    save_png(draw_strip(pictures), folder / STRIP)


def draw_strip(pictures: Mapping[str, Image.Image]) -> Image.Image:
    """Lay pictures of one size side by side, each below its name."""
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    width, height = next(iter(pictures.values())).size
    column = max(width, *(int(pen.textlength(name)) + 1 for name in pictures)) + GAP
    strip = Image.new("RGB", (len(pictures) * column - GAP, height + CAPTION), "white")
    pen = ImageDraw.Draw(strip)
    for number, (name, picture) in enumerate(pictures.items()):
        pen.text((number * column, 0), name, fill="black")
        strip.paste(picture, (number * column, CAPTION))
    return strip
