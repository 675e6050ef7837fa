"""Texts that the dataset already has: no model needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ric.config import TEXT_OF
from ric.describers.quality import Answer
from ric.errors import SampleError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import torch

    from ric.config import DescribeConfig
    from ric.describers.describer import Answered
    from ric.describers.requests import Request

# what stands in for a text that the data lacks
INSTEAD = {"scene_text": "target_text"}


class FromDataset:
    """Take the sample's own text, and for a missing scene_text its target's caption."""

    is_model = False
    reads_prompt = False

    @classmethod
    def from_config(
        cls, model: Path | None, config: DescribeConfig, device: torch.device
    ) -> FromDataset:
        """Create it; there is nothing to load."""
        return cls()

    def answer(self, requests: Iterable[Request], between_steps: Callable[[], None]) -> Answered:
        """Return the texts (HumanEdit's scene_text: OUTPUT_CAPTION_BY_LLAMA)."""
        for request in requests:
            between_steps()
            column = TEXT_OF[request.what]
            columns = [one for one in (column, INSTEAD.get(column)) if one]
            texts = (getattr(request.sample, one, None) for one in columns)
            text = next(filter(None, texts), None)
            if text is not None:
                yield request, Answer(text)
                continue
            lacking = " nor ".join(columns)
            reason = f"the data has {'neither' if len(columns) > 1 else 'no'} {lacking} for it"
            hint = "Let a model write them: ric describe DATA --describer chat --model …"
            yield request, SampleError(request.sample.id, "texts", reason, hint)
