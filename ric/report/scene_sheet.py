"""Contact sheets: the first samples of each edit type, to be looked at."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from ric.data.drawn_scenes import SceneStream, first_of_type
from ric.scenes.words import texts_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ric.scenes.render import Pair

SAMPLES = 12
_COLUMNS = 3  # samples side by side
_SHOWN = 192  # pictures are at least this many pixels wide, enlarged without smoothing
_RED, _BLUE = (230, 30, 30), (30, 60, 230)


def contact_sheet(stream: SceneStream, kind: str) -> Image.Image:
    """Lay out the first 12 samples of an edit type: source, target, both masks, instruction.

    The third picture of each is the target in grey with the mask in red and the context mask in
    blue.
    """
    side = max(stream.size, -(-_SHOWN // stream.size) * stream.size)
    wide, high = 3 * side + 8, side + 46
    rows = -(-SAMPLES // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * (wide + 12), rows * high), "white")
    pen = ImageDraw.Draw(sheet)
    for number, index in enumerate(first_of_type(stream, kind, SAMPLES)):
        edit, pair = stream.draw(index)
        texts = texts_of(edit, stream.seed, index, shadows=stream.shadows)
        left, top = (number % _COLUMNS) * (wide + 12), (number // _COLUMNS) * high
        for column, pixels in enumerate((pair.source, pair.target, marked(pair))):
            picture = Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(picture, (left + column * (side + 4), top))
        lines = textwrap.wrap(f"{index}: {texts.instruction}", side // 2)[:2]
        lines += textwrap.wrap(f"> {texts.region_text}", side // 2)[:1]
        pen.text((left + 2, top + side + 2), "\n".join(lines), fill="black")
    return sheet


def marked(pair: Pair) -> NDArray[np.uint8]:
    """Show the masks over the target: uint8 (H, W, 3)."""
    grey = pair.target.astype(np.int32).sum(-1, keepdims=True) // 3
    shown = np.repeat(grey // 2 + 110, 3, axis=-1)
    for mask, colour in ((pair.mask, _RED), (pair.context_mask, _BLUE)):
        shown[mask] = (shown[mask] + 2 * np.array(colour)) // 3
    return shown.astype(np.uint8)
