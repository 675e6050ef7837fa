"""The kinds of models that find a mask by a text, by the `model_type` in their config.json.

Imports no torch: preflight reads this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ric.errors import RicError
from ric.model_files import read_json

if TYPE_CHECKING:
    from pathlib import Path

# the released SAM 3 and SAM 2 are saved as their video models
OF_BOXES = ("grounding-dino", "mm-grounding-dino")
OF_SAM3 = ("sam3", "sam3_video")


def finder_kind(model: Path, *, with_sam: bool) -> str:
    """Return the type of a model of `--mask-text-model`.

    Args:
        model: Its folder.
        with_sam: Whether `--mask-text-sam` names a SAM, for a model that finds boxes.

    Raises:
        RicError: it is none of those that find something by a text, a SAM is missing, or would do
            nothing.
    """
    kind = str(read_json(model / "config.json").get("model_type"))
    if kind in OF_BOXES:
        if not with_sam:
            raise RicError(
                f"{model} finds boxes ({kind}), and a SAM is to find the masks in them.",
                "Name one: --mask-text-sam facebook/sam-vit-base",
            )
    elif kind not in ("clipseg", *OF_SAM3):
        raise RicError(
            f"{model} is a model of type '{kind}', which finds nothing by a text.",
            "--mask-text-model may be a CLIPSeg, a SAM 3, a GroundingDINO or an MM Grounding DINO.",
        )
    elif with_sam:
        raise RicError(
            f"{model} makes masks itself ({kind}): --mask-text-sam would do nothing.",
            "Omit --mask-text-sam, or name a GroundingDINO with --mask-text-model.",
        )
    return kind
