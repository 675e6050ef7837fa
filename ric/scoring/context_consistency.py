"""Context consistency: what a region's picture adds to the region, for photos without a target.

A fitted region judge sees an edited region twice: in its picture, and with the crop itself in the
picture's place. By how much more the region's text then fits is what the picture adds. It is not in
the paper; docs/exactness.md says how far it follows the true context error on drawn scenes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from ric.data.batches import to_unit
from ric.errors import RicError
from ric.method.losses import cosine
from ric.method.region_box import grow_box, tightest_box
from ric.method.region_encoder import RegionEncoder

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

    from ric.config import EvalConfig
    from ric.metrics.pairs import Pair


class ContextConsistency:
    """The cosine of region and text with the picture as context, less that without it.

    Args:
        model: The folder of a fitted region judge with a gated fusion.
        config: As every metric gets it; not read.
        device: Where it runs, in float32.

    Raises:
        RicError: the folder holds no such judge.
    """

    needs = "mask"

    def __init__(self, model: Path, config: EvalConfig, device: torch.device) -> None:
        """Load the judge; see the class."""
        self._judge = RegionEncoder.from_pretrained(model).to(device)
        if not self._judge.gated:
            raise RicError(
                f"context_consistency needs a gated fusion; {model} was fitted without.",
                "Fit one without --no-gated-fusion.",
            )
        self._judge.sees = "both"
        self._device = device
        self.definition = (
            "cosine of the edited region and its text by the region judge, in the whole picture"
            " less in the region's own crop"
        )

    @torch.no_grad()
    def score(self, pair: Pair, reference: Image.Image | None) -> float | None:
        """Score one edited picture; None without a text, or where the mask is empty."""
        if pair.mask is None or pair.text is None:
            return None
        inside = np.asarray(pair.mask.convert("L").resize(pair.edited.size)) >= 128
        if not inside.any():
            return None
        box = grow_box(tightest_box(inside), *inside.shape)
        levels = torch.from_numpy(np.array(pair.edited.convert("RGB"))).permute(2, 0, 1)[None]
        judge, pixels = self._judge, to_unit(levels.to(self._device))
        text = judge.encode_text([pair.text])
        e_r, e_f = judge.region_and_image_tokens(pixels, [box])
        with_picture, alone = (cosine(judge.fuse(e_r, around), text) for around in (e_f, e_r))
        return float(with_picture - alone)
