"""Load `--describer chat` and `openai`; their libraries are imported only when they are used."""

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

    Its config.json decides.

    Raises:
        RicError: the model cannot be loaded, or --load-in does not apply to it.
    """
    if is_vl2(read_json(model / "config.json", "a describer")):
        from ric.describers.deepseek_vl2.describer import DeepseekVl2

        if config.load_in:
            raise RicError(
                f"--load-in {config.load_in} is for models of transformers; DeepSeek-VL2-Tiny is"
                " loaded in --dtype.",
                "Omit --load-in.",
            )
        return DeepseekVl2(model, config, device)
    from ric.describers.chat_vlm import ChatVlm

    return ChatVlm(model, config, device)


def load_server(model: Path | None, config: DescribeConfig, device: torch.device) -> Describer:
    """Return the describer that sends requests to a server; the model is there.

    Raises:
        RicError: the package `openai` is not installed.
    """
    require_extra("openai", "--describer openai")
    from ric.describers.openai_server import OpenAiServer

    return OpenAiServer(config)
