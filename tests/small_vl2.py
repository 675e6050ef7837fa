"""A DeepSeek-VL2-Tiny of a few layers in the hub's own layout, and what it is asked.

Imports nothing of ric or transformers: the script that runs the released code reads it, too.
"""

from __future__ import annotations

import copy
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

TILE, PATCH = 42, 14  # 3 x 3 patches: an odd number, as the 27 x 27 of 384 px
WIDTH, HIDDEN, WORDS = 32, 32, 288
EXPERTS, EXPERT = 8, 24
# in the order of the released file: of equally good ones the first is taken
GRIDS = (
    (1, 1), (1, 2), (2, 1), (1, 3), (3, 1), (1, 4), (4, 1), (2, 2), (1, 5), (5, 1), (1, 6), (6, 1),
    (2, 3), (3, 2), (1, 7), (7, 1), (1, 8), (8, 1), (2, 4), (4, 2), (1, 9), (9, 1), (3, 3),
)  # fmt: skip
BOS, EOS, PAD = (
    f"<\uff5c{name}\uff5c>"
    for name in ("begin\u2581of\u2581sentence", "end\u2581of\u2581sentence", "\u2581pad\u2581")
)
MERGES = [("Ġ", "b"), ("Ġb", "a"), ("l", "l"), ("Ġba", "ll"), ("Ġ", "Ġ")]
QUESTION = "Is the ball red?"
SIZES = {"square": (100, 100), "wide": (130, 40), "tall": (37, 160)}


def resolutions(tile: int) -> list[list[int]]:
    return [[across * tile, down * tile] for across, down in GRIDS]


# What the hub's config.json says, at other sizes: it leaves out what is the released default.
CONFIG: dict[str, Any] = {
    "candidate_resolutions": resolutions(TILE),
    "global_view_pos": "head",
    "language_config": {
        "architectures": ["DeepseekV2ForCausalLM"],
        "auto_map": {"AutoModel": "modeling_deepseek.DeepseekV2Model"},
        "bos_token_id": 0,
        "eos_token_id": 1,
        "first_k_dense_replace": 1,
        "hidden_size": HIDDEN,
        "intermediate_size": 56,
        "kv_lora_rank": None,
        "lm_head": True,
        "max_position_embeddings": 4096,
        "model_type": "deepseek_v2",
        "moe_intermediate_size": EXPERT,
        "n_group": 1,
        "n_routed_experts": EXPERTS,
        "n_shared_experts": 2,
        "num_attention_heads": 4,
        "num_experts_per_tok": 3,
        "num_hidden_layers": 3,
        "num_key_value_heads": 4,
        "q_lora_rank": None,
        "qk_nope_head_dim": 0,
        "qk_rope_head_dim": 0,
        "rm_head": False,
        "topk_group": 1,
        "topk_method": "greedy",
        "torch_dtype": "bfloat16",
        "use_mla": False,
        "v_head_dim": 0,
        "vocab_size": WORDS,
    },
    "model_type": "deepseek_vl_v2",
    "projector_config": {"input_dim": WIDTH, "model_type": "mlp_projector", "n_embed": HIDDEN},
    "tile_tag": "2D",
    "torch_dtype": "bfloat16",
    "transformers_version": "4.38.2",
    "vision_config": {
        "heads": 4,
        "image_size": TILE,
        "layers": 2,
        "mlp_ratio": 3.7362,
        "model_name": "siglip_so400m_patch14_384",
        "model_type": "vision",
        "patch_size": PATCH,
        "width": WIDTH,
    },
}
PROCESSOR: dict[str, Any] = {
    "add_special_token": False,
    "candidate_resolutions": resolutions(TILE),
    "downsample_ratio": 2,
    "ignore_id": -100,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "image_token": "<image>",
    "mask_prompt": False,
    "normalize": True,
    "pad_token": PAD,
    "patch_size": PATCH,
    "processor_class": "DeepseekVLV2Processor",
    "sft_format": "deepseek",
}


def tensor_shapes(config: dict[str, Any] = CONFIG) -> dict[str, tuple[int, ...]]:
    """List the released names of the weights, with their shapes."""
    vision, language = config["vision_config"], config["language_config"]
    width, inner = vision["width"], int(vision["width"] * vision["mlp_ratio"])
    patches = (vision["image_size"] // vision["patch_size"]) ** 2
    hidden, words = language["hidden_size"], language["vocab_size"]
    expert = language["moe_intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "image_newline": (hidden,),
        "view_seperator": (hidden,),  # codespell:ignore seperator
        "language.lm_head.weight": (words, hidden),
        "language.model.embed_tokens.weight": (words, hidden),
        "language.model.norm.weight": (hidden,),
        "projector.layers.0.weight": (hidden, 4 * width),
        "projector.layers.0.bias": (hidden,),
        "projector.layers.2.weight": (hidden, hidden),
        "projector.layers.2.bias": (hidden,),
        "vision.attn_pool.latent": (1, 1, width),
        "vision.patch_embed.proj.weight": (width, 3, vision["patch_size"], vision["patch_size"]),
        "vision.patch_embed.proj.bias": (width,),
        "vision.pos_embed": (1, patches, width),
    }

    def layer(name: str, rows: int, columns: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (rows, columns), (rows,)

    def norm(name: str) -> None:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (width,)

    def gated(name: str, inner: int) -> None:
        shapes[f"{name}.gate_proj.weight"] = shapes[f"{name}.up_proj.weight"] = (inner, hidden)
        shapes[f"{name}.down_proj.weight"] = (hidden, inner)

    norm("vision.norm")
    norm("vision.attn_pool.norm")
    for name, rows in (("q", 1), ("kv", 2), ("proj", 1)):
        layer(f"vision.attn_pool.{name}", rows * width, width)
    for block in ("attn_pool", *(f"blocks.{number}" for number in range(vision["layers"]))):
        layer(f"vision.{block}.mlp.fc1", inner, width)
        layer(f"vision.{block}.mlp.fc2", width, inner)
    for number in range(vision["layers"]):
        norm(f"vision.blocks.{number}.norm1")
        norm(f"vision.blocks.{number}.norm2")
        layer(f"vision.blocks.{number}.attn.qkv", 3 * width, width)
        layer(f"vision.blocks.{number}.attn.proj", width, width)
    for number in range(language["num_hidden_layers"]):
        stem = f"language.model.layers.{number}"
        for name in ("q", "k", "v", "o"):
            shapes[f"{stem}.self_attn.{name}_proj.weight"] = (hidden, hidden)
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{stem}.{name}.weight"] = (hidden,)
        if number < language["first_k_dense_replace"]:
            gated(f"{stem}.mlp", language["intermediate_size"])
            continue
        shapes[f"{stem}.mlp.gate.weight"] = (language["n_routed_experts"], hidden)
        gated(f"{stem}.mlp.shared_experts", language["n_shared_experts"] * expert)
        for chosen in range(language["n_routed_experts"]):
            gated(f"{stem}.mlp.experts.{chosen}", expert)
    return shapes


def seeded_weights(config: dict[str, Any] = CONFIG) -> dict[str, torch.Tensor]:
    """Draw every tensor evenly, from a seed of its own; scales of norms around 1."""
    tensors = {}
    for name, shape in tensor_shapes(config).items():
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        drawn = torch.rand(shape, generator=generator) - 0.5
        inputs = int(np.prod(shape[1:])) if len(shape) > 1 else 1
        if name.endswith("norm.weight") or "norm1.weight" in name or "norm2.weight" in name:
            tensors[name] = 1 + drawn
        elif len(shape) == 1 or "embed" in name.split(".")[-1] or "embed_tokens" in name:
            tensors[name] = drawn
        else:
            # a layer's output then varies as much as its input, or a little more
            tensors[name] = 5 * drawn / inputs**0.5
    return tensors


def write_tokenizer(folder: Path, extra: tuple[str, ...] = ()) -> None:
    """Write a byte-level tokenizer as the hub's: its class is one that would lose the spaces."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [BOS, EOS, PAD, *letters, *("".join(pair) for pair in MERGES)]
    bpe = Tokenizer(models.BPE({word: number for number, word in enumerate(words)}, MERGES))
    bpe.add_special_tokens([BOS, EOS, PAD, *extra])
    split = pre_tokenizers.Split(Regex(r"\p{N}{1,3}"), "isolated")
    byte = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([split, byte])
    bpe.decoder = decoders.ByteLevel()
    bpe.save(str(folder / "tokenizer.json"))
    settings = {
        "add_bos_token": False,
        "add_eos_token": False,
        "bos_token": BOS,
        "clean_up_tokenization_spaces": False,
        "eos_token": EOS,
        "legacy": True,
        "model_max_length": 4096,
        "pad_token": PAD,
        "sp_model_kwargs": {},
        "tokenizer_class": "LlamaTokenizerFast",
        "unk_token": None,
        "use_default_system_prompt": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def write_model(
    folder: Path,
    tensors: dict[str, torch.Tensor] | None = None,
    *,
    shards: int = 1,
    extra_tokens: tuple[str, ...] = (),
) -> Path:
    """Write the model as the hub has it; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "processor_config.json").write_text(json.dumps(PROCESSOR))
    write_tokenizer(folder, extra_tokens)
    tensors = seeded_weights() if tensors is None else tensors
    weight_map = {}
    for shard in range(shards):
        name = f"model-{shard + 1:05d}-of-{shards:06d}.safetensors"
        held = dict(list(tensors.items())[shard::shards])
        save_file(held, folder / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(held, name)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def changed_config(**parts: Any) -> dict[str, Any]:
    """Return a copy of the config; a part's mapping is laid over it, other values replace."""
    config = copy.deepcopy(CONFIG)
    for name, value in parts.items():
        config[name] = {**config[name], **value} if isinstance(value, dict) else value
    return config


def picture(width: int, height: int) -> Image.Image:
    """Draw noise and a ramp, the same on every machine."""
    noise = np.random.default_rng(width * 10_000 + height).integers(0, 96, (height, width, 3))
    ramp = np.linspace(0, 159, width).astype(int)[None, :, None]
    return Image.fromarray((noise + ramp).astype(np.uint8))


def sizes(count: int, most: int) -> list[tuple[int, int]]:
    """Draw widths and heights, evenly in their logarithms; a few are those of tiles."""
    random = np.random.default_rng(0)
    drawn = np.exp(random.uniform(np.log(most / 300), np.log(most), (count - 6, 2))).astype(int)
    tile = most // 12
    named = [(tile, tile), (2 * tile, tile), (tile, 2 * tile), (3 * tile, 3 * tile)]
    named += [(1, most // 40), (most // 40, 1)]
    return named + [(int(max(1, width)), int(max(1, height))) for width, height in drawn]
