"""`--describer chat` and `openai`: which code answers, imported when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ric.describers.deepseek_vl2.architecture import is_vl2
from ric.errors import RicError
from ric.extras import require_extra
from ric.model_files import read_json

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from ric.config import DescribeConfig
    from ric.describers.describer import Describer


def load_chat(model: Path, config: DescribeConfig, device: torch.device) -> Describer:
    """Load a vision-language model: DeepSeek-VL2-Tiny, or one that transformers supports.

    Its config.json says which. Each is imported with its networks, which takes seconds.

    Raises:
        RicError: as the two describers do.
    """
    if is_vl2(read_json(model / "config.json", "a describer")):
        from ric.describers.deepseek_vl2.describer import DeepseekVl2

        if config.load_in:
            raise RicError(
                f"--load-in {config.load_in} is for transformers' models; DeepSeek-VL2-Tiny is held"
                " in --dtype.",
                "Omit --load-in.",
            )
        return DeepseekVl2(model, config, device)
    from ric.describers.chat_vlm import ChatVlm

    return ChatVlm(model, config, device)


def load_server(model: Path | None, config: DescribeConfig, device: torch.device) -> Describer:
    """Ask a server, which has the model.

    Raises:
        RicError: the package that speaks to it is not installed.
    """
    require_extra("openai", "--describer openai")
    from ric.describers.openai_server import OpenAiServer

    return OpenAiServer(config)
