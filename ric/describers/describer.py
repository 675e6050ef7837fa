"""The describer's protocol, and loading one: a file here and a row of `registry.DESCRIBERS`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from ric.registry import load_part

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from ric.config import DescribeConfig
    from ric.data.sample import EditSample


class Describer(Protocol):
    """Writes one paragraph about the edited picture of a sample."""

    def describe(self, sample: EditSample) -> str:
        """Return the paragraph; SampleError when this sample cannot be described."""


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
