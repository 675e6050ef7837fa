"""Drawn scenes as tensors and texts, the training data of the embedded family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ric.data.batches import to_square
from ric.data.masks import shrink_mask
from ric.errors import RicError, SampleError
from ric.runs.samples import open_samples
from ric.runs.trained_on import list_trained_on

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ric.config import TinyConfig
    from ric.data.edit_sample import EditSample
    from ric.data.masks import Mask
    from ric.data.sample import Samples
    from ric.progress import Progress
    from ric.runs.run import RunDir

HELD_OUT = 512  # val samples that are measured during training


@dataclass(frozen=True)
class DrawnSample:
    """A sample of the scenes; see `ric.scenes.words.Texts` for the texts.

    Attributes:
        group: Equal for samples of the same picture.
        source: uint8 (3, S, S).
        target: uint8 (3, S, S).
        mask: bool (S, S), where the edited thing is.
        context: bool (S, S), where else the picture changes.
    """

    id: str
    group: str
    source: Tensor
    target: Tensor
    mask: Tensor
    context: Tensor
    instruction: str
    region_text: str
    scene_text: str
    source_text: str
    target_text: str


def load_drawn(
    config: TinyConfig, run: RunDir, progress: Progress
) -> tuple[list[DrawnSample], list[DrawnSample]]:
    """Decode the training samples, listing them in the run, and the first held-out ones.

    Raises:
        RicError: there is no usable sample in one of the two.
    """
    samples = open_samples(config, run)
    trained = _decode_all(samples, config, run, progress)
    list_trained_on(trained, run)
    held_out = _decode_all(_held_out(samples, config, run), config, run, progress)
    if not trained or not held_out:
        raise RicError(
            f"{config.data} has no usable sample to train on, or none in val.",
            "Use drawn scenes, such as scenes:10000, and more of them.",
        )
    return trained, held_out


def load_held_out(config: TinyConfig, run: RunDir, progress: Progress) -> list[DrawnSample]:
    """Decode the first samples of val."""
    held_out = _held_out(open_samples(config, run), config, run)
    return _decode_all(held_out, config, run, progress)


def _held_out(samples: Samples, config: TinyConfig, run: RunDir) -> Samples:
    return samples.narrowed("val", min(config.limit or HELD_OUT, HELD_OUT), run.fail)


def _decode_all(
    samples: Samples, config: TinyConfig, run: RunDir, progress: Progress
) -> list[DrawnSample]:
    decoded = []
    with progress.stage("decoding", samples.known_count, unit="samples") as stage:
        for sample in samples:
            try:
                decoded.append(decode(sample, config.image_size))
            except SampleError as error:
                run.fail(error)
                continue
            stage.advance()
    return decoded


def decode(sample: EditSample, size: int) -> DrawnSample:
    """Decode a sample's pictures and masks to size x size.

    Raises:
        SampleError: a picture cannot be read, or a text is missing.
    """
    square = to_square(sample, size, need_mask=False)
    assert square.target is not None  # to_square raises where there is none
    texts = {name: getattr(sample, name) for name in TEXTS}
    if missing := [name for name, text in texts.items() if not text]:
        raise SampleError(sample.id, "texts", f"it has no {', '.join(missing)}")
    return DrawnSample(
        sample.id,
        sample.group(),
        square.source,
        square.target,
        _square_mask(sample.load_given_mask(), size),
        _square_mask(sample.load_context_mask(), size),
        **texts,
    )


def _square_mask(mask: Mask | None, size: int) -> Tensor:
    """Resize a mask to size x size; all False if there is none."""
    if mask is None:
        return torch.zeros(size, size, dtype=torch.bool)
    return torch.from_numpy(shrink_mask(mask, size))


TEXTS = ("instruction", "region_text", "scene_text", "source_text", "target_text")


def both_pictures(samples: Sequence[DrawnSample]) -> Tensor:
    """Stack sources and targets: uint8 (2 N, 3, S, S)."""
    return torch.stack([picture for item in samples for picture in (item.source, item.target)])
