"""How hard each term of Eq. 10 pulls at the UNet, and whether towards the true target, by timestep.

    python benchmarks/gradients.py [--base BASE] [--region-clip JUDGE] [--scene-blip JUDGE]
                                   [--data DATA] [--samples N] [--align-to text|target]
                                   [--align-agree] [--no-gated-fusion]
    python benchmarks/gradients.py --full-size

For some samples of val, all at one t, with the mean over elements and all weights 1:

- `norm`: of the term's gradient over the UNet's weights, for the batch. The noise term printed as a
  sum has the norm of the mean times the number of elements of a sample's latents.
- `towards`: the cosine between the step down the term's gradient and the direction from x0_hat to
  the true target, in latents, averaged over the samples. 1 for the noise term by definition; 0 is
  what a random direction would have. `towards_in_mask`, `towards_in_context` and `towards_outside`
  compare the two at the latents of that part of the picture alone: what the term would be worth if
  its gradient were kept to that part.
- `in_mask`, `in_context`, `outside`: the mean size of the term's gradient at latents of the edited
  region, of what must change beside it (shadows, mirror images), and of the rest, where 1 is its
  mean over the picture. For data with context masks.

`--full-size` writes Stable Diffusion 1.5's UNet and VAE, CLIP ViT-B/16 and BLIP base with seeded
random weights and measures one sample at 256 px (about 14 GiB of memory): sizes and shapes are the
paper's, the directions mean nothing. The result is appended to
benchmarks/results/gradients-<machine>.json.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from _results import append_result, measured_here
from full_size_unet import BASES, write_models
from torch.nn.functional import adaptive_avg_pool2d, cosine_similarity

from ric.config import TrainUnetConfig
from ric.inputs.batches import draw_batch, index_at
from ric.inputs.training_set import encode_training_set
from ric.method.denoising import training_target
from ric.runs.open_run import open_run
from ric.settings import resolve_config
from ric.training.unet_networks import load_base, load_objective
from ric.training.unet_step import judge_batch
from ric.work import open_work

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from diffusers import UNet2DConditionModel
    from torch import Tensor

    from ric.data.edit_sample import EditSample
    from ric.inputs.batches import Batch
    from ric.method.objective import Losses, RegionInContextObjective

TIMESTEPS = (20, 150, 300, 500, 700, 800, 900, 980)
FEW_TIMESTEPS = (20, 500, 980)  # at full size, where each takes minutes
TERMS = ("noise", "region", "global")


def measure(
    settings: dict[str, Any], runs_dir: Path, timesteps: tuple[int, ...]
) -> list[dict[str, float]]:
    """Measure the terms at each timestep for the batch that these settings draw first."""
    config = resolve_config(TrainUnetConfig, settings)
    with open_run("train-unet", {}, runs_dir=runs_dir) as run:
        work = open_work(config, run)
        pipeline = load_base(config, work)
        objective = load_objective(config, work, pipeline)
        data = encode_training_set(config, work, pipeline, objective, None)
        samples = list(islice(work.samples.narrowed(config.split), config.batch_size))
    unet = pipeline.unet.requires_grad_(True)
    batch = draw_batch(data, config, 0, range(config.batch_size))
    order = [index_at(k, len(data.samples), config.seed) for k in range(config.batch_size)]
    areas = areas_of([samples[index] for index in order], batch.clean.shape[-1])
    rows = []
    for t in timesteps:
        at_t = replace(batch, timesteps=torch.full_like(batch.timesteps, t))
        losses = judge_batch(unet, objective, at_t, config.batch_size)
        found = norms(losses, unet) | directions(losses, objective, at_t, areas)
        found |= places(losses, areas)
        rows.append({"t": t} | {name: float(f"{value:.4g}") for name, value in found.items()})
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def terms_of(losses: Losses) -> dict[str, Tensor]:
    """Return the three terms by name."""
    return dict(zip(TERMS, (losses.noise, losses.region, losses.global_), strict=True))


def norms(losses: Losses, unet: UNet2DConditionModel) -> dict[str, float]:
    """Measure the norm of each term's gradient over the UNet's weights."""
    found = {}
    for name, term in terms_of(losses).items():
        unet.zero_grad()
        term.backward(retain_graph=True)
        pulls = [weight.grad.norm() for weight in unet.parameters() if weight.grad is not None]
        found[f"norm_{name}"] = torch.stack(pulls).norm().item()
    unet.zero_grad()
    return found


def directions(
    losses: Losses,
    objective: RegionInContextObjective,
    batch: Batch,
    areas: Mapping[str, Tensor],
) -> dict[str, float]:
    """Measure the cosine of each step with the direction to the target, averaged over samples.

    Over the whole picture, and over each of its parts.

    x0_hat is a scaled copy of the prediction plus what is fixed at this t (Eq. 5), so both
    directions may be compared at the prediction.
    """
    alpha_bar = objective.alphas_cumprod[batch.timesteps]
    asked = training_target(batch.clean, batch.noise, alpha_bar, objective.prediction_type)
    towards = (asked - losses.prediction).detach()
    shares = {"": torch.ones_like(towards[:, 0])} | {f"{part}_": areas[part] for part in areas}
    found = {}
    for name, term in terms_of(losses).items():
        (pull,) = torch.autograd.grad(term, losses.prediction, retain_graph=True)
        judged = pull.flatten(1).any(dim=1)
        for part, share in shares.items():
            there = judged & share.flatten(1).any(dim=1)
            step, aim = ((vector * share[:, None]).flatten(1)[there] for vector in (-pull, towards))
            found[f"towards_{part}{name}"] = cosine_similarity(step, aim).mean().item()
    return found


def areas_of(samples: Sequence[EditSample], side: int) -> dict[str, Tensor]:
    """Return how much of each latent lies in which part of the picture: (B, side, side) each.

    Empty where a sample has no context mask.
    """
    masks = [(sample.load_mask(), sample.load_context_mask()) for sample in samples]
    if any(mask is None or context is None for mask, context in masks):
        return {}
    mask, context = (
        adaptive_avg_pool2d(torch.stack([torch.as_tensor(both[k]) for both in masks]).float(), side)
        for k in (0, 1)
    )
    return {"in_mask": mask, "in_context": context, "outside": (1 - mask - context).clamp(min=0)}


def places(losses: Losses, areas: Mapping[str, Tensor]) -> dict[str, float]:
    """Measure each term's gradient in each part of the picture, relative to its mean."""
    found = {}
    for name, term in terms_of(losses).items():
        (pull,) = torch.autograd.grad(term, losses.prediction, retain_graph=True)
        size = pull.abs().mean(dim=1)
        size = size / size.mean(dim=(1, 2), keepdim=True).clamp(min=1e-20)
        for area, share in areas.items():
            found[f"{area}_{name}"] = ((size * share).sum() / share.sum()).item()
    return found


def full_size(folder: Path) -> dict[str, Any]:
    """Write models of the paper's size with random weights; return the settings that use them."""
    write_models(BASES[0], folder)
    return {
        "data": "scenes:40@256", "base": str(folder / "weights" / BASES[0]), "device": "cpu",
        "region_clip": str(folder / "clip"), "scene_blip": str(folder / "blip"), "batch_size": 1,
        "limit": 1, "dtype": "fp32",
    }  # fmt: skip


def main() -> None:
    """Measure, print, append the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="scenes:4000@64#3")
    parser.add_argument("--base", default="tiny")
    parser.add_argument("--region-clip", default="tiny")
    parser.add_argument("--scene-blip", default="tiny")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--align-to", choices=["text", "target"], default="text")
    parser.add_argument("--align-agree", action="store_true")
    parser.add_argument("--no-gated-fusion", action="store_true")
    parser.add_argument("--full-size", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if args.full_size:
            settings = full_size(Path(name))
        else:
            settings = {
                "preset": "tiny", "data": args.data, "base": args.base, "limit": args.samples,
                "region_clip": args.region_clip, "scene_blip": args.scene_blip,
                "batch_size": args.samples, "align_to": args.align_to, "dtype": "fp32",
                "align_agree": args.align_agree, "gated_fusion": not args.no_gated_fusion,
            }  # fmt: skip
        settings |= {"split": "val", "conditioning_dropout": 0.0}
        steps = FEW_TIMESTEPS if args.full_size else TIMESTEPS
        rows = measure(settings, Path(name), steps)
    # of a path on this machine its last part
    shown = {
        key: Path(value).name if isinstance(value, str) else value
        for key, value in settings.items()
    }
    result = measured_here(full_size=args.full_size, settings=shown, by_timestep=rows)
    print(f"appended to {append_result('gradients', result)}", file=sys.stderr)


if __name__ == "__main__":
    main()
