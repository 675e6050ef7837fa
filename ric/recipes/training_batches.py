"""What the UNet is shown: every sample encoded once, and the draws of every step.

What sample k of step n sees (which picture, noise, t, dropout, flip) is a function of the seed, n
and k alone, so nothing random needs saving and a resumed run repeats nothing and skips nothing.

Choice 6, conditioning dropout: 5 % text only, 5 % image only, 5 % both, one uniform draw a sample.
A judge's loss leaves out what was dropped or lacks that judge's text; the noise loss never does.
Choice 11, flip: off by default; per sample, and never where an instruction says left or right.
Choice 12, latents: the target's are sampled and scaled, the source's are the mode and not scaled.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from ric.data.batches import to_unit
from ric.device import autocast, draw_generator, pick_dtype
from ric.editors.pipeline import encode_prompts, encode_source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diffusers import StableDiffusionInstructPix2PixPipeline
    from torch import Tensor

    from ric.config import TrainUnetConfig
    from ric.method.region_box import Box
    from ric.method.region_encoder import RegionEncoder
    from ric.method.scene_encoder import SceneEncoder
    from ric.progress import Progress
    from ric.recipes.examples import Example

# Shape letters: B batch, C latent channels, h and w latent height and width, L text tokens, E text
# width, P and Q the two judges' widths.

ENCODED_AT_ONCE = 8  # samples
SAYS_A_SIDE = re.compile(r"\b(left|right)", re.IGNORECASE)  # also leftmost and right-hand


@dataclass(frozen=True)
class View:
    """One way to look at a sample, as it is or flipped: latents and the region's box."""

    source: Tensor  # (C, h, w), posterior mode, unscaled
    target_mean: Tensor  # (C, h, w)
    target_std: Tensor  # (C, h, w)
    box: Box | None


@dataclass(frozen=True)
class Prepared:
    """A sample with everything that does not change while the UNet trains."""

    views: tuple[View, ...]  # as it is; flipped too where --flip may
    instruction: Tensor  # (L, E)
    region_text: Tensor | None  # e_tr (P,); None without a text, or with no region judge on
    scene_text: Tensor | None  # e_tf (Q,); None without a text, or with no scene judge on


@dataclass(frozen=True)
class TrainingSet:
    """All prepared samples, and what they share."""

    samples: Sequence[Prepared]
    null_prompt: Tensor  # the embedding of "" (L, E)
    scaling_factor: float  # the VAE's
    num_timesteps: int  # t is drawn below it


@dataclass(frozen=True)
class Batch:
    """What the UNet sees in one (micro-)step; see `draw_batch`."""

    source: Tensor  # (B, C, h, w), zero where the picture was dropped
    clean: Tensor  # x_0 (B, C, h, w), sampled and scaled
    noise: Tensor  # epsilon (B, C, h, w)
    timesteps: Tensor  # (B,) on the CPU
    instructions: Tensor  # (B, L, E), the null prompt where the text was dropped
    boxes: list[Box | None]
    region_texts: Tensor | None  # (B, P), zero where there is no text; None where all lack one
    scene_texts: Tensor | None  # (B, Q), likewise
    kept_region: Tensor  # (B,) bool on the CPU
    kept_scene: Tensor  # (B,) bool on the CPU


# --- once ----------------------------------------------------------------------------------------


@torch.no_grad()
def prepare(
    examples: Sequence[Example],
    pipeline: StableDiffusionInstructPix2PixPipeline,
    region_judge: RegionEncoder | None,
    scene_judge: SceneEncoder | None,
    config: TrainUnetConfig,
    progress: Progress,
) -> TrainingSet:
    """Encode each sample once: latents of both pictures, embeddings of all its texts."""
    samples = []
    with (
        autocast(pipeline.device, pick_dtype(config.dtype, pipeline.device)),
        progress.stage("encoding", total=len(examples), unit="samples") as stage,
    ):
        for start in range(0, len(examples), ENCODED_AT_ONCE):
            some = examples[start : start + ENCODED_AT_ONCE]
            instructions = encode_prompts(pipeline, [item.instruction for item in some]).float()
            views = [[view] for view in _views(some, pipeline, flipped=False)]
            turned = [
                place
                for place, item in enumerate(some)
                if config.flip and not SAYS_A_SIDE.search(item.instruction)
            ]
            flipped = _views([some[place] for place in turned], pipeline, flipped=True)
            for place, view in zip(turned, flipped, strict=True):
                views[place].append(view)
            for item, seen, instruction in zip(some, views, instructions, strict=True):
                samples.append(
                    Prepared(
                        views=tuple(seen),
                        instruction=instruction,
                        region_text=_embed(region_judge, item.region_text),
                        scene_text=_embed(scene_judge, item.scene_text),
                    )
                )
            stage.advance(len(some))
        null_prompt = encode_prompts(pipeline, [""])[0].float()
    return TrainingSet(
        samples=samples,
        null_prompt=null_prompt,
        scaling_factor=pipeline.vae.config.scaling_factor,
        num_timesteps=pipeline.scheduler.config.num_train_timesteps,
    )


def _views(
    items: Sequence[Example], pipeline: StableDiffusionInstructPix2PixPipeline, *, flipped: bool
) -> list[View]:
    if not items:
        return []
    # only the fits do without sources
    sources = to_unit(torch.stack([item.source for item in items if item.source is not None]))
    targets = to_unit(torch.stack([item.target for item in items]))
    boxes = [item.box for item in items]
    if flipped:
        width = sources.shape[-1]
        sources, targets = sources.flip(-1), targets.flip(-1)
        boxes = [box and (width - box[2], box[1], width - box[0], box[3]) for box in boxes]
    device = pipeline.device
    modes = encode_source(pipeline, sources.to(device)).float()
    posterior = pipeline.vae.encode(targets.to(device)).latent_dist
    rows = zip(modes, posterior.mean.float(), posterior.std.float(), boxes, strict=True)
    return [View(*row) for row in rows]


def _embed(judge: RegionEncoder | SceneEncoder | None, text: str | None) -> Tensor | None:
    if judge is None or text is None:
        return None
    return judge.encode_text([text])[0].float()


# --- every step ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Draw:
    """Everything random about one sample of one step; noises are on the CPU."""

    timestep: int
    drop_text: bool
    drop_source: bool
    flip: bool
    noise: Tensor  # epsilon (C, h, w)
    spread: Tensor  # of the target's posterior (C, h, w)


def draw_sample(
    seed: int, step: int, k: int, *, shape: Sequence[int], num_timesteps: int, dropout: float
) -> Draw:
    """Draw for sample `k` of step `step`: a function of the arguments and nothing else.

    Args:
        seed: The run's.
        step: Counted from 0.
        k: The sample's place in the whole batch.
        shape: (C, h, w) of the latents.
        num_timesteps: t is drawn from 0 to this, exclusive.
        dropout: p, at most 1/3: the chance of each of the three ways to drop (choice 6).
    """
    generator = draw_generator(seed, "sample", step, k)
    timestep = int(torch.randint(num_timesteps, (), generator=generator))
    u, side = torch.rand(2, generator=generator).tolist()
    noise, spread = torch.randn(2, *shape, generator=generator)
    return Draw(
        timestep=timestep,
        # choice 6: [0, p) text only, [p, 2p) both, [2p, 3p) picture only
        drop_text=u < 2 * dropout,
        drop_source=dropout <= u < 3 * dropout,
        flip=side < 0.5,
        noise=noise,
        spread=spread,
    )


def draw_batch(data: TrainingSet, config: TrainUnetConfig, step: int, which: range) -> Batch:
    """Draw samples `which` of step `step`: a function of (seed, step, k) and nothing else.

    Args:
        data: All samples; each epoch goes through them once, in an order of its own.
        config: Seed, batch size, dropout.
        step: Counted from 0.
        which: The k's, a part of range(batch_size).
    """
    places = [step * config.batch_size + k for k in which]
    items = [data.samples[index_at(place, len(data.samples), config.seed)] for place in places]
    shape = data.samples[0].views[0].source.shape
    draws = [
        draw_sample(
            config.seed,
            step,
            k,
            shape=shape,
            num_timesteps=data.num_timesteps,
            dropout=config.conditioning_dropout,
        )
        for k in which
    ]
    # the last view is the flipped one, where there is one
    views = [item.views[-1 if draw.flip else 0] for item, draw in zip(items, draws, strict=True)]
    source = torch.stack([view.source for view in views])
    source[torch.tensor([draw.drop_source for draw in draws])] = 0
    mean = torch.stack([view.target_mean for view in views])
    std = torch.stack([view.target_std for view in views])
    spread = torch.stack([draw.spread for draw in draws]).to(mean.device)
    kept = torch.tensor([not (draw.drop_text or draw.drop_source) for draw in draws])
    judged = [
        view.box is not None and item.region_text is not None
        for item, view in zip(items, views, strict=True)
    ]
    return Batch(
        source=source,
        clean=(mean + std * spread) * data.scaling_factor,  # choice 12
        noise=torch.stack([draw.noise for draw in draws]).to(mean.device),
        timesteps=torch.tensor([draw.timestep for draw in draws]),
        instructions=torch.stack(
            [
                data.null_prompt if draw.drop_text else item.instruction
                for item, draw in zip(items, draws, strict=True)
            ]
        ),
        boxes=[view.box for view in views],
        region_texts=_stacked([item.region_text for item in items]),
        scene_texts=_stacked([item.scene_text for item in items]),
        kept_region=kept & torch.tensor(judged),  # choice 6
        kept_scene=kept & torch.tensor([item.scene_text is not None for item in items]),
    )


def index_at(place: int, count: int, seed: int) -> int:
    """Tell which of `count` samples stands at a place of the endless row of epochs.

    Each epoch goes through all of them, in an order of its own.
    """
    epoch, place_in_epoch = divmod(place, count)
    return int(_order_of_epoch(count, seed, epoch)[place_in_epoch])


@lru_cache(maxsize=2)  # a batch may straddle two epochs
def _order_of_epoch(count: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(count, generator=draw_generator(seed, "epoch", epoch))


def _stacked(rows: Sequence[Tensor | None]) -> Tensor | None:
    """Stack embeddings, zero for those that are None; None where every one is."""
    there = next((row for row in rows if row is not None), None)
    if there is None:
        return None
    return torch.stack([torch.zeros_like(there) if row is None else row for row in rows])
