"""Recognising a vision-language model that no describer runs, before anything is fetched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ric.config import DescribeConfig
from ric.describers.deepseek_vl2.architecture import refuse_other_sizes
from ric.model_files import read_json
from ric.registry import DESCRIBERS

if TYPE_CHECKING:
    from ric.config import CommandConfig


def refuse_other_vlms(config: CommandConfig) -> None:
    """Refuse the larger sizes of DeepSeek-VL2, by their ids or by a folder's config.json.

    Raises:
        RicError: the describer's model is one of them.
    """
    # a describer from outside ric may run them
    if isinstance(config, DescribeConfig) and config.describer in DESCRIBERS:
        file = Path(config.model) / "config.json"
        refuse_other_sizes(config.model, read_json(file) if file.is_file() else None)
