"""PIE-Bench's scores, as PnPInversion's evaluation scripts define them (Ju et al. 2024).

Everything compares the edited picture with the source. The mask's four borders belong to the edit;
scores of the unedited part black out the rest in both pictures and average over the whole picture,
so a large mask alone makes them good. CLIP scores are 100 times the cosine, at least 0. A sample
whose part is empty, which the scripts write as "nan", is left out of that mean, and N says so.

The scripts stop where two sizes differ; here an output is resized to the source's, as everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ric.metrics.intervals import mean_interval
from ric.metrics.networks import Network, PairDistance, TextImageEncoder, Unavailable
from ric.metrics.pairs import Pair, fit_to, has_shape_of
from ric.metrics.pixel import black_inside, l2, leaves_something, psnr, ssim_map
from ric.metrics.structure_distance import StructureDistance, structure_distance
from ric.scoring.encode_once import Encodings
from ric.scoring.kept_samples import KeptSamples, photos_of, profiles_apart, row_of
from ric.scoring.scores import PIE_BENCH, Role, Score, Scores, within_range
from ric.scoring.suite import Scored, refuse_wrong

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from torch import Tensor

    from ric.scoring.set_distances import FidSet


UNEDITED = "edited and source, black inside the mask, over the whole picture"
PIXEL_DEFINITION = {
    "psnr_unedited": f"{UNEDITED}: peak signal-to-noise ratio, at most 100 dB",
    "mse_unedited": f"{UNEDITED}: mean squared difference of levels in [0, 1]",
    "ssim_unedited": f"{UNEDITED}: structural similarity",
}
CLIP_PAIRS = {
    "clip_source": "source and source_text",
    "clip_edited": "edited and target_text",
    "clip_edited_part": "edited, black outside the mask, and target_text",
}


@dataclass(frozen=True, kw_only=True)
class PieBenchNetworks:
    """The three metric networks, or why one is missing."""

    clip: TextImageEncoder | Unavailable
    lpips: PairDistance | Unavailable
    structure: StructureDistance | Unavailable


class PieBenchSuite(KeptSamples):
    """Accumulate one editor's pairs and compute PIE-Bench's eight scores, as `MetricSuite` does.

    Args:
        networks: The networks.
        label: The editor's name in tables.
        role: Whether this is an editor, the unedited source or the ground truth.
        metrics: Which of the eight are requested.
    """

    def __init__(
        self,
        networks: PieBenchNetworks,
        *,
        label: str = "edited",
        role: Role = "editor",
        metrics: Sequence[str] = PIE_BENCH,
    ) -> None:
        """Start empty; see the class."""
        super().__init__()
        self.networks = networks
        self.label = label
        self.role = role
        self.metrics = metrics

    def add(self, pairs: Sequence[Pair], encodings: Encodings | None = None) -> None:
        """Score a batch; arguments and errors as `MetricSuite.add`."""
        refuse_wrong(pairs, self._rows, self.label)
        encodings = encodings or Encodings()
        fitted = [replace(pair, edited=fit_to(pair.edited, pair.source.size)) for pair in pairs]
        masks = [None if pair.mask is None else with_borders(pair.mask) for pair in pairs]
        for pair, mask in zip(fitted, masks, strict=True):
            row = {**row_of(pair), "texts_cut": [], **dict.fromkeys(PIE_BENCH)}
            if mask is not None:
                row |= self._unedited(pair, mask)
            row["structure_distance"] = self._structure(pair, encodings)
            self._rows[pair.id] = row
        self._add_clip(fitted, masks, encodings)

    def finish(self, only: Container[str] | None = None, fid_set: FidSet | None = None) -> Scored:
        """Return the scores and the rows; see `MetricSuite.finish`. There is no FID."""
        rows, set_rows = self._in_order(only)
        asked = (key for key in PIE_BENCH if key in self.metrics)
        scores = tuple(within_range(self._mean(rows, key)) for key in asked)
        photos = len(set(photos_of(rows)))
        apart = profiles_apart(rows)
        of_editor = Scores(
            self.label, scores, self.role, len(rows), photos=photos, profiles_apart=apart
        )
        return Scored(of_editor, rows, set_rows, None)

    def _unedited(self, pair: Pair, mask: Image.Image) -> dict[str, float]:
        """Return the scores outside the mask; none where it leaves nothing outside."""
        if not leaves_something(mask):
            return {}
        ours, theirs = (black_inside(image, mask) for image in (pair.edited, pair.source))
        error = l2(ours, theirs)
        similarity = float(ssim_map(ours, theirs).mean())
        row = {"psnr_unedited": psnr(error), "mse_unedited": error, "ssim_unedited": similarity}
        network = self.networks.lpips
        if not isinstance(network, Unavailable) and min(ours.size) >= network.smallest:
            row["lpips_unedited"] = float(network.distances([ours], [theirs])[0])
        return row

    def _structure(self, pair: Pair, encodings: Encodings) -> float | None:
        network = self.networks.structure
        if isinstance(network, Unavailable):
            return None
        images = (pair.edited, pair.source)
        known = encodings.of(network, network.self_similarities, images, "self-similarity")
        return structure_distance(known[id(pair.edited)], known[id(pair.source)])

    def _add_clip(
        self, pairs: Sequence[Pair], masks: Sequence[Image.Image | None], encodings: Encodings
    ) -> None:
        clip = self.networks.clip
        if isinstance(clip, Unavailable):
            return
        for pair, mask in zip(pairs, masks, strict=True):
            part = mask and black_inside(pair.edited, Image.eval(mask, lambda level: 255 - level))
            asked = {
                "clip_source": (pair.source, pair.source_text),
                "clip_edited": (pair.edited, pair.text),
                "clip_edited_part": (part, pair.text),
            }
            for key, (image, text) in asked.items():
                if image is not None and text:
                    known = encodings.of(clip, clip.embed, [image], "embedding")
                    plain = text.replace("[", "").replace("]", "")
                    (words,) = encodings.of_texts(clip, [plain])
                    self._rows[pair.id][key] = _clip_score(known[id(image)], words)
                    if clip.is_cut(plain):
                        self._rows[pair.id]["texts_cut"].append(key)

    def _mean(self, rows: Sequence[dict[str, Any]], key: str) -> Score:
        network, definition = self._network_of(key)
        if isinstance(network, Unavailable):
            return Score(key=key, unavailable=network.reason)
        marker = network.marker if network else ""
        held = [row for row in rows if row[key] is not None]
        values = [row[key] for row in held]
        if not values:
            reason = (
                "no sample has the mask or the text it needs" if rows else "no sample was scored"
            )
            return Score(key=key, marker=marker, unavailable=reason)
        missing = len(rows) - len(values)
        notes = [f"Samples without it: {missing} of {len(rows)}."] if missing else []
        cut_texts = sum(key in row["texts_cut"] for row in rows)
        if cut_texts:
            notes.append(f"Texts cut to the length the network reads: {cut_texts}.")
        return Score(
            key=key,
            marker=marker,
            value=float(np.mean(values)),
            n=len(values),
            interval=mean_interval(values, photos=photos_of(held)),
            definition=definition,
            note=" ".join(notes) or None,
        )

    def _network_of(self, key: str) -> tuple[Network | Unavailable | None, str]:
        """Return a score's network, None where it has none, and its definition."""
        if key in PIXEL_DEFINITION:
            return None, PIXEL_DEFINITION[key]
        network: Network | Unavailable = self.networks.clip
        about = f"{CLIP_PAIRS.get(key)}: 100 times the"
        if key == "lpips_unedited":
            network, about = self.networks.lpips, f"{UNEDITED}:"
        elif key == "structure_distance":
            network, about = self.networks.structure, "edited and source:"
        return network, "" if isinstance(network, Unavailable) else f"{about} {network.definition}"


def with_borders(mask: Image.Image) -> Image.Image:
    """Return the mask in black and white with its four borders white: annotations err there."""
    pixels_HW = np.where(np.asarray(mask.convert("L")) < 128, 0, 255).astype(np.uint8)
    pixels_HW[[0, -1], :] = 255
    pixels_HW[:, [0, -1]] = 255
    return Image.fromarray(pixels_HW)


def last_panel(edited: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return the last picture of a strip, which is the edit; any other picture as it is.

    The scripts crop the last 512 pixels of whatever is not square, black where there are none. Here
    a strip is two or more pictures of one height side by side, each of the source's shape.

    Args:
        edited: The output.
        size: Of the source (width, height).
    """
    panels = round(edited.width * size[1] / (edited.height * size[0]))
    if panels < 2 or not has_shape_of((edited.width, panels * edited.height), size):
        return edited
    return edited.crop((edited.width - edited.width // panels, 0, edited.width, edited.height))


def _clip_score(image: Tensor, text: Tensor) -> float:
    return max(0.0, 100 * float(image.double() @ text.double()))
