"""`--describer chat`: the model's own config.json says which code runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ric.describers.deepseek_vl2.architecture import is_vl2
from ric.model_files import read_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import torch

    from ric.config import DescribeConfig
    from ric.describers.describer import Describer


def load_chat(model: Path, config: DescribeConfig, device: torch.device) -> Describer:
    """Load a vision-language model: DeepSeek-VL2-Tiny, or one that transformers supports.

    Raises:
        RicError: as the two describers do.
    """
    # each imports its networks, which takes seconds
    if is_vl2(read_json(model / "config.json", "a describer")):
        from ric.describers.deepseek_vl2.describer import DeepseekVl2

        kind: Callable[..., Describer] = DeepseekVl2
    else:
        from ric.describers.chat_vlm import ChatVlm

        kind = ChatVlm
    return kind(model, device=device, dtype=config.dtype, max_new_tokens=config.max_new_tokens)
