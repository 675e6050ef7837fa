"""The describer's protocol, and loading one: a file here and a row of `registry.DESCRIBERS`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from ric.errors import SampleError
from ric.registry import load_part

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch

    from ric.config import DescribeConfig
    from ric.data.sample import EditSample


class Describer(Protocol):
    """Writes one paragraph about the edited picture of a sample.

    One that reads several pictures at once also has `describe_batch`, from samples to a list of
    paragraphs, with a SampleError in the place of a sample that cannot be described.
    """

    def describe(self, sample: EditSample) -> str:
        """Return the paragraph; SampleError when this sample cannot be described."""


def describe_all(describer: Describer, samples: Sequence[EditSample]) -> list[str | SampleError]:
    """Describe samples together if the describer can, else one by one.

    Returns:
        For each sample its paragraph, or why there is none.
    """
    together = getattr(describer, "describe_batch", None)
    return together(samples) if together else [_describe(describer, one) for one in samples]


def _describe(describer: Describer, sample: EditSample) -> str | SampleError:
    try:
        return describer.describe(sample)
    except SampleError as error:
        return error


def load_describer(
    name: str, model: Path | None, config: DescribeConfig, device: torch.device
) -> Describer:
    """Load the describer called `name`.

    Args:
        name: A name that `ric.registry` describes.
        model: The folder of its model; None where it needs none.
        config: The command's settings.
        device: Where the model runs.

    Raises:
        RicError: there is no such describer, or its model cannot be loaded.
    """
    return cast("Describer", load_part("describer", name)(model, config, device))
