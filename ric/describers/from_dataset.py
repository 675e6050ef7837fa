"""Paragraphs that the dataset already has: no model needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ric.errors import SampleError

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from ric.config import DescribeConfig
    from ric.data.sample import EditSample


class FromDataset:
    """Take the sample's own scene_text, or its target's caption."""

    @classmethod
    def from_config(
        cls, model: Path | None, config: DescribeConfig, device: torch.device
    ) -> FromDataset:
        """Create it; there is nothing to load."""
        return cls()

    def describe(self, sample: EditSample) -> str:
        """Return the text (HumanEdit: OUTPUT_CAPTION_BY_LLAMA).

        Raises:
            SampleError: the sample has neither text.
        """
        text = sample.scene_text or sample.target_text
        if text is None:
            raise SampleError(
                sample.id,
                "texts",
                "the data has neither scene_text nor target_text for it",
                "Let a model write them: ric describe DATA --describer chat --model …",
            )
        return text
