"""ZONE's masks: from two attention maps to the share that each pixel takes of the edited picture.

Lengths are the release's at 512 px, and scale with the longer side of the picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

if TYPE_CHECKING:
    from ric.editors.segmenters import Segmenter

# Shape letters: S segments, H and W pixels, h and w places of a layer.

# as released
COARSE_LEVEL = 108  # of twice the difference of the two maps, of 255
LEAST_AREA = 64  # pixels of a component
DILATION = 4  # pixels
LOW_PASS = 200  # radius in the spectrum, whose side is the picture's
EDGE_LEVEL = 30  # of the low-pass difference, of 255
CLOSING = 10  # pixels to each side
EDGE_SHARE = 0.6  # of the edit, in a composite's edge
SIDE = 512


def token_difference(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Subtract the map of the end token from that of the start token, each scaled to 0..255.

    Args:
        start: How much each place reads the start token (h, w), at least 0.
        end: The same of the end token.

    Returns:
        (h, w), uint8; 0 where the end token's is the greater one.
    """
    levels = [np.trunc(255 * attention / attention.max()) for attention in (start, end)]
    return np.maximum(levels[0] - levels[1], 0).astype(np.uint8)


def coarse_mask(difference: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Find the pixels where the start token is read hardly more than the end token.

    Args:
        difference: Of `token_difference` (h, w), uint8.
        size: Width and height of the mask.

    Returns:
        (H, W), bool.
    """
    smooth = np.asarray(Image.fromarray(difference).resize(size, Image.Resampling.BICUBIC))
    return 2 * smooth.astype(int) <= COARSE_LEVEL


def drop_small(mask: np.ndarray) -> np.ndarray:
    """Remove a mask's components of less than 64 pixels at 512 px; diagonals do not connect."""
    labels, _ = ndimage.label(mask)
    areas = np.bincount(labels.ravel())
    return mask & (areas >= LEAST_AREA * _scale(mask) ** 2)[labels]


def overlaps(mask: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """Compute the intersection over union of a mask (H, W) with each segment: (S,)."""
    shared = (segments & mask).sum(axis=(1, 2))
    joined = (segments | mask).sum(axis=(1, 2))
    return shared / np.maximum(joined, 1)


def dilate(mask: np.ndarray) -> np.ndarray:
    """Grow a mask by 4 pixels at 512 px, diagonals included."""
    return ndimage.maximum_filter(mask, 2 * _length(DILATION, mask) + 1, mode="nearest")


def changed_edges(source: Image.Image, edited: Image.Image, within: np.ndarray) -> np.ndarray:
    """Find where a low-pass filter still sees a difference: the composite's smoothed outline.

    Args:
        source: RGB.
        edited: RGB, of the same size.
        within: What is compared (H, W), bool.

    Returns:
        (H, W), bool: what differs by over 30 grey levels, with gaps closed and holes filled.
    """
    far = np.trunc(low_pass_difference(source, edited, within)) > EDGE_LEVEL
    width = 2 * _length(CLOSING, far) + 1
    grown = ndimage.maximum_filter(far, width, mode="nearest")
    return ndimage.binary_fill_holes(ndimage.minimum_filter(grown, width, mode="nearest"))


def low_pass_difference(source: Image.Image, edited: Image.Image, within: np.ndarray) -> np.ndarray:
    """Compare two pictures' luma through a low-pass filter.

    The filter is linear: that of the difference is the difference of both.

    Args:
        source: RGB.
        edited: RGB, of the same size.
        within: Outside it both count as black (H, W), bool.

    Returns:
        The difference's absolute value (H, W), in grey levels.
    """
    lumas = [np.asarray(image.convert("L"), dtype=float) * within for image in (edited, source)]
    height, width = within.shape
    down, across = np.fft.fftfreq(height, 1 / height), np.fft.fftfreq(width, 1 / width)
    kept = np.hypot(down[:, None], across) <= LOW_PASS * _scale(within)
    return np.abs(np.fft.ifft2(np.fft.fft2(lumas[0] - lumas[1]) * kept))


def shares_of_edit(region: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return how much of the edited picture each pixel takes.

    Args:
        region: What is edited (H, W), bool.
        edges: Of `changed_edges` (H, W), bool.

    Returns:
        (H, W), float32: 1 in both, 0.6 where only the edges are, 0 elsewhere.
    """
    return np.where(edges, np.where(region, 1, EDGE_SHARE), 0).astype(np.float32)


def composite(source: Image.Image, edited: Image.Image, shares: np.ndarray) -> Image.Image:
    """Blend two pictures; where the share is 0, the source's pixels stay as they are.

    Args:
        source: RGB, any size.
        edited: RGB; resized to the source's size.
        shares: Of the edited picture (h, w), float32 in [0, 1]; resized likewise.

    Returns:
        RGB, in the source's size.
    """
    share = Image.fromarray(shares).resize(source.size, Image.Resampling.BILINEAR)
    own = np.asarray(source, dtype=float)
    other = np.asarray(edited.resize(source.size, Image.Resampling.LANCZOS), dtype=float)
    blended = own + np.asarray(share)[..., None] * (other - own)
    return Image.fromarray(blended.round().clip(0, 255).astype(np.uint8))


class Localised(NamedTuple):
    """The region of an edit that is kept, and the maps that led to it, in the working size.

    Attributes:
        source: RGB.
        style: RGB: the edit, before a region was chosen.
        start: How much each place reads the start token (h, w).
        end: The same of the end token.
        coarse: The coarse mask (H, W), bool.
        segments: (S, H, W), bool.
        iou: The overlap of the best segment with the coarse mask; 0 if there is none.
        region: The best segment (H, W), bool; None if there is none, as all below.
        within: The region, grown.
        edges: What differs in it.
        shares: How much of the edit each pixel takes (H, W), float32 in [0, 1].
        pasted: What the release's first composite takes, without smoothed edges (H, W), bool.
    """

    source: Image.Image
    style: Image.Image
    start: np.ndarray
    end: np.ndarray
    coarse: np.ndarray
    segments: np.ndarray
    iou: float = 0.0
    region: np.ndarray | None = None
    within: np.ndarray | None = None
    edges: np.ndarray | None = None
    shares: np.ndarray | None = None
    pasted: np.ndarray | None = None

    def pictures(self) -> dict[str, Image.Image]:
        """Draw all of them at one size, in the order in which they follow from one another."""
        drawn = {
            "source": self.source,
            "style": self.style,
            "start_token": self.start / self.start.max(),
            "end_token": self.end / self.end.max(),
            "difference": token_difference(self.start, self.end) / 255,
            "coarse_mask": self.coarse,
            "segments": _coloured(self.segments),
            "region": self.region,
            "dilated": self.within,
            "edges": self.edges,
            "pasted": self._blended(self.pasted),
            "shares": self.shares,
            "result": self._blended(self.shares),
        }
        return {
            name: one if isinstance(one, Image.Image) else _drawn(one, self.source.size)
            for name, one in drawn.items()
            if one is not None
        }

    def _blended(self, shares: np.ndarray | None) -> Image.Image | None:
        if shares is None:
            return None
        return composite(self.source, self.style, shares.astype(np.float32))


def localise(
    source: Image.Image,
    style: Image.Image,
    attention: tuple[np.ndarray, np.ndarray],
    segment: Segmenter,
    *,
    removes: bool,
) -> Localised:
    """Find the region whose edit is kept.

    Args:
        source: RGB.
        style: RGB, of the same size: the edit.
        attention: How much each place reads the start and the end token (h, w) each.
        segment: Divides a picture into segments.
        removes: Whether the edit removes something: then the source is segmented.
    """
    coarse = drop_small(coarse_mask(token_difference(*attention), source.size))
    segments = segment(source if removes else style)
    found = Localised(source, style, *attention, coarse, segments)
    overlap = overlaps(coarse, segments)
    if not overlap.any():
        return found
    best = int(overlap.argmax())
    region = drop_small(segments[best])
    if not region.any():
        return found
    within = dilate(region)
    edges = changed_edges(source, style, within)
    return found._replace(
        iou=float(overlap[best]),
        region=region,
        within=within,
        edges=edges,
        shares=shares_of_edit(region, edges),
        pasted=within if removes else region,
    )


def _drawn(values: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """Draw a mask or a map in [0, 1], (h, w), or colours (h, w, 3), without smoothing."""
    levels = (255 * np.asarray(values, dtype=float)).round().astype(np.uint8)
    return Image.fromarray(levels).convert("RGB").resize(size, Image.Resampling.NEAREST)


def _coloured(segments: np.ndarray) -> np.ndarray:
    """Give each segment (S, H, W) a colour, the small over the large: (H, W, 3) in [0, 1]."""
    colours = np.zeros((*segments.shape[1:], 3))
    order = np.argsort(-segments.sum(axis=(1, 2)), kind="stable")
    palette = np.random.default_rng(0).uniform(0.2, 1.0, (len(segments), 3))
    for index in order:
        colours[segments[index]] = palette[index]
    return colours


def _scale(mask: np.ndarray) -> float:
    return max(mask.shape) / SIDE


def _length(pixels: int, mask: np.ndarray) -> int:
    """Scale a length at 512 px to a picture's size; at least a pixel."""
    return max(1, round(pixels * _scale(mask)))
