"""`ric describe` with DeepSeek-VL2-Tiny at full size: four tokens about a picture; peak memory.

    TMPDIR=/a/disk/with/7/GB python benchmarks/describe.py [--pixels N] [--device NAME]

The model, with random weights in bfloat16 under the released names, is written to a folder of the
hub's cache; the command finds it there and describes one scene. Fails if the command does, or if on
a CPU its peak resident memory exceeds 12 GiB. The result is appended to
benchmarks/results/describe-<machine>.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from _results import append_result, measured_here
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from ric.describers.deepseek_vl2.architecture import TINY, read_architecture
from ric.describers.deepseek_vl2.load import released_places
from ric.describers.deepseek_vl2.network import Vl2
from ric.describers.prompt import SCENE_PROMPT
from ric.weights import find_weight

MOST = 12  # GiB
NEW_TOKENS = 4
WORDS = 129280
SHARD = 2**30  # bytes
# (across, down) in tiles, in the released order
GRIDS = sorted(
    ((across, down) for across in range(1, 10) for down in range(1, 10) if across * down <= 9),
    key=lambda grid: grid[0] * grid[1],
)
CONFIG = {
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
        "vocab_size": WORDS,
    },
}


def write_vl2(folder: Path) -> None:
    """Write the model in the hub's layout, in shards of a gibibyte."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
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
        shard[name] = torch.empty(shape, dtype=torch.bfloat16).normal_(std=0.02)
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


def describe(cache: Path, runs: Path, pixels: int, device: str) -> dict[str, object]:
    """Describe one scene in a process of its own; return its seconds and peak memory.

    Raises:
        SystemExit: it failed.
    """
    words = ["describe", f"scenes:2@{pixels}", "--limit", "1", "--max-new-tokens", str(NEW_TOKENS),
             "--device", device]  # fmt: skip
    began = time.perf_counter()
    started = subprocess.Popen(
        [sys.executable, "-m", "ric_cli", *words, "--run", str(runs / "describe")],
        env={**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"},
    )
    _, status, used = os.wait4(started.pid, 0)
    if status:
        raise SystemExit(f"ric {' '.join(words)} failed")
    return {
        "command": " ".join(["ric", *words]),
        "new_tokens": NEW_TOKENS,
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_gib": round(used.ru_maxrss * 1024 / 2**30, 2),
    }


def main() -> None:
    """Write the model, measure, print, append the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pixels", type=int, default=512, help="the side of the scene")
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    weight = find_weight(TINY)
    assert weight is not None
    with tempfile.TemporaryDirectory() as name:
        cache = Path(name) / "hub"
        folder = cache / f"models--{TINY.replace('/', '--')}" / "snapshots" / weight.revision
        # the writer's memory goes with its process
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as writer:
            writer.submit(write_vl2, folder).result()
        size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        result = measured_here(torch=torch.__version__, weights_gib=round(size / 2**30, 2))
        result |= describe(cache, Path(name), asked.pixels, asked.device)
    print(json.dumps(result, indent=2))
    if asked.device == "cpu" and result["peak_gib"] > MOST:
        raise SystemExit(f"peak memory of {result['peak_gib']} GiB exceeds {MOST} GiB")
    print(f"appended to {append_result('describe', result)}")


if __name__ == "__main__":
    main()
