"""The drawn scenes as tensors and texts: what the members of the embedded family are trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from ric.data.batches import to_square
from ric.errors import RicError, SampleError
from ric.recipes.examples import read_samples
from ric.recipes.overlap import list_trained_on

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ric.config import SplitName, TinyConfig
    from ric.progress import Progress
    from ric.run_dir import RunDir

HELD_OUT = 512  # samples of val that are looked at on the way


@dataclass(frozen=True)
class DrawnSample:
    """A sample of the scenes; see `ric.scenes.words.Texts` for the texts.

    Attributes:
        group: What tells whether two samples show the same picture.
        source: uint8 (3, S, S).
        target: uint8 (3, S, S).
    """

    id: str
    group: str
    source: Tensor
    target: Tensor
    instruction: str
    region_text: str
    scene_text: str
    source_text: str
    target_text: str


def load_drawn(
    config: TinyConfig, run: RunDir, progress: Progress
) -> tuple[list[DrawnSample], list[DrawnSample]]:
    """Decode what is trained on, listing it in the run, and the first of what is held out.

    Raises:
        RicError: there is no usable sample in either.
    """
    trained = _load(config, run, progress, config.split)
    list_trained_on(trained, run)
    few = replace(config, limit=min(config.limit or HELD_OUT, HELD_OUT))
    held_out = _load(few, run, progress, "val")
    if not trained or not held_out:
        raise RicError(
            f"{config.data} has no usable sample to train on, or none in val.",
            "Use drawn scenes, such as scenes:10000, and more of them.",
        )
    return trained, held_out


def _load(
    config: TinyConfig, run: RunDir, progress: Progress, split: SplitName
) -> list[DrawnSample]:
    samples = []
    with progress.stage(f"decoding {split}", unit="samples") as stage:
        for sample in read_samples(config, run, split=split):
            try:
                square = to_square(sample, config.image_size, need_mask=False)
                assert square.target is not None  # to_square raises where there is none
                texts = {name: getattr(sample, name) for name in TEXTS}
                if missing := [name for name, text in texts.items() if not text]:
                    raise SampleError(sample.id, "texts", f"it has no {', '.join(missing)}")
                drawn = DrawnSample(
                    sample.id, sample.group(), square.source, square.target, **texts
                )
            except SampleError as error:
                run.fail(error)
                continue
            samples.append(drawn)
            stage.advance()
    return samples


TEXTS = ("instruction", "region_text", "scene_text", "source_text", "target_text")


def both_pictures(samples: Sequence[DrawnSample]) -> Tensor:
    """Stack sources and targets: uint8 (2 N, 3, S, S)."""
    return torch.stack([picture for item in samples for picture in (item.source, item.target)])
