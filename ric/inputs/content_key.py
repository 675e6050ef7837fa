"""Everything that determines a network's output, as bytes to be hashed into a cache's name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

    from ric.method.region_encoder import RegionEncoder
    from ric.method.scene_encoder import SceneEncoder


def network_content(network: nn.Module, part: str = "") -> Iterator[bytes]:
    """Yield a network's config, without its origin, and its weights.

    Args:
        network: A network of transformers or diffusers.
        part: Only weights whose names begin with this.
    """
    config: Any = network.config
    settings = dict(config) if isinstance(config, dict) else config.to_dict()
    told = {key: value for key, value in settings.items() if not key.startswith("_")}
    yield json.dumps(told, sort_keys=True, default=str).encode()
    yield from _weights(network, part)


def judge_content(judge: RegionEncoder | SceneEncoder) -> Iterator[bytes]:
    """Yield a whole judge: its settings, its tower's config, and all weights."""
    yield json.dumps(judge.settings(), sort_keys=True).encode()
    yield from network_content(judge.tower)
    yield from _weights(judge)


def _weights(network: nn.Module, part: str = "") -> Iterator[bytes]:
    for name, weight in network.state_dict().items():
        if name.startswith(part):
            yield repr((name, weight.dtype, tuple(weight.shape))).encode()
            yield tensor_content(weight)


def tokenizer_content(tokenizer: PreTrainedTokenizerBase) -> bytes:
    """Return a fast tokenizer's rules, without the padding and truncation of its last call."""
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    rules |= {"padding": None, "truncation": None, "longest": tokenizer.model_max_length}
    return json.dumps(rules, sort_keys=True).encode()


def tensor_content(tensor: Tensor) -> bytes:
    """Return a tensor's values."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
