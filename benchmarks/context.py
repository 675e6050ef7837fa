"""The value of context to the region judge: fused against crop only, three seeds, drawn scenes.

    python benchmarks/context.py [--runs DIR] [--fitted N] [--joint-epochs N]

Six fits of `ric fit-clip` from the embedded family's CLIP differ only in the seed (0, 1, 2) and in
the fusion's input (`--sees both`, `--sees crop`). Recall at 1 among 64, in both directions, is then
measured on the same test scenes, some of them with looks that no fit has seen. The interval is that
of the paired difference: for each scene the hits of the fused judges minus those of the others,
over both directions and all seeds, resampled by scene. It is also given for the texts that a crop
cannot answer: those that name a relation, a rank ("the left one of two red cubes") or a count.

Each fit is a run under --runs, and is resumed or reused there. The result is appended to
benchmarks/results/context-<machine>.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _results import append_result, measured_here

from ric.config import FitClipConfig
from ric.data.drawn_scenes import edit_of_sample
from ric.inputs.examples import Example, Needs, load_examples
from ric.method.losses import same_text_mask
from ric.method.region_encoder import RegionEncoder
from ric.metrics.intervals import mean_interval
from ric.metrics.retrieval import rank_of_right
from ric.recipes.fit_clip import embed
from ric.runs.open_run import open_run
from ric.weights.tiny_family import tiny_family
from ric.work import open_work

SEEDS = (0, 1, 2)
SEES = ("both", "crop")
AMONG = 64
FITTED = "scenes:20000@64#21"
SEARCHED = "scenes:9000@64#3"


@dataclass(frozen=True)
class Asked:
    """The settings that the fits share."""

    runs: Path
    fitted: int
    fusion_epochs: int
    joint_epochs: int


def fit(sees: str, seed: int, asked: Asked) -> RegionEncoder:
    """Fit a judge in its own process, or resume its run; load it."""
    run = asked.runs / f"{sees}-{seed}"
    words = ["fit-clip", FITTED, "--preset", "tiny", "--clip", str(tiny_family() / "clip"),
             "--sees", sees, "--no-controls", "--seed", str(seed), "--limit", str(asked.fitted),
             "--batch-size", "64", "--fusion-epochs", str(asked.fusion_epochs),
             "--joint-epochs", str(asked.joint_epochs), "--joint-lr", "5e-4",
             "--checkpoint-every", "100", "--run", str(run)]  # fmt: skip
    # a finished run returns at once; one with other settings is refused
    subprocess.run([sys.executable, "-m", "ric_cli", *words], check=True)
    return RegionEncoder.from_pretrained(run / "region_encoder")


def needs_context(example: Example) -> bool:
    """Tell whether a region's text says something that its crop alone does not show."""
    edit = edit_of_sample(example.id)
    seen = edit.seen and edit.seen[0]
    by_others = bool(seen and (seen.relation or seen.rank))
    return bool(edit.relation) or by_others or edit.type == "Counting"


@torch.no_grad()
def hits(judge: RegionEncoder, examples: list[Example]) -> np.ndarray:
    """Find for each example whether its text and its picture rank first: (N, 2) of 0 and 1.

    Ranks are among 64 at a time; an identical text counts as found, and a tie counts against it.
    """
    found = []
    for start in range(0, len(examples), AMONG):
        some = examples[start : start + AMONG]
        visual, text = embed(judge, some)
        scores = torch.nn.functional.normalize(visual) @ torch.nn.functional.normalize(text).T
        same = same_text_mask([item.region_text or "" for item in some])
        ranks = [rank_of_right(one, same) for one in (scores, scores.T)]
        found.append(torch.stack(ranks, dim=1) == 1)
    return torch.cat(found).double().numpy()


def compare(fused: np.ndarray, crop: np.ndarray, those: np.ndarray) -> dict[str, Any]:
    """Return both recalls in percent and the paired interval, from hits (seeds, N, 2)."""
    fused, crop = 100 * fused[:, those], 100 * crop[:, those]
    low, high = mean_interval((fused - crop).mean(axis=(0, 2)).tolist())
    return {
        "scenes": int(those.sum()),
        "fused": round(fused.mean(), 1),
        "crop_only": round(crop.mean(), 1),
        "difference": round((fused - crop).mean(), 1),
        "paired_95": [round(low, 1), round(high, 1)],
        "difference_by_seed": [round(one, 1) for one in (fused - crop).mean(axis=(1, 2))],
    }


def main() -> None:
    """Fit, compare, print, append the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/context"))
    parser.add_argument("--fitted", type=int, default=6000)
    parser.add_argument("--fusion-epochs", type=int, default=2)
    parser.add_argument("--joint-epochs", type=int, default=4)
    asked = Asked(**vars(parser.parse_args()))
    config = FitClipConfig(data=SEARCHED, preset="tiny", dtype="fp32", image_size=64)
    with open_run("fit-clip", {}, runs_dir=asked.runs / "searched") as run:
        examples = load_examples(
            config, open_work(config, run), "test", Needs(64, region_text="region_text")
        )
    examples = examples[: len(examples) // AMONG * AMONG]
    found = {
        sees: np.stack([hits(fit(sees, seed, asked), examples) for seed in SEEDS]) for sees in SEES
    }
    context = np.array([needs_context(example) for example in examples])
    result: dict[str, Any] = {
        **measured_here(torch=torch.__version__),
        "fitted_on": FITTED,
        **{name: value for name, value in vars(asked).items() if name != "runs"},
        "searched": f"{SEARCHED}, test, {len(examples)} scenes among {AMONG}",
        "texts that need context": compare(found["both"], found["crop"], context),
        "other texts": compare(found["both"], found["crop"], ~context),
        "all texts": compare(found["both"], found["crop"], np.ones_like(context)),
    }
    print(json.dumps(result, indent=2))
    print(f"appended to {append_result('context', result)}", file=sys.stderr)


if __name__ == "__main__":
    main()
