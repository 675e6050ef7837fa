"""One step of `ric train-unet`: forward and backward passes over the micro-batches of one batch.

Each process computes its own part of the batch, and DDP averages the gradients.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ric.inputs.batches import Batch, TrainingSet, draw_batch
from ric.method.denoising import add_noise, predict_noise
from ric.method.noised_batch import NoisedBatch
from ric.training.attention import trained_attention

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from accelerate import Accelerator
    from torch import Tensor

    from ric.config import TrainUnetConfig
    from ric.distributed import Ranks
    from ric.method.balance import Balance
    from ric.method.objective import Losses, RegionInContextObjective


@dataclass(frozen=True)
class UnetStep:
    """Runs forward and backward over one batch, accumulating gradients over micro-batches.

    Each process computes its own part of the batch; all end up with the whole batch's gradients and
    values.

    Attributes:
        config: Batch size, dropout, micro-batches.
        accelerator: Runs the backward pass, and averages gradients over the processes.
        unet: The trained UNet, as the accelerator prepared it.
        objective: Eq. 10.
        data: What batches are drawn from.
        ranks: The processes that train together.
        balance: Scales the alignments; None: their weights alone do.
    """

    config: TrainUnetConfig
    accelerator: Accelerator
    unet: torch.nn.Module
    objective: RegionInContextObjective
    data: TrainingSet
    ranks: Ranks
    balance: Balance | None = None

    def __call__(self, step: int, measured: bool) -> dict[str, Tensor]:
        """Accumulate the gradients of a step; return its loss and its parts.

        Where `measured`, also figures that cost more: `grad_norm_noise`, `grad_norm_region` and
        `grad_norm_global` (`Losses.gradient_norms`), and the mean cosines `cos_region` and
        `cos_scene` over the aligned samples, NaN where there are none; with a balance also the
        factors it gave the alignments, `balance_region` and `balance_global`.
        """
        config, ranks, balance = self.config, self.ranks, self.balance
        factors = balance.factors() if balance else {}
        needs_norms = measured or (balance is not None and balance.measures(step))
        losses_of_each, norms, region, scene = [], [], [], []
        mine = ranks.share(config.batch_size)
        todo = micro_batches(range(mine.start, mine.stop), config.accumulate)
        for which in todo:
            batch = draw_batch(self.data, config, step, which)
            # gradients are reduced once, with the last micro-batch; processes may differ in number
            last = which is todo[-1]
            joins = nullcontext() if last else self.accelerator.no_sync(self.unet)
            with joins, trained_attention(self.accelerator.device):
                with self.accelerator.autocast():
                    losses = judge_batch(
                        self.unet, self.objective, batch, config.batch_size, factors
                    )
                if needs_norms:
                    norms.append(losses.gradient_norms())
                if measured:
                    region.append((losses.region_cosine, losses.region_count))
                    scene.append((losses.scene_cosine, losses.scene_count))
                # DDP averages over processes; each loss is a share of the whole batch's
                self.accelerator.backward(losses.total * ranks.count)
            losses_of_each.append({"loss": losses.total.detach(), **losses.parts()})
        values = _summed(losses_of_each, ranks)
        if needs_norms:
            # the micro-batches' gradients are parts of one long vector
            squares = [{key: norm**2 for key, norm in of_one.items()} for of_one in norms]
            whole = {key: total.sqrt() for key, total in _summed(squares, ranks).items()}
            if balance and balance.measures(step):
                balance.update(
                    {key.removeprefix("grad_norm_"): norm.item() for key, norm in whole.items()}
                )
        if measured:
            values |= whole
            values |= {f"balance_{key}": torch.tensor(one) for key, one in factors.items()}
            values |= {"cos_region": _mean(region, ranks), "cos_scene": _mean(scene, ranks)}
        return values


def _summed(of_each: Sequence[Mapping[str, Tensor]], ranks: Ranks) -> dict[str, Tensor]:
    """Sum scalars by name, over micro-batches and processes."""
    rows = torch.stack([torch.stack([value.float() for value in one.values()]) for one in of_each])
    return dict(zip(of_each[0], ranks.all_reduce(rows.sum(dim=0)), strict=True))


def _mean(parts: Sequence[tuple[Tensor, int]], ranks: Ranks) -> Tensor:
    """Average means, each over so many samples, over all processes; NaN where there are none."""
    device = parts[0][0].device
    sums = [mean.float() * count for mean, count in parts if count]
    total = torch.stack(sums).sum() if sums else torch.zeros((), device=device)
    count = torch.tensor(float(sum(count for _, count in parts)), device=device)
    total, count = ranks.all_reduce(torch.stack([total, count]))
    return total / count


def micro_batches(whole: range, count: int) -> list[range]:
    """Split a range into at most `count` ranges of nearly the same length."""
    size = -(-len(whole) // count)
    return [whole[start : start + size] for start in range(0, len(whole), size)]


def judge_batch(
    unet: torch.nn.Module,
    objective: RegionInContextObjective,
    batch: Batch,
    batch_size: int,
    factors: Mapping[str, float] | None = None,
) -> Losses:
    """Noise a batch, run the UNet, and return Eq. 10 as this batch's share of `batch_size`."""
    device = batch.clean.device
    timesteps = batch.timesteps.to(device, non_blocking=True)
    alpha_bar_t = objective.alphas_cumprod.to(device)[timesteps]
    noisy = add_noise(batch.clean, batch.noise, alpha_bar_t)
    prediction = predict_noise(unet, noisy, timesteps, batch.instructions, batch.source)
    asked = NoisedBatch(
        noisy,
        batch.clean,
        batch.noise,
        batch.timesteps,
        batch.boxes,
        batch.region_aims,
        batch.scene_aims,
        batch.kept_region,
        batch.kept_scene,
        batch.region_ceilings,
        batch.scene_ceilings,
        batch.shifts,
        batch.pixel_seeds,
    )
    return objective(prediction, asked, batch_size, factors)
