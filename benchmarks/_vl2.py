"""DeepSeek-VL2-Tiny with random weights, at its own or at smaller sizes, in the hub's layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from ric.describers.deepseek_vl2.architecture import read_architecture
from ric.describers.deepseek_vl2.load import released_places
from ric.describers.deepseek_vl2.network import Vl2
from ric.describers.prompt import SCENE_PROMPT

SHARD = 2**30  # bytes
# (across, down) in tiles, in the released order
GRIDS = sorted(
    ((across, down) for across in range(1, 10) for down in range(1, 10) if across * down <= 9),
    key=lambda grid: grid[0] * grid[1],
)
TINY_SIZES: dict[str, Any] = {
    "model_type": "deepseek_vl_v2",
    "tile_tag": "2D",
    "global_view_pos": "head",
    "vision_config": {"layers": 27, "mlp_ratio": 3.7362, "patch_size": 14, "width": 1152},
    "projector_config": {"n_embed": 1280},
    "language_config": {
        "first_k_dense_replace": 1,
        "hidden_size": 1280,
        "intermediate_size": 6848,
        "max_position_embeddings": 4096,
        "moe_intermediate_size": 896,
        "n_routed_experts": 64,
        "n_shared_experts": 2,
        "num_attention_heads": 10,
        "num_experts_per_tok": 6,
        "num_hidden_layers": 12,
        "topk_method": "greedy",
        "use_mla": False,
        "vocab_size": 129280,
    },
}


def write_vl2(folder: Path, config: dict[str, Any], dtype: torch.dtype) -> None:
    """Write a model with random weights in the hub's layout, in shards of a gibibyte.

    Args:
        folder: Is created.
        config: Its config.json.
        dtype: Of the weights.
    """
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    resolutions = [[384 * across, 384 * down] for across, down in GRIDS]
    (folder / "processor_config.json").write_text(
        json.dumps({"candidate_resolutions": resolutions})
    )
    words = write_tokenizer(folder)
    with torch.device("meta"):
        places = released_places(dict(Vl2(read_architecture(folder)).named_parameters()))
    torch.manual_seed(0)
    shard: dict[str, torch.Tensor] = {}
    for name, parts in places.items():
        shape = (sum(len(part) for part in parts), *parts[0].shape[1:])
        shard[name] = torch.empty(shape, dtype=dtype).normal_(std=0.02)
        if name == "language.lm_head.weight":
            shard[name][words:] = 0  # the small tokenizer has no words for these
        if name == list(places)[-1] or sum(t.nbytes for t in shard.values()) > SHARD:
            number = len(list(folder.glob("*.safetensors")))
            save_file(shard, folder / f"model-{number:05d}.safetensors")
            shard = {}


def write_tokenizer(folder: Path) -> int:
    """Train a small byte-level tokenizer on Table 4's prompt; return its length."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<bos>", "<eos>", "<pad>"]
    trainer = trainers.BpeTrainer(
        vocab_size=800,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([SCENE_PROMPT] * 3, trainer)
    bpe.save(str(folder / "tokenizer.json"))
    names = dict(zip(("bos_token", "eos_token", "pad_token"), special, strict=True))
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    return bpe.get_vocab_size()
