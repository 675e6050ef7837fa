"""Recognising a vision-language model that no describer runs, before its weights are fetched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ric.config import DescribeConfig
from ric.describers.deepseek_vl2.architecture import OTHERS, is_vl2, refuse_other_sizes
from ric.errors import RicError
from ric.model_files import read_json
from ric.registry import DESCRIBERS
from ric.weights import find_weight, is_present
from ric.weights.fetch import fetch_config
from ric.weights.resolve import unlisted

if TYPE_CHECKING:
    from ric.config import CommandConfig


def refuse_other_vlms(config: CommandConfig, *, fetch: bool = False) -> None:
    """Refuse the larger sizes of DeepSeek-VL2, and what transformers has no class for.

    Args:
        config: The command's settings.
        fetch: Whether the config.json of a model that is not here, and that the table of weights
            does not list, is fetched.

    Raises:
        RicError: the describer's model is one of them.
    """
    # a describer from outside ric may run them
    if not isinstance(config, DescribeConfig) or config.describer not in DESCRIBERS:
        return
    refuse_other_sizes(config.model)
    file = _config_file(config, fetch=fetch)
    if file is None:
        return
    told = read_json(file)
    refuse_other_sizes(config.model, told)
    if not is_vl2(told):
        _refuse_other_architectures(config.model, told.get("model_type"))


def _config_file(config: DescribeConfig, *, fetch: bool) -> Path | None:
    folder: Path | None = Path(config.model)
    if not Path(config.model).exists():
        weight = find_weight(config.model)
        folder = is_present(weight or unlisted(config.model), config.weights)
        if folder is None and weight is None and fetch:
            return fetch_config(unlisted(config.model))
    file = folder / "config.json" if folder else None
    return file if file is not None and file.is_file() else None


def _refuse_other_architectures(model: str, kind: object) -> None:
    # takes seconds, which only a model that is not ric's own costs
    from transformers import __version__
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    if kind not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        raise RicError(
            f"{model} is a {str(kind)[:80]!r}, which transformers {__version__} does not run as an"
            " image-text-to-text model.",
            OTHERS,
        )
