"""Muon for matrices and convolutions, AdamW for the rest: `ric tiny --optimizer muon`.

Muon (Jordan et al. 2024) replaces a matrix's momentum by the nearest matrix whose singular values
are all equal. `torch.optim.Muon` takes only two-dimensional weights, so a convolution's are passed
as (out, in x height x width), a view of the same memory. Its updates are scaled to the size of
AdamW's, so both share one learning rate. Embeddings (that of t, too), biases, norms and the first
and last convolution stay with AdamW, as Muon's authors advise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from ric.runs.checkpoints import optimizer_tensors, restore_optimizer
from ric.training.optimizer import MOST_IN_A_ROW, GuardedAdamW

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ric.runs.checkpoints import Tensors

BY_ADAMW = ("embedding", "conv_in", "conv_out")  # parts of the names of weights AdamW updates


class GuardedMuon:
    """Muon and AdamW with clipping; both skip a step whose loss or gradient is not finite.

    The host decides whether to skip, so each step on a GPU synchronises with it.

    Args:
        named: The trained weights by name; all on one device, each contiguous or channels_last.
        lr: Learning rate of both.
        weight_decay: Decoupled weight decay of both.
        max_grad_norm: All gradients together are scaled down to this norm.
    """

    def __init__(
        self,
        named: Mapping[str, nn.Parameter],
        *,
        lr: float,
        weight_decay: float,
        max_grad_norm: float,
    ) -> None:
        """Divide the weights between the two; see the class."""
        self._matrices = {
            name: weight
            for name, weight in named.items()
            if weight.ndim >= 2 and not any(part in name for part in BY_ADAMW)
        }
        self._flat = {
            name: nn.Parameter(flattened(weight.detach()))
            for name, weight in self._matrices.items()
        }
        self._muon = torch.optim.Muon(
            self._flat.values(),
            lr=lr,
            weight_decay=weight_decay,
            adjust_lr_fn="match_rms_adamw",
        )
        others = [weight for name, weight in named.items() if name not in self._matrices]
        self._adamw = GuardedAdamW(others, lr=lr, weight_decay=weight_decay)
        self._all = list(named.values())
        self._max_grad_norm = max_grad_norm

    def set_rate(self, lr: float) -> None:
        """Use another learning rate from the next step on."""
        self._adamw.set_rate(lr)
        for group in self._muon.param_groups:
            group["lr"] = lr

    def step(self, loss: torch.Tensor) -> torch.Tensor:
        """Update the weights from their gradients and clear these.

        Returns:
            The gradients' norm before clipping.
        """
        norm = nn.utils.clip_grad_norm_(self._all, self._max_grad_norm)
        finite = torch.isfinite(norm) & torch.isfinite(loss.detach())
        if finite:
            for name, weight in self._matrices.items():
                self._flat[name].grad = None if weight.grad is None else flattened(weight.grad)
            self._muon.step()
        for name, weight in self._matrices.items():
            weight.grad = self._flat[name].grad = None
        # AdamW skips, and counts, a step whose loss is not finite
        self._adamw.step(torch.where(finite, loss.detach(), torch.nan))
        return norm

    def check(self, steps: int = MOST_IN_A_ROW) -> int:
        """Return the steps skipped so far; see `GuardedAdamW.check`."""
        return self._adamw.check(steps)

    def tensors(self, named: Mapping[str, nn.Parameter]) -> Tensors:
        """Return both optimizers' state for a checkpoint."""
        return self._adamw.tensors(named) | optimizer_tensors(self._flat.items(), self._muon)

    def restore(self, named: Mapping[str, nn.Parameter], tensors: Tensors) -> None:
        """Restore the state that `tensors` returned."""
        momenta = {key: value for key, value in tensors.items() if key.endswith(":momentum_buffer")}
        rest = {key: value for key, value in tensors.items() if key not in momenta}
        others = {name: weight for name, weight in named.items() if name not in self._matrices}
        self._adamw.restore(others, rest)
        restore_optimizer(self._flat.items(), self._muon, momenta)


def flattened(weight: torch.Tensor) -> torch.Tensor:
    """View a weight (out, in, ...) as a matrix (out, the rest), in memory order.

    Muon treats all columns alike, so their order does not matter as long as it stays the same.
    """
    if weight.ndim == 4 and not weight.is_contiguous():
        weight = weight.permute(0, 2, 3, 1)  # channels_last
    return weight.flatten(1)
