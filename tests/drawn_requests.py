"""Requests with drawn pictures, and what holds for every editor that works by latents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ric.editors.caption_editor import Captions
from ric.editors.editor import EditRequest

if TYPE_CHECKING:
    import torch

    from ric.editors.caption_editor import CaptionEditor

BALL, CUBE = "a red ball on the grass", "a blue cube on the grass"


def draw(width: int = 64, height: int = 64, seed: int = 0) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def levels_apart(ours: Image.Image, theirs: Image.Image) -> int:
    return int(np.abs(np.asarray(ours).astype(int) - np.asarray(theirs).astype(int)).max())


def latents(editor: CaptionEditor, count: int = 1) -> torch.Tensor:
    scale = editor.pipeline.vae.config.scaling_factor
    return scale * editor.pictures.encode([draw(seed=n) for n in range(count)], (64, 64))


def captions(editor: CaptionEditor, source: str, target: str, count: int = 1) -> Captions:
    return Captions(
        *(editor.pictures.embed(text).expand(count, -1, -1) for text in (source, target))
    )


def named(*ids: str) -> list[EditRequest]:
    return [EditRequest(name, draw(), "") for name in ids]


def refuse_company_that_tells(editor: CaptionEditor) -> None:
    """See that a request gives the same picture alone and in company."""
    requests = [
        EditRequest("a", draw(seed=1), "", BALL, CUBE),
        EditRequest("b", draw(96, 48, seed=2), "", BALL, CUBE),
        EditRequest("c", draw(60, 62, seed=3), "", CUBE, BALL),
    ]
    together = editor.edit(requests)
    assert [picture.size for picture in together] == [(64, 64), (96, 48), (60, 62)]
    for request, picture in zip(requests, together, strict=True):
        assert levels_apart(editor.edit([request])[0], picture) <= 1
