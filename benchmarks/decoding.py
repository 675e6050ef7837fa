"""How fast DeepSeek-VL2's describer answers: batches, shared pictures, the cache, and the bound.

    OMP_NUM_THREADS=1 taskset -c 1 python benchmarks/decoding.py [--size tiny] [--device cuda]

The network has random weights and, by default, a fifteenth of tiny's in float32, which takes some
minutes; `--size tiny` is its own size in bfloat16. Pictures of drawn scenes are described one at a
time and together; four texts about one picture are written with its beginning shared and not; and
tokens are decoded with the cache and by computing everything again for each. The bound is the time
in which memory, as fast as a sum over a gibibyte reads it, yields the weights of one token. On a
CPU the seconds are those that this process computes, on one thread: others at work do not count.
The result is appended to benchmarks/results/decoding-<machine>.json.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from _results import append_result, measured_here
from _vl2 import TINY_SIZES, write_vl2

from ric.config import DescribeConfig
from ric.data.sample import load_samples
from ric.describers.deepseek_vl2.describer import DeepseekVl2
from ric.describers.deepseek_vl2.network import Decoding
from ric.describers.prompt import PROMPTS, filled
from ric.describers.requests import Request, picture_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ric.config import What
    from ric.data.edit_sample import EditSample

KINDS: tuple[What, ...] = ("target-caption", "source-caption", "explicit-instruction", "scene")
SMALLER: dict[str, dict[str, int]] = {
    "vision_config": {"layers": 4, "width": 288},
    "projector_config": {"input_dim": 288, "n_embed": 512},
    "language_config": {
        "hidden_size": 512,
        "intermediate_size": 2048,
        "moe_intermediate_size": 256,
        "num_attention_heads": 8,
        "num_hidden_layers": 8,
        "vocab_size": 32000,
    },
}


def smaller(config: dict[str, Any]) -> dict[str, Any]:
    """Return the config of a smaller network, with as many experts and tokens of a picture."""
    made = copy.deepcopy(config)
    for part, sizes in SMALLER.items():
        made[part] |= sizes
    return made


def request(sample: EditSample, what: What = "scene", *, of_source: bool = False) -> Request:
    """Ask for a text, as `ric describe` does."""
    image = picture_of(what, "source" if of_source else "target")
    return Request(sample, what, filled(PROMPTS[what], sample.instruction), image)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Measure how long something takes: on a CPU, the seconds that this process computes."""
    began = now(device)
    work()
    return now(device) - began


def now(device: torch.device) -> float:
    """Read the clock that does not run while other processes have the core."""
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def bandwidth(device: torch.device) -> float:
    """Measure how many bytes of memory are read in a second."""
    values = torch.ones(2**28, device=device)
    return values.nbytes / min(seconds(values.sum, device) for _ in range(5))


def bytes_of_token(describer: DeepseekVl2) -> int:
    """Count the bytes of the weights that one token reads: of its experts alone, of words one."""
    language = describer.network.language
    config = language.config
    total = 0
    for name, weight in language.named_parameters():
        if name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            total += weight.nbytes * config.num_experts_per_tok // config.n_routed_experts
        elif "embed_tokens" not in name:
            total += weight.nbytes
    return total


class Bench:
    """A describer, and how long it takes.

    Args:
        describer: The network with its processor.
        longest: Tokens of an answer; none ends earlier.
    """

    def __init__(self, describer: DeepseekVl2, longest: int) -> None:
        """Let no answer end by itself."""
        self.describer, self.longest = describer, longest
        self.device = describer.device

    def answers(self, requests: Sequence[Request], at_once: int) -> float:
        """Answer requests; return the seconds."""
        self.describer.batch_size, self.describer.max_new_tokens = at_once, self.longest

        def work() -> None:
            for one, answer in self.describer.answer(requests, lambda: None):
                assert not isinstance(answer, Exception), (one.sample.id, answer)

        return seconds(work, self.device)

    def decoding(self, requests: Sequence[Request], longest: int) -> tuple[float, float]:
        """Return the seconds to the first token, and those of each further one, of all rows."""
        batch = self._batch(requests)
        first = seconds(lambda: self._answer(batch, 1), self.device)
        whole = seconds(lambda: self._answer(batch, longest), self.device)
        return first, (whole - first) / (longest - 1)

    def without_cache(self, requests: Sequence[Request], count: int) -> float:
        """Return the seconds of each token if everything is computed again for it.

        The picture's features are kept: only the language model runs again.
        """
        batch = self._batch(requests)
        network = self.describer.network

        @torch.inference_mode()
        def work() -> None:
            embeds, mask = network.embed(batch), batch.attention_mask
            nonlocal began
            began = now(self.device)
            for _ in range(count):
                chosen = network.language(embeds, mask, last=1)[:, -1].argmax(-1)
                added = network.language.model.embed_tokens(chosen)[:, None]
                embeds = torch.cat([embeds, added], dim=1)
                mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)

        began = 0.0
        work()
        return (now(self.device) - began) / count

    def _batch(self, requests: Sequence[Request]) -> Any:
        processor = self.describer.processor
        asked = [processor.ask(one.load_pictures(), one.prompt) for one in requests]
        return processor.batch(asked).to(self.device)

    def _answer(self, batch: Any, longest: int) -> None:
        self.describer.network.answer(batch, Decoding(longest, eos=-1, pad=0))


def measure(bench: Bench, samples: Sequence[EditSample], at_once: int) -> dict[str, Any]:
    """Measure everything, with `at_once` pictures and as many texts of one."""
    scenes = [request(sample) for sample in samples[:at_once]]
    texts = [request(samples[0], what, of_source=True) for what in KINDS]
    bench.answers(scenes[:1], 1)  # the first products are slower
    first, each = bench.decoding(scenes[:1], bench.longest)
    _, each_together = bench.decoding(scenes, bench.longest)
    alone, together = bench.answers(scenes, 1), bench.answers(scenes, at_once)
    unshared, shared = bench.answers(texts, 1), bench.answers(texts, len(texts))
    again = bench.without_cache(scenes[:1], 4)
    bound = bytes_of_token(bench.describer) / bandwidth(bench.device)
    return {
        "at_once": at_once,
        "new_tokens": bench.longest,
        "seconds_to_first_token": round(first, 2),
        "tokens_per_second": round(1 / each, 2),
        "tokens_per_second_together": round(at_once / each_together, 2),
        "share_of_bandwidth_bound": round(bound / each, 3),
        "seconds_one_at_a_time": round(alone, 2),
        "seconds_together": round(together, 2),
        "seconds_of_four_texts_about_a_picture": round(unshared, 2),
        "seconds_of_them_with_the_picture_shared": round(shared, 2),
        "seconds_of_a_token_without_cache": round(again, 3),
        "seconds_of_a_token_with_cache": round(each, 3),
    }


def main() -> None:
    """Write the network, measure, print, append the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=["small", "tiny"], default="small")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--at-once", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=24, help="of an answer; at least 8")
    asked = parser.parse_args()
    if asked.tokens < 8:
        parser.error("a token's seconds, a difference of two runs, need 8 tokens or more")
    config = TINY_SIZES if asked.size == "tiny" else smaller(TINY_SIZES)
    dtype = torch.bfloat16 if asked.size == "tiny" else torch.float32
    settings = DescribeConfig(dtype="bf16" if asked.size == "tiny" else "fp32")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "model"
        write_vl2(folder, config, dtype)
        describer = DeepseekVl2(folder, settings, torch.device(asked.device))
    weights = sum(weight.nbytes for weight in describer.network.parameters())
    samples = list(load_samples(f"scenes:{max(asked.at_once, 4)}@256#5"))
    result = measured_here(
        torch=torch.__version__,
        device=asked.device,
        size=asked.size,
        dtype=str(dtype),
        weights_gib=round(weights / 2**30, 2),
    )
    result |= measure(Bench(describer, asked.tokens), samples, asked.at_once)
    print(json.dumps(result, indent=2))
    print(f"appended to {append_result('decoding', result)}")


if __name__ == "__main__":
    main()
