"""The UNet's batches: each step's random draws, applied to the samples that `encodings` prepares.

Sample k of step n (its picture, noise, t, dropout, flip) is a function of the seed, n and k alone,
so no random state needs saving, and a resumed run repeats nothing and skips nothing.

Choice 6, conditioning dropout: 5 % text only, 5 % image only, 5 % both, by one uniform draw per
sample. A judge's loss leaves out samples that were dropped or lack that judge's text; the noise
loss never does. Choice 11, flip: off by default; per sample, and never where one of its texts names
a side. Choice 12, latents: the target's are sampled and scaled.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from ric.device import draw_generator
from ric.inputs.encodings import OnDemand, Prepared, View

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ric.config import TrainUnetConfig
    from ric.method.region_box import Box

# Shape letters: B batch, C latent channels, h and w latent height and width, L text tokens, E text
# width, P and Q the two judges' widths.


@dataclass(frozen=True)
class TrainingSet:
    """All samples, and the values they share."""

    samples: Sequence[Prepared] | OnDemand
    null_prompt: Tensor  # the embedding of "" (L, E)
    scaling_factor: float  # the VAE's
    num_timesteps: int  # t is drawn below it

    def take(self, indices: Sequence[int]) -> list[Prepared]:
        """Return samples by index; those of `OnDemand` are encoded now."""
        if isinstance(self.samples, OnDemand):
            return self.samples.take(indices)
        return [self.samples[index] for index in indices]


@dataclass(frozen=True)
class Batch:
    """A micro-batch for the UNet; see `draw_batch`."""

    source: Tensor  # (B, C, h, w), zero where the picture was dropped
    clean: Tensor  # x_0 (B, C, h, w), sampled and scaled
    noise: Tensor  # epsilon (B, C, h, w)
    timesteps: Tensor  # (B,) on the CPU
    instructions: Tensor  # (B, L, E), the null prompt where the text was dropped
    boxes: list[Box | None]
    # what the judges' embeddings are to come near: those of the texts, or of the target (choice 20)
    region_aims: Tensor | None  # (B, P), zero where there is none; None where all lack one
    scene_aims: Tensor | None  # (B, Q), likewise
    kept_region: Tensor  # (B,) bool on the CPU
    kept_scene: Tensor  # (B,) bool on the CPU
    region_ceilings: Tensor | None  # (B,), 1 where there is none; None where all lack one
    scene_ceilings: Tensor | None  # (B,), likewise
    shifts: Tensor  # (B, 2) in [-1, 1], on the CPU
    pixel_seeds: list[int]


@dataclass(frozen=True)
class Draw:
    """Everything random about one sample of one step; noises are on the CPU."""

    timestep: int
    drop_text: bool
    drop_source: bool
    flip: bool
    noise: Tensor  # epsilon (C, h, w)
    spread: Tensor  # the noise that samples the target's posterior (C, h, w)
    shift: Tensor  # (2,) in [-1, 1], for `method.alignment.augmented`
    pixel_seed: int


def draw_sample(
    seed: int, step: int, k: int, *, shape: Sequence[int], num_timesteps: int, dropout: float = 0.0
) -> Draw:
    """Draw everything random of sample `k` of step `step`, as a function of the arguments alone.

    Args:
        seed: The run's.
        step: Counted from 0.
        k: The sample's place in the whole batch.
        shape: (C, h, w) of the latents.
        num_timesteps: t is drawn from 0 up to this, exclusive.
        dropout: p, at most 1/3: the probability of each of the three ways to drop (choice 6).
    """
    generator = draw_generator(seed, "sample", step, k)
    timestep = int(torch.randint(num_timesteps, (), generator=generator))
    u, side = torch.rand(2, generator=generator).tolist()
    noise, spread = torch.randn(2, *shape, generator=generator)
    shift = 2 * torch.rand(2, generator=generator) - 1
    return Draw(
        timestep=timestep,
        # choice 6: [0, p) text only, [p, 2p) both, [2p, 3p) picture only
        drop_text=u < 2 * dropout,
        drop_source=dropout <= u < 3 * dropout,
        flip=side < 0.5,
        noise=noise,
        spread=spread,
        shift=shift,
        pixel_seed=int(torch.randint(1 << 31, (), generator=generator)),
    )


def draw_batch(data: TrainingSet, config: TrainUnetConfig, step: int, which: range) -> Batch:
    """Draw samples `which` of step `step`, as a function of (seed, step, k) alone.

    Args:
        data: All samples; each epoch goes through them once, in its own order.
        config: Seed, batch size, dropout.
        step: Counted from 0.
        which: The k's, a part of range(batch_size).
    """
    places = [step * config.batch_size + k for k in which]
    items = data.take([index_at(place, len(data.samples), config.seed) for place in places])
    shape = items[0].views[0].source.shape
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
    # the last view is the flipped one, if there is one
    views = [item.views[-1 if draw.flip else 0] for item, draw in zip(items, draws, strict=True)]
    device = data.null_prompt.device
    # a mask would have to be copied to the device, and the host would wait for it
    sources = [
        torch.zeros_like(view.source) if draw.drop_source else view.source
        for view, draw in zip(views, draws, strict=True)
    ]
    mean = _sent(torch.stack([view.target_mean for view in views]), device)
    std = _sent(torch.stack([view.target_std for view in views]), device)
    spread = _sent(torch.stack([draw.spread for draw in draws]), device)
    kept = torch.tensor([not (draw.drop_text or draw.drop_source) for draw in draws])
    judged = [
        view.box is not None and item.region_text is not None
        for item, view in zip(items, views, strict=True)
    ]
    return Batch(
        source=_sent(torch.stack(sources), device),
        clean=(mean + std * spread) * data.scaling_factor,  # choice 12
        noise=_sent(torch.stack([draw.noise for draw in draws]), device),
        timesteps=torch.tensor([draw.timestep for draw in draws]),
        instructions=torch.stack(
            [
                data.null_prompt if draw.drop_text else _sent(item.instruction, device)
                for item, draw in zip(items, draws, strict=True)
            ]
        ),
        boxes=[view.box for view in views],
        region_aims=_stacked(_aims(items, views, "region"), device),
        scene_aims=_stacked(_aims(items, views, "scene"), device),
        kept_region=kept & torch.tensor(judged),  # choice 6
        kept_scene=kept & torch.tensor([item.scene_text is not None for item in items]),
        region_ceilings=_stacked([view.region_ceiling for view in views], device, missing=1),
        scene_ceilings=_stacked([view.scene_ceiling for view in views], device, missing=1),
        shifts=torch.stack([draw.shift for draw in draws]),
        pixel_seeds=[draw.pixel_seed for draw in draws],
    )


def index_at(place: int, count: int, seed: int) -> int:
    """Return which of `count` samples stands at a place in the endless sequence of epochs.

    Each epoch goes through all of them, in its own order.
    """
    epoch, place_in_epoch = divmod(place, count)
    return int(_order_of_epoch(count, seed, epoch)[place_in_epoch])


@lru_cache(maxsize=2)  # a batch may straddle two epochs
def _order_of_epoch(count: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(count, generator=draw_generator(seed, "epoch", epoch))


def _aims(items: Sequence[Prepared], views: Sequence[View], judge: str) -> list[Tensor | None]:
    """Return what a judge's embeddings are to come near: its targets', or else its texts'."""
    targets = [getattr(view, f"{judge}_target") for view in views]
    texts = [getattr(item, f"{judge}_text") for item in items]
    return [text if aim is None else aim for aim, text in zip(targets, texts, strict=True)]


def _stacked(
    rows: Sequence[Tensor | None], device: torch.device, missing: float = 0
) -> Tensor | None:
    """Stack tensors, filled with `missing` for those that are None; None if all are."""
    there = next((row for row in rows if row is not None), None)
    if there is None:
        return None
    filled = [torch.full_like(there, missing) if row is None else row for row in rows]
    return _sent(torch.stack(filled), device)


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to the device without waiting for the device's pending work."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()  # a GPU copies pinned memory asynchronously
    return tensor.to(device, non_blocking=True)
