"""Several edits of one picture, of which one is kept. Not in the paper.

The judges that steer a UNet's training (Sec. 3.2) can also choose among finished edits: `ric edit
--candidates N` edits each picture with N seeds and keeps the edit with the highest sum of two
cosines, as Eq. 10 adds two losses: that of its region, seen in the context of the whole picture
(Eq. 7), with the region's text, and that of the whole picture with its scene paragraph.

The medoid, the edit that is most like the others, is what there is to choose without a judge. It is
the control that says how much of a gain the judges can claim.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch

from ric.data.batches import square_pixels, to_unit
from ric.data.masks import shrink_mask
from ric.errors import SampleError
from ric.method.losses import cosine
from ric.method.region_box import tightest_box

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from PIL import Image
    from torch import Tensor

    from ric.data.masks import Mask
    from ric.editors.asking import Answer
    from ric.method.region_encoder import RegionEncoder
    from ric.method.scene_encoder import SceneEncoder


@dataclass(frozen=True)
class Criteria:
    """The texts and the region that edits are judged by.

    Attributes:
        region_text: What its region is to show; None: the region is not judged.
        scene_text: A paragraph about the whole edit; None: the whole is not judged.
        mask: The region, bool (H, W) of the edited picture; None: the region is not judged.
    """

    region_text: str | None
    scene_text: str | None
    mask: Mask | None


class Candidate(NamedTuple):
    """One of the edits of a picture.

    Attributes:
        seed: It was made with.
        answer: The editor's.
        facts: What the editor tells of it.
    """

    seed: int
    answer: Answer
    facts: Mapping[str, object]


class Chooser(Protocol):
    """Scores several edits of one picture, of which the best is kept."""

    def refuse_useless(self, name: str, criteria: Criteria) -> None:
        """Refuse a sample of which nothing can be told (raises SampleError)."""

    def __call__(
        self, pictures: Sequence[Image.Image], criteria: Criteria
    ) -> dict[str, list[float]]:
        """Score each of at least one edit, by one or more names; the highest sum is best."""


class Medoid:
    """Chooses the edit that is most like the others, without a judge.

    By mean squared differences the medoid is also the one that is nearest to the mean of all.

    Args:
        size: Pictures are squashed to squares of this side first, as judges see them.
    """

    def __init__(self, size: int) -> None:
        """Hold the size; see the class."""
        self.size = size

    def refuse_useless(self, name: str, criteria: Criteria) -> None:
        """Refuse nothing: there is always something to compare, or but one to keep."""

    def __call__(
        self, pictures: Sequence[Image.Image], criteria: Criteria
    ) -> dict[str, list[float]]:
        """Score each by `likeness`: minus its mean squared difference, of [0, 1], to the others."""
        pixels_BCHW = torch.stack([square_pixels(one, self.size) for one in pictures]).float() / 255
        flat_BD = pixels_BCHW.flatten(1)
        others = max(len(pictures) - 1, 1)
        return {
            "likeness": [
                0.0 - float((flat_BD - one).square().mean(1).sum() / others) for one in flat_BD
            ]
        }


class Judges:
    """The judges that choose.

    Args:
        region: The region judge; None: it has no say.
        scene: The scene judge; None: it has no say.
        size: Pictures are squashed to squares of this side first, as for the judges' fits.
    """

    def __init__(self, region: RegionEncoder | None, scene: SceneEncoder | None, size: int) -> None:
        """Hold the judges; see the class."""
        self.region, self.scene, self.size = region, scene, size

    def refuse_useless(self, name: str, criteria: Criteria) -> None:
        """Refuse a sample of which no judge can tell anything (raises SampleError)."""
        if self._of_region(criteria) or self._of_scene(criteria):
            return
        lacking = []
        if self.region:
            lacking.append("no region_text" if criteria.mask is not None else "no mask")
        if self.scene:
            lacking.append("no scene_text")
        raise SampleError(
            name,
            "candidates",
            f"There is nothing to choose its candidates by: it has {' and '.join(lacking)}."
            " Describe it, and name that run: --captions RUN",
        )

    @torch.no_grad()
    def __call__(
        self, pictures: Sequence[Image.Image], criteria: Criteria
    ) -> dict[str, list[float]]:
        """Judge edits of one picture: each one's cosine, by `region` and `scene`."""
        pixels = torch.stack([square_pixels(picture, self.size) for picture in pictures])
        cosines = {}
        if of_region := self._of_region(criteria):
            judge, text, mask = of_region
            images = to_unit(pixels.to(judge.logit_scale.device))
            box = tightest_box(shrink_mask(mask, self.size))
            f_r = judge.encode_region(images, [box] * len(pictures))  # Eqs. 6, 7
            cosines["region"] = _cosines(f_r, judge.encode_text([text]))
        if of_scene := self._of_scene(criteria):
            scene_judge, text = of_scene
            e_f = scene_judge.encode_image(to_unit(pixels.to(scene_judge.logit_scale.device)))
            cosines["scene"] = _cosines(e_f, scene_judge.encode_text([text]))
        return cosines

    def _of_region(self, criteria: Criteria) -> tuple[RegionEncoder, str, Mask] | None:
        """Return the region judge with what it needs; None if any of it is missing."""
        text, mask = criteria.region_text, criteria.mask
        if self.region is None or text is None or mask is None:
            return None
        return self.region, text, mask

    def _of_scene(self, criteria: Criteria) -> tuple[SceneEncoder, str] | None:
        """Return the scene judge with what it needs; None if any of it is missing."""
        text = criteria.scene_text
        return None if self.scene is None or text is None else (self.scene, text)


def choose(
    candidates: Sequence[Candidate],
    chooser: Chooser,
    criteria: Criteria,
    finish: Callable[[Answer], Image.Image | None],
) -> tuple[Answer, dict[str, object]]:
    """Choose the candidate that scores best; of equal ones the first.

    Args:
        candidates: At least one.
        chooser: Sees them as they would be kept, the source outside the mask.
        criteria: What it may judge by.
        finish: Puts an answer into its picture; None: it cannot be kept.

    Returns:
        Its picture and what its row tells: its own facts, the number of candidates, the chosen
        one's seed, and the scores of all, None of one that cannot be kept. Where none can, the
        first one's answer.
    """
    drawn = {
        place: picture
        for place, one in enumerate(candidates)
        if (picture := finish(one.answer)) is not None
    }
    if not drawn:
        return candidates[0].answer, dict(candidates[0].facts)
    scores = chooser(list(drawn.values()), criteria)
    sums = dict(zip(drawn, map(sum, zip(*scores.values(), strict=True)), strict=True))
    best = candidates[max(drawn, key=lambda place: sums[place])]
    judged: dict[str, list[float | None]] = {}
    for name, values in scores.items():
        judged[name] = [None] * len(candidates)
        for place, value in zip(drawn, values, strict=True):
            judged[name][place] = float(f"{value:.4g}")
    chosen = {"candidates": len(candidates), "chosen_seed": best.seed, "judged": judged}
    return best.answer, {**best.facts, **chosen}


def _cosines(visual: Tensor, text: Tensor) -> list[float]:
    return [float(value) for value in cosine(visual, text.expand_as(visual))]
