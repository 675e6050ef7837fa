"""The time of `ric eval` with all scores of edits, beside that of its networks alone.

    python benchmarks/eval_further.py [--pairs N] [--size PX] [--width W] [--tiny] [--device DEVICE]

The six of the paper, KID, what lies outside the mask, and every score that is there by name alone
but needs neither a judge nor registration: DINOv2, FD-DINOv2, CMMD, CLIP-FID, CLIP direction,
PickScore, DISTS, PSNR, SSIM, and both inside the mask; for one editor, the unedited source and the
ground truth. Networks are random. Inception and the convolutional ones of LPIPS and DISTS have the
published sizes, the transformers their published patches and pictures, but 12 layers of W units:
what is measured is the work around the networks, and full sizes would hide it. FID is by
torch-fidelity's rule, whose pass IS shares. With --tiny they are those of --preset tiny, which take
so little time that the work around them is most of the whole.

A network's own time is that of its outermost calls, in the time of the thread that makes them;
lpips's and DISTS's formulas count as theirs. On one core of a CPU (pinned, OMP_NUM_THREADS=1) the
whole is processor time of all threads, so that other programs count little. The result is appended
to benchmarks/results/eval-further-<machine>.json.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torchvision
from _metric_networks import CLIP, DINO, write_drawn, write_metric_networks
from _models import write_clip
from _results import append_result, measured_here
from eval import is_alone, outermost_calls, rounded, score, write_pairs
from torch import nn
from transformers import CLIPConfig, CLIPModel, Dinov2Config, Dinov2Model, ViTConfig, ViTModel
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from ric.config import EvalConfig
from ric.device import pick_device
from ric.metric_table import INSIDE, OWN_NETWORK, metrics_of
from ric.metrics.clip_features import ClipFeatures
from ric.metrics.clip_fid import ClipFidFeatures
from ric.metrics.clip_similarity import ClipSimilarity
from ric.metrics.dino_similarity import DinoSimilarity
from ric.metrics.dinov2 import Dinov2Features, Dinov2Similarity
from ric.metrics.dists import DistsDistance
from ric.metrics.inception import InceptionFeatures
from ric.metrics.lpips_distance import LpipsDistance
from ric.metrics.scene_net import SceneNet
from ric.scoring.rules import OF_ALL_DATA
from ric.settings import resolve_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FURTHER = (*OWN_NETWORK, "clip_direction", "psnr", "ssim", *INSIDE)
NETWORKS = (ClipSimilarity, DinoSimilarity, InceptionFeatures, LpipsDistance, Dinov2Similarity,
            Dinov2Features, ClipFeatures, ClipFidFeatures, DistsDistance, SceneNet)  # fmt: skip
METHODS = ("embed", "text_embeddings", "features_of", "distances")


def write_further_networks(folder: Path, width: int) -> None:
    """Write VGG16, and all transformers at a width, as `--weights` finds them."""
    vgg = torchvision.models.vgg
    layers = nn.ModuleDict({"features": vgg.make_layers(vgg.cfgs["D"])})
    write_drawn(layers, folder / "vgg16-397923af.pth")
    torch.manual_seed(0)
    heads = {"num_attention_heads": width // 64, "num_hidden_layers": 12}
    for name in ("base", "large"):
        config = Dinov2Config(hidden_size=width, image_size=518, patch_size=14, **heads)
        Dinov2Model(config).save_pretrained(folder / f"facebook--dinov2-{name}")
    ViTModel(ViTConfig(hidden_size=width, intermediate_size=4 * width, **heads)).save_pretrained(
        folder / DINO
    )
    for name, patch, pixels in ((CLIP, 32, 224), ("openai--clip-vit-large-patch14-336", 14, 336),
                                ("yuvalkirstain--PickScore_v1", 14, 224)):  # fmt: skip
        write_clip(folder / name, patch_size=patch)
        config = CLIPConfig.from_pretrained(folder / name)
        config.vision_config.image_size = pixels
        for part in (config.vision_config, config.text_config):
            part.hidden_size, part.num_attention_heads = width, width // 64
            part.intermediate_size = 4 * width
        CLIPModel(config).save_pretrained(folder / name)


@contextmanager
def time_by_network() -> Iterator[dict[str, float]]:
    """Sum the seconds of each class of networks, with the stacking and scaling of its pictures."""
    seconds: dict[str, float] = defaultdict(float)

    def watched(plain: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Any, *args: Any, **named: Any) -> Any:
            began = time.thread_time()
            try:
                return plain(self, *args, **named)
            finally:
                seconds[type(self).__name__] += time.thread_time() - began

        return call

    places = [(owner, name) for owner in NETWORKS for name in METHODS if name in vars(owner)]
    plain = [getattr(owner, name) for owner, name in places]
    for owner, name in places:
        setattr(owner, name, watched(getattr(owner, name)))
    try:
        yield seconds
    finally:
        for (owner, name), function in zip(places, plain, strict=True):
            setattr(owner, name, function)


def measure(asked: argparse.Namespace, folder: Path, device: torch.device) -> dict[str, Any]:
    """Score the pairs once, and report the whole and the networks."""
    data = write_pairs(folder / "data", asked.pairs, asked.size)
    settings = {
        "data": str(data), "edits": (f"Mine={data / 'edited'}",), "split": "all",
        "device": asked.device, "metrics": ",".join((*OF_ALL_DATA, *FURTHER)),
    }  # fmt: skip
    if asked.tiny:
        config = resolve_config(EvalConfig, {**settings, "preset": "tiny"})
    else:
        weights = write_metric_networks(folder / "weights")
        write_further_networks(weights, asked.width)
        config = EvalConfig(**settings, weights=str(weights), fid="torch-fidelity")
    with time_by_network() as by_network, outermost_calls() as calls:
        whole = score(config, folder, device)
    each = 1e3 / asked.pairs
    return {
        "pairs": asked.pairs,
        "pixels": asked.size,
        "networks": "--preset tiny" if asked.tiny else f"transformers of {asked.width} units",
        "scores": [name for name in metrics_of(config) if name in FURTHER],
        "ms_per_pair": whole["all"] * each,
        "ms_per_pair_in_networks": calls.seconds * each,
        "over_the_networks": whole["all"] / calls.seconds - 1,
        "ms_per_pair_by_network": {name: took * each for name, took in by_network.items()},
        "ms_per_pair_decoding": whole["decoding"] * each,
        "ms_per_pair_after_the_last_batch": whole["after the last batch"] * each,
        "seconds_passed": whole["passed"],
    }


def main() -> None:
    """Measure, print, append the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=128)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--device", default="auto")
    asked = parser.parse_args()
    device = pick_device(asked.device)
    disable_progress_bar()
    set_verbosity_error()
    result: dict[str, Any] = {
        **measured_here(torch=torch.__version__),
        "threads": torch.get_num_threads(),
        "clock": "processor time" if is_alone(device) else "wall time",
    }
    with tempfile.TemporaryDirectory() as name:
        os.environ["RIC_CACHE_DIR"] = f"{name}/cache"
        result |= measure(asked, Path(name), device)
    result["load_average_at_the_end"] = round(os.getloadavg()[0], 2)
    result = rounded(result)
    print(json.dumps(result, indent=2))
    append_result("eval-further", result)


if __name__ == "__main__":
    main()
